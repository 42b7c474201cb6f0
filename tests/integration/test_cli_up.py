"""``counterfoil up``: the whole product on a machine without servers, until stopped."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.embedded import locate
from tests.integration.cli_support import ROOT, Desk, wait_for

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(300)]

MERCHANT, TERMINAL = "DemoMerchant", "V400m-324688170"
#: Five processes start on whatever else this machine does.
READY_WITHIN_S = 120


class Up:
    """A running ``counterfoil up`` and what it has printed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "up.log"
        self.api, flower = (f"127.0.0.1:{free_port()}" for _ in range(2))
        self.environment = {
            "PATH": "/usr/bin:/bin",
            "HOME": str(folder),
            "COUNTERFOIL_DATA_DIR": str(folder / "data"),
            "COUNTERFOIL_LISTEN": self.api,
            "COUNTERFOIL_FLOWER_LISTEN": flower,
            "COUNTERFOIL_TIME_SCALE": "50",
        }
        with self.log.open("wb") as log:
            command = [sys.executable, "-m", "orchestrator.cli", "up"]
            self.process = subprocess.Popen(command, env=self.environment, cwd=ROOT, stdout=log, stderr=log)

    def said(self) -> str:
        return self.log.read_text()

    def ready(self) -> None:
        wait_for(lambda: "Pay from another shell" in self.said() or self.process.poll() is not None, READY_WITHIN_S)
        assert self.process.poll() is None, self.said()

    def child(self, name: str) -> int:
        """The process that was started last under this name."""
        return int(re.findall(rf"{name} +started, process (\d+)", self.said())[-1])

    def stop(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.process.wait(60)


@pytest.fixture
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    running = Up(tmp_path_factory.mktemp("up"))
    yield running
    if running.process.poll() is None:
        running.stop(signal.SIGTERM)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_up_takes_payments_restarts_who_dies_and_stops_everything(up: Up) -> None:
    up.ready()
    environment = {name: value for name, value in up.environment.items() if name.startswith(("COUNTERFOIL", "HOME"))}
    desk = Desk(environment, processes=None)  # type: ignore[arg-type]
    pay = ["--merchant", MERCHANT, "--as", "Ann"]
    assert "Charged 10.50 EUR." in desk.told("pay", "order-1", TERMINAL, "10.50", "EUR", *pay)

    key = (up.folder / "data" / "up" / "api-key").read_text().strip()
    assert key not in up.said()
    body = {"reference": "order-2", "poi_id": TERMINAL, "amount": {"currency": "EUR", "value": 1050}}
    headers = {"Authorization": f"Bearer {key}", "Idempotency-Key": "order-2", "Content-Type": "application/json"}
    request = urllib.request.Request(f"http://{up.api}/v1/payments?wait=30", json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310  -- our own URL
        assert json.load(answer)["charged"] is True

    left = (up.folder / "data" / "up" / "environment").read_text()
    as_the_product = dict(re.findall(r"^export (\w+)=(.+)$", left, re.MULTILINE))
    assert not [secret for name, secret in as_the_product.items() if "KEY" in name and secret in up.said()]
    examined = desk.run("doctor", **as_the_product).stdout
    assert "FAIL" not in examined
    assert "ok    credential: the cloud lists the terminals of DemoMerchant" in examined

    died = up.child("worker")
    os.kill(died, signal.SIGKILL)
    wait_for(lambda: "worker       ended with SIGKILL; again in 1 s" in up.said())
    wait_for(lambda: up.child("worker") != died)
    assert "Charged 7.00 EUR." in desk.told("pay", "order-3", TERMINAL, "7", "EUR", *pay)

    # The platform's books agree by webhook, some seconds after the terminal said so.
    wait_for(lambda: json.loads(desk.told("show", "order-3", "--json"))["state"] == "reconciled", within_s=60)

    children = [up.child(name) for name in ("simulator", "api", "worker", "beat", "flower")]
    assert up.stop(signal.SIGTERM) == 0
    assert not [pid for pid in children if alive(pid)]
    assert locate(up.folder / "data") is None
    assert up.said().splitlines()[-2:][0].endswith("servers      stopping")


def test_up_says_which_port_is_taken_before_it_starts_anything(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        environment = {"HOME": str(tmp_path), "COUNTERFOIL_DATA_DIR": str(tmp_path / "data")}
        done = Desk(environment, processes=None).run("up", COUNTERFOIL_LISTEN=address)  # type: ignore[arg-type]
    assert done.returncode == 1
    assert f"{address} is in use by another process; stop it, or set COUNTERFOIL_LISTEN" in done.stderr
    assert not (tmp_path / "data").exists()
