"""The command line as an operator runs it, beside a worker and a beat on servers of their own."""

import json
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from orchestrator.processes import Processes
from orchestrator.simulator.process import SimulatorProcess
from tests.services import fresh_database

ROOT = Path(__file__).parents[2]
MERCHANT = "HarbourBakery"
#: A command ends in a second; the longest one here waits for an answer window of three.
COMMAND_WITHIN_S = 60


class Desk:
    """Runs commands; knows where everything is."""

    def __init__(self, environment: dict[str, str], processes: Processes) -> None:
        self.environment = environment
        self.processes = processes

    def run(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        """Run ``counterfoil …`` to its end."""
        return subprocess.run(
            [sys.executable, "-m", "orchestrator.cli", *arguments],
            env={"PATH": "/usr/bin:/bin", **self.environment, **more},
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=COMMAND_WITHIN_S,
            check=False,
        )

    def told(self, *arguments: str) -> str:
        """What a command that succeeds prints."""
        done = self.run(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def json(self, *arguments: str) -> Any:
        """What a command prints with ``--json``."""
        return json.loads(self.told(*arguments, "--json"))

    def terminal(self) -> str:
        """Register a terminal; it answers on the connection, so that nobody has to receive notifications."""
        poi_id = f"V400m-{secrets.randbelow(10**9):09d}"
        self.told("terminals", "add", poi_id, "--merchant", MERCHANT, "--transport", "sync")
        return poi_id

    def pay(self, poi_id: str, reference: str, *more: str, amount: str = "10.50") -> subprocess.CompletedProcess[str]:
        """Take a payment as a clerk would."""
        return self.run("pay", reference, poi_id, amount, "EUR", "--merchant", MERCHANT, "--as", "Ann", *more)


@contextmanager
def desk_on(postgres_url: str, broker_url: str, folder: Path) -> Iterator[Desk]:
    """A desk with a database of its own and a simulator; nothing of the product runs yet."""
    arguments = ["--any-terminal", "--api-key", "K", "--time-scale", "50", "--seed", "1"]
    with fresh_database(postgres_url) as url, SimulatorProcess(folder / "ledger", arguments) as simulator:
        environment = {
            "COUNTERFOIL_DATABASE_URL": url,
            "COUNTERFOIL_BROKER_URL": broker_url,
            "COUNTERFOIL_CLOUD_URL": simulator.url,
            "COUNTERFOIL_API_KEY": "K",
            "COUNTERFOIL_TIME_SCALE": "50",
            "COUNTERFOIL_RECEIPTS": "true",
            "COUNTERFOIL_WORKER_CONCURRENCY": "4",
            "HOME": str(folder),
        }
        with Processes(environment, folder / "logs") as processes:
            desk = Desk(environment, processes)
            desk.told("db", "upgrade")
            yield desk


def wait_for(condition: Callable[[], Any], within_s: float = 30.0) -> Any:
    """What the condition gave, once it gave something."""
    end = time.monotonic() + within_s
    while not (found := condition()):
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)
    return found
