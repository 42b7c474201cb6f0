"""The product as processes on a broker of its own, and somebody else's Celery client beside it."""

import json
import secrets
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
from celery import Celery
from psycopg.rows import dict_row

from orchestrator.processes import Processes
from orchestrator.simulator.process import SimulatorProcess
from orchestrator.store import schema
from orchestrator.store.database import Database
from orchestrator.store.terminals import TerminalStore
from tests.services import fresh_database, libpq_url

MERCHANT = "HarbourBakery"


class Product:
    """Processes of the product, its database, its simulator, and a Celery client with nothing of ours in it."""

    def __init__(
        self,
        database_url: str,
        broker_url: str,
        simulator: SimulatorProcess,
        folder: Path,
        more: Mapping[str, str] | None = None,
    ) -> None:
        self.database_url, self.broker_url, self.simulator = database_url, broker_url, simulator
        self.client = Celery("somebody-elses-backend", broker=broker_url, set_as_current=False)
        self.environment = {
            "COUNTERFOIL_DATABASE_URL": database_url,
            "COUNTERFOIL_BROKER_URL": broker_url,
            "COUNTERFOIL_CLOUD_URL": simulator.url,
            "COUNTERFOIL_API_KEY": "K",
            "COUNTERFOIL_TIME_SCALE": "50",
            "COUNTERFOIL_WORKER_CONCURRENCY": "4",
            "COUNTERFOIL_LOG_FORMAT": "json",
            "HOME": str(folder),
            **(more or {}),
        }
        self.processes = Processes(self.environment, folder / "logs")

    def terminal(self) -> str:
        """Register a terminal that holds its answer back on no connection: /sync, so that no receiver is needed."""
        poi_id = f"V400m-{secrets.randbelow(10**9):09d}"
        database = Database(self.database_url, connections=1)
        try:
            TerminalStore(database).put({"poi_id": poi_id, "merchant_account": MERCHANT, "transport": "sync"})
        finally:
            database.close()
        return poi_id

    def submission(self, poi_id: str, reference: str | None = None, **more: Any) -> dict[str, Any]:
        """A submission as a backend would enqueue it."""
        sale = reference or secrets.token_hex(6)
        amount = {"currency": "EUR", "value": 1099}
        who = {"merchant_account": MERCHANT, "idempotency_key": sale}
        return {"reference": sale, "poi_id": poi_id, "amount": amount, **who, **more}

    def enqueue(self, submission: Any, **options: Any) -> None:
        """Enqueue by name, with nothing of ours installed."""
        self.client.send_task(
            "tasks.payments.submit", kwargs={"submission": submission}, queue="payments", retry=False, **options
        )

    def sql(self, statement: str, *parameters: Any) -> list[dict[str, Any]]:
        """What the database says."""
        with psycopg.connect(libpq_url(self.database_url), autocommit=True, row_factory=dict_row) as connection:
            return connection.execute(statement.encode(), parameters).fetchall()

    def outcome(self, reference: str, within_s: float = 60.0) -> str:
        """The outcome of a payment, once it has one."""
        rows = wait_for(
            lambda: self.sql("SELECT outcome FROM payments WHERE reference = %s AND outcome IS NOT NULL", reference),
            within_s,
        )
        return str(rows[0]["outcome"])

    def log(self, name: str) -> str:
        """What a process has written so far."""
        return (self.processes.logs / f"{name}.log").read_text()

    def lines(self, name: str, action: str) -> list[dict[str, Any]]:
        """The log lines of a process with this action."""
        lines = [json.loads(line) for line in self.log(name).splitlines() if line.startswith("{")]
        return [line for line in lines if line.get("action") == action]


def wait_for(condition: Callable[[], Any], within_s: float = 60.0) -> Any:
    """What the condition gave, once it gave something."""
    end = time.monotonic() + within_s
    while not (found := condition()):
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)
    return found


@contextmanager
def virtual_host(rabbitmq_url: str) -> Iterator[str]:
    """A virtual host of our own on a RabbitMQ that is there, so that nobody else's queues are met."""
    name = f"cf-test-{secrets.token_hex(5)}"
    rabbitmqctl("add_vhost", name)
    try:
        rabbitmqctl("set_permissions", "-p", name, urlsplit(rabbitmq_url).username or "guest", ".*", ".*", ".*")
        yield f"{rabbitmq_url.rstrip('/')}/{name}"
    finally:
        rabbitmqctl("delete_vhost", name)


def rabbitmqctl(*arguments: str) -> str:
    """Run the command; what it printed."""
    command = ["/usr/sbin/rabbitmqctl", "-q", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@contextmanager
def product_on(
    postgres_url: str, broker_url: str, folder: Path, more: Mapping[str, str] | None = None
) -> Iterator[Product]:
    """The product on this broker, with a database and a simulator of its own; nothing of it runs yet.

    ``more`` is added to the environment of its processes.
    """
    arguments = ["--any-terminal", "--api-key", "K", "--time-scale", "50", "--seed", "1"]
    with fresh_database(postgres_url) as url, SimulatorProcess(folder / "ledger", arguments) as simulator:
        schema.upgrade(url)
        product = Product(url, broker_url, simulator, folder, more)
        try:
            with product.processes:
                yield product
        finally:
            product.client.close()
