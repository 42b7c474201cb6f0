"""Each service of `docker-compose.yml` run by hand: its command, environment, secrets, health check and stop signal.

No container engine is needed. Only places are other ones: names of containers are this machine, and their folders lie
under one that is thrown away.
"""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from orchestrator.embedded import valkey
from tests.integration.http_support import free_port
from tests.services import fresh_database

pytestmark = [pytest.mark.acceptance, pytest.mark.slow, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
ENTRYPOINT = ["counterfoil"]
RUNNING = ["simulator", "api", "worker", "worker-held", "beat", "flower"]
#: Those whose health check asks them themselves; the others' asks whether the work gets done.
ASKED_THEMSELVES = ["redis", "simulator", "api", "flower"]
TERMINAL, MERCHANT = "V400m-324688170", "DemoMerchant"
#: What somebody who tries the demonstration types before `docker compose --profile demo up`.
SHELL = {"COUNTERFOIL_CLOUD_URL": "http://simulator:8100", "COUNTERFOIL_TIME_SCALE": "50"}
#: Seven processes start on whatever else this machine does.
WELL_WITHIN_S = 120
#: Each look starts a process, which the services have to wait for.
LOOK_EVERY_S = 1.0


def interpolated(text: str, shell: dict[str, str]) -> str:
    """The text as Compose reads it: variables with their defaults, and two dollars for one."""
    filled = re.sub(r"(?<!\$)\$\{(\w+):-([^}]*)\}", lambda found: shell.get(found[1]) or found[2], text)
    assert not re.search(r"(?<!\$)\$[\w{]", filled), f"{text}: a variable without a default"
    return filled.replace("$$", "$")


class Machine:
    """Where everything is on this machine, and what runs."""

    def __init__(self, folder: Path, database_url: str) -> None:
        self.folder = folder
        self.ports = {name: free_port() for name in ("api", "flower", "simulator", "redis")}
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        for name in ("run", "data", "reports", "ledger", "redis", "bin", "logs"):
            (folder / name).mkdir(mode=0o700)
        self._write_secrets(database_url)
        self._write_programs()
        #: Longer ones first, so that none is found inside another.
        self._places = {
            "0.0.0.0:8000": f"127.0.0.1:{self.ports['api']}",
            "127.0.0.1:8000": f"127.0.0.1:{self.ports['api']}",
            "//api:8000": f"//127.0.0.1:{self.ports['api']}",
            "0.0.0.0:5555": f"127.0.0.1:{self.ports['flower']}",
            "127.0.0.1:5555": f"127.0.0.1:{self.ports['flower']}",
            "0.0.0.0:8100": f"127.0.0.1:{self.ports['simulator']}",
            "127.0.0.1:8100": f"127.0.0.1:{self.ports['simulator']}",
            "//simulator:8100": f"//127.0.0.1:{self.ports['simulator']}",
        }
        self._folders = {"/run/secrets": "secrets", "/data": "data", "/reports": "reports", "/ledger/": "ledger/"}

    def _write_secrets(self, database_url: str) -> None:
        """As `make secrets` writes them; only the servers' addresses are this machine's."""
        make = ["make", "-s", "-f", str(ROOT / "Makefile"), "secrets", f"PYTHON={sys.executable}"]
        subprocess.run(make, cwd=self.folder, check=True, capture_output=True)
        secrets = self.folder / "secrets"
        (secrets / "COUNTERFOIL_DATABASE_URL").write_text(database_url)
        broker = secrets / "COUNTERFOIL_BROKER_URL"
        broker.write_text(broker.read_text().replace("@redis:6379", f"@127.0.0.1:{self.ports['redis']}"))

    def _write_programs(self) -> None:
        """The image's `PATH`: the product and Python; and Valkey's programs on a port of their own."""
        port = self.ports["redis"]
        client = shutil.which("valkey-cli") or shutil.which("redis-cli")
        assert client, "the health check of the broker wants valkey-cli or redis-cli"
        programs = {
            "valkey-server": f'exec {valkey.choose(None).path} "$@" --port {port} --bind 127.0.0.1',
            "valkey-cli": f'exec {client} -p {port} "$@"',
            "python": f'exec {sys.executable} "$@"',
            "counterfoil": f'exec {sys.executable} -m orchestrator.cli "$@"',
        }
        for name, line in programs.items():
            program = self.folder / "bin" / name
            program.write_text(f"#!/bin/sh\n{line}\n")
            program.chmod(0o700)

    def here(self, text: str) -> str:
        """The text with this machine's places in it."""
        text = interpolated(text, SHELL)
        for there, here in self._places.items():
            text = text.replace(there, here)
        for there, name in self._folders.items():
            text = re.sub(rf"(?<![\w/.]){re.escape(there)}", f"{self.folder}/{name}", text)
        return text

    def environment(self, name: str) -> dict[str, str]:
        """What the container has, and nothing of this shell's; there is no home."""
        given = {key: self.here(str(value)) for key, value in SERVICES[name].get("environment", {}).items()}
        secrets = {"COUNTERFOIL_SECRETS_DIR": str(self.secrets(name))}
        path = f"{self.folder / 'bin'}:{os.defpath}"
        return given | secrets | {"PATH": path, "HOME": "/nonexistent", "PYTHONPATH": str(ROOT)}

    def secrets(self, name: str) -> Path:
        """The folder that a container sees as `/run/secrets`: its own secrets, and no other's."""
        folder = self.folder / "run" / name
        if not folder.exists():
            folder.mkdir()
            for secret in SERVICES[name]["secrets"]:
                file = interpolated(COMPOSE["secrets"][secret]["file"], {})
                shutil.copy(self.folder / file, folder / secret)
        return folder

    def command(self, name: str) -> list[str]:
        service = SERVICES[name]
        words = service["command"] if name == "redis" else [*service.get("entrypoint", ENTRYPOINT), *service["command"]]
        folder = str(self.secrets(name))
        return [self.here(word).replace(str(self.folder / "secrets"), folder) for word in words]

    def start(self, name: str) -> subprocess.Popen[bytes]:
        """Start it in an empty folder, as the image does."""
        folder = self.folder / "run" / f"{name}.d"
        folder.mkdir()
        command = self.command(name)
        if name == "redis":
            command = [word.replace(str(self.folder / "data"), str(self.folder / "redis")) for word in command]
        with (self.folder / "logs" / name).open("wb") as log:
            process = subprocess.Popen(
                command, env=self.environment(name), cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self.running[name] = process
        return process

    def said(self, name: str) -> str:
        return (self.folder / "logs" / name).read_text()[-4000:]

    def is_well(self, name: str) -> bool:
        """What its health check says, within its own time."""
        check = SERVICES[name]["healthcheck"]
        how, *words = (self.here(word) for word in check["test"])
        command = ["/bin/sh", "-c", *words] if how == "CMD-SHELL" else words
        try:
            done = subprocess.run(
                command,
                env=self.environment(name),
                cwd=self.folder,
                capture_output=True,
                timeout=seconds(check["timeout"]),
                check=False,
            )
        except subprocess.TimeoutExpired:
            return False
        return done.returncode == 0

    def until_well(self, name: str) -> None:
        """Look now and then until its health check is content."""
        end_s = time.monotonic() + WELL_WITHIN_S
        while not self.is_well(name):
            assert self.running[name].poll() is None, self.said(name)
            assert time.monotonic() < end_s, self.said(name)
            time.sleep(LOOK_EVERY_S)

    def stop(self, name: str) -> int:
        """Stop it as its container is stopped; what it ended with."""
        process = self.running.pop(name)
        process.send_signal(getattr(signal, SERVICES[name].get("stop_signal", "SIGTERM")))
        return process.wait(seconds(SERVICES[name]["stop_grace_period"]))

    def counterfoil(self, *arguments: str) -> str:
        """What `docker compose exec api counterfoil …` prints."""
        done = subprocess.run(
            [*ENTRYPOINT, *arguments],
            env=self.environment("api"),
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def end(self) -> None:
        for process in self.running.values():
            process.kill()
            process.wait()


def seconds(text: str) -> float:
    return float(text.removesuffix("s"))


@contextmanager
def machine(folder: Path, postgres_url: str) -> Iterator[Machine]:
    with fresh_database(postgres_url) as database_url, ExitStack() as closing:
        opened = Machine(folder, database_url)
        closing.callback(opened.end)
        yield opened


def pay(here: Machine, key: str, reference: str) -> dict[str, Any]:
    """A payment as a caller takes it; the answer once there is an outcome."""
    answer = httpx.post(
        f"http://127.0.0.1:{here.ports['api']}/v1/payments",
        params={"wait": "30"},
        json={"reference": reference, "poi_id": TERMINAL, "amount": {"currency": "EUR", "value": 1050}},
        headers={"authorization": f"Bearer {key}", "idempotency-key": reference},
        timeout=60,
        trust_env=False,
    )
    assert answer.status_code in {200, 201}, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_the_services_start_take_payments_and_stop_in_time(tmp_path: Path, postgres_url: str) -> None:
    with machine(tmp_path, postgres_url) as here:
        assert not any(here.is_well(name) for name in ASKED_THEMSELVES)
        here.start("redis")
        here.until_well("redis")
        assert here.start("migrate").wait(60) == 0, here.said("migrate")
        del here.running["migrate"]

        for name in RUNNING:
            here.start(name)
        for name in RUNNING:
            here.until_well(name)
        assert {name: process.poll() for name, process in here.running.items()} == dict.fromkeys(["redis", *RUNNING])

        key = here.counterfoil("keys", "create", "--role", "submit").split()[-1]
        here.counterfoil("terminals", "add", TERMINAL)
        assert pay(here, key, "order-1")["outcome"] == "approved"
        here.counterfoil("terminals", "add", TERMINAL, "--transport", "sync")
        assert pay(here, key, "order-2")["outcome"] == "approved"
        ledger = (tmp_path / "ledger" / "ledger.jsonl").read_text()
        assert '"order-1"' in ledger
        assert '"order-2"' in ledger

        ended: dict[str, int] = {}
        began_s = time.monotonic()
        for name in reversed(RUNNING):
            ended[name] = here.stop(name)
        assert ended == dict.fromkeys(reversed(RUNNING), 0), {name: here.said(name) for name in RUNNING}
        assert here.stop("redis") == 0
        assert time.monotonic() - began_s < WELL_WITHIN_S


def test_every_command_of_ours_is_among_those_that_are_run_here() -> None:
    ours = {name for name, service in SERVICES.items() if service["image"].startswith("counterfoil:")}
    assert ours == {*RUNNING, "migrate"}
    words = shlex.split(SERVICES["simulator"]["command"][0])
    assert words[:2] == ["exec", "counterfoil"]
