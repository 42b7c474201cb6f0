"""The stage: embedded servers, the product's processes and the simulator, in a folder of their own."""

import secrets
import socket
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from orchestrator.client import Counterfoil as Client
from orchestrator.embedded import EmbeddedServers
from orchestrator.ids import new_id
from orchestrator.keys import make_key
from orchestrator.processes import Processes, wait_until_ready
from orchestrator.simulator.process import SimulatorProcess
from orchestrator.store import schema
from orchestrator.store.database import Database
from orchestrator.store.keys import KeyStore
from orchestrator.store.terminals import TerminalStore

MERCHANT: Final = "DemoShopPOS"
TERMINALS: Final = tuple(f"V400m-3240001{number:02d}" for number in range(1, 9))

#: Makes the 150 s in which the platform ends a payment into 3 s.
TIME_SCALE: Final = 50


class Stage:
    """Everything that runs during the demo."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.servers = EmbeddedServers(folder / "data")
        self.ledger_path = folder / "ledger.jsonl"
        self.url = f"http://127.0.0.1:{_free_port()}"
        self.password = secrets.token_hex(16)
        self._platform_key = secrets.token_hex(16)

    def __enter__(self) -> Self:
        with ExitStack() as running:
            self._bring_up(running)
            self._running = running.pop_all()
        return self

    def _bring_up(self, running: ExitStack) -> None:
        self.servers.start()
        running.callback(self.servers.stop)
        schema.upgrade(self.servers.database_url)
        self.database = Database(self.servers.database_url, connections=2)
        running.callback(self.database.close)
        self.key = self._register()
        self.simulator = self._simulator().start()
        running.callback(self.simulator.stop)
        self.processes = running.enter_context(Processes(self._environment(), self.folder / "logs"))
        for name in ("serve", "worker", "beat"):
            self.processes.start(name, name)
        wait_until_ready(self.url)
        self.client = running.enter_context(Client(self.url, self.key))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._running.close()

    def faults(self, **faults: Any) -> None:
        """Break the fake cloud in some way; no argument heals it."""
        self.simulator.post_faults(**faults)

    def _register(self) -> str:
        key, digest = make_key()
        KeyStore(self.database).create(new_id(), digest, MERCHANT, "admin", "demo")
        for poi_id in TERMINALS:
            TerminalStore(self.database).put({"poi_id": poi_id, "merchant_account": MERCHANT, "transport": "async"})
        return key

    def _simulator(self) -> SimulatorProcess:
        notify = ["--notify", f"{self.url}/notifications/terminal", "--username", "demo", "--password", self.password]
        terminals = [word for poi_id in TERMINALS for word in ("--terminal", poi_id)]
        scale = ["--time-scale", str(TIME_SCALE), "--api-key", self._platform_key, "--seed", "1"]
        return SimulatorProcess(self.ledger_path, [*notify, *terminals, *scale])

    def _environment(self) -> dict[str, str]:
        return {
            "COUNTERFOIL_DATA_DIR": str(self.folder / "data"),
            "COUNTERFOIL_DATABASE_URL": self.servers.database_url,
            "COUNTERFOIL_BROKER_URL": self.servers.broker_url,
            "COUNTERFOIL_API_KEY": self._platform_key,
            "COUNTERFOIL_MERCHANT_ACCOUNT": MERCHANT,
            "COUNTERFOIL_CLOUD_URL": self.simulator.url,
            "COUNTERFOIL_NOTIFICATION_USERNAME": "demo",
            "COUNTERFOIL_NOTIFICATION_PASSWORD": self.password,
            "COUNTERFOIL_TIME_SCALE": str(TIME_SCALE),
            "COUNTERFOIL_LISTEN": self.url.removeprefix("http://"),
            "COUNTERFOIL_LOG_FORMAT": "json",
        }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
