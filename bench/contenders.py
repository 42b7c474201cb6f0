"""Who is measured: each the same three kinds of process, started and stopped by the same hand."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from uuid import uuid4

import httpx
import psycopg

from bench.servers import Broker, Postgres
from orchestrator.ids import new_id
from orchestrator.keys import make_key
from orchestrator.processes import wait_until_ready
from orchestrator.store import schema
from orchestrator.store.database import Database
from orchestrator.store.keys import KeyStore

CHECKOUT: Final = Path(__file__).parents[1]
CLOUD_KEY: Final = "bench"
USERNAME: Final = "platform"
PASSWORD: Final = "bench"  # noqa: S105  -- of a simulator that lives for minutes
MERCHANT: Final = "Bench"
TERMINALS: Final = 2000
STOPS_WITHIN_S: Final = 8.0
READY_WITHIN_S: Final = 60.0


def free_port() -> int:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return int(opened.getsockname()[1])


@dataclass(frozen=True)
class Ground:
    """What all contenders of one leg share."""

    postgres: Postgres
    broker: Broker
    cloud_url: str
    port: int  # of the API: the simulator posts its notifications there
    logs: Path
    concurrency: int
    time_scale: float

    @property
    def answer_window_s(self) -> float:
        return 150 / self.time_scale


@dataclass
class Contender:
    """One way to do the work. ``commands`` gives the arguments of each process by its name."""

    name: str
    title: str
    commands: Mapping[str, list[str]]
    environment: Callable[[Ground, str, str], dict[str, str]]
    prepare: Callable[["Contender", Ground], None]
    uses_broker: bool = True
    database: str = ""
    place: str = "memory://"
    api_key: str = CLOUD_KEY
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    ground: Ground | None = None

    def start(self, ground: Ground) -> None:
        """Start every process on an empty broker, and wait until the API answers."""
        self.ground = ground
        if not self.database:
            self.prepare(self, ground)
        if self.uses_broker:
            self.place = ground.broker.place(self.name)
        for name in self.commands:
            self.start_one(name)
            if name == "api":
                wait_until_ready(f"http://127.0.0.1:{ground.port}")
        self._first_payment(ground)

    def _first_payment(self, ground: Ground) -> None:
        """See one payment through, so that every process has started, connected and imported before it is measured."""
        reference = f"first-{self.name}-{uuid4().hex[:12]}"
        terminal = f"V400m-{TERMINALS - 1:09d}"
        body = {"reference": reference, "poi_id": terminal, "amount": {"currency": "EUR", "value": 1050}}
        url = f"http://127.0.0.1:{ground.port}/v1/payments"
        headers = {**self.headers, "Idempotency-Key": reference}
        with httpx.Client(trust_env=False, headers=headers, timeout=READY_WITHIN_S) as client:
            payment = client.post(url, json=body).raise_for_status().json()
            deadline = time.monotonic() + READY_WITHIN_S
            while payment["state"] == "pending":
                if time.monotonic() > deadline:
                    message = f"{self.name}: the first payment had no outcome within {READY_WITHIN_S:.0f} s"
                    raise TimeoutError(message)
                time.sleep(0.05)
                payment = client.get(f"{url}/{payment['id']}").raise_for_status().json()

    def full_environment(self) -> dict[str, str]:
        """The environment of each process; only while started."""
        ground = self.ground
        assert ground is not None
        return {
            "PATH": os.environ.get("PATH", ""),
            "PYTHONUNBUFFERED": "1",
            "HOME": str(ground.logs),
            **self.environment(ground, ground.postgres.url(self.database), self.place),
        }

    def start_one(self, name: str) -> None:
        ground = self.ground
        assert ground is not None
        with (ground.logs / f"{self.name}-{name}.log").open("ab") as log:
            self.running[name] = subprocess.Popen(
                [sys.executable, *self.commands[name]],
                env=self.full_environment(), cwd=CHECKOUT, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    def kill(self, name: str) -> None:
        process = self.running.pop(name)
        process.kill()
        process.wait()

    def stop(self) -> None:
        for process in self.running.values():
            process.send_signal(signal.SIGTERM)
        for process in self.running.values():
            try:
                process.wait(STOPS_WITHIN_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.running.clear()

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.api_key}"}

    def pids(self) -> dict[str, int]:
        return {name: process.pid for name, process in self.running.items()}


# -- ours --------------------------------------------------------------------------------------------------------------


def _our_environment(ground: Ground, database_url: str, broker_url: str) -> dict[str, str]:
    return {
        "COUNTERFOIL_DATABASE_URL": database_url,
        "COUNTERFOIL_BROKER_URL": broker_url,
        "COUNTERFOIL_API_KEY": CLOUD_KEY,
        "COUNTERFOIL_CLOUD_URL": ground.cloud_url,
        "COUNTERFOIL_NOTIFICATION_USERNAME": USERNAME,
        "COUNTERFOIL_NOTIFICATION_PASSWORD": PASSWORD,
        "COUNTERFOIL_WORKER_CONCURRENCY": str(ground.concurrency),
        "COUNTERFOIL_LISTEN": f"127.0.0.1:{ground.port}",
        "COUNTERFOIL_LOG_FORMAT": "json",
        "COUNTERFOIL_TIME_SCALE": f"{ground.time_scale:g}",
    }


def _prepare_ours(contender: Contender, ground: Ground) -> None:
    contender.database = ground.postgres.make("ours")
    url = ground.postgres.url(contender.database)
    schema.upgrade(url)
    database = Database(url, connections=1)
    contender.api_key, digest = make_key()
    KeyStore(database).create(new_id(), digest, MERCHANT, "admin", "bench")
    database.close()
    with psycopg.connect(ground.postgres.plain_url(contender.database)) as connection:
        connection.execute(
            "INSERT INTO terminals (poi_id, merchant_account, transport) "
            "SELECT 'V400m-' || lpad(n::text, 9, '0'), %s, 'async' FROM generate_series(0, %s) AS n",
            (MERCHANT, TERMINALS - 1),
        )


def ours() -> Contender:
    cli = ["-m", "orchestrator.cli"]
    commands = {"api": [*cli, "serve"], "worker": [*cli, "worker"], "beat": [*cli, "beat"]}
    return Contender("ours", "Counterfoil", commands, _our_environment, _prepare_ours)


# -- baselines ---------------------------------------------------------------------------------------------------------


def _baseline_environment(ground: Ground, database_url: str, broker_url: str) -> dict[str, str]:
    return {
        "BENCH_DATABASE_URL": database_url,
        "BENCH_BROKER_URL": broker_url,
        "BENCH_CLOUD_URL": ground.cloud_url,
        "BENCH_API_KEY": CLOUD_KEY,
        "BENCH_NOTIFICATION_USERNAME": USERNAME,
        "BENCH_NOTIFICATION_PASSWORD": PASSWORD,
        "BENCH_PORT": str(ground.port),
        "BENCH_CONCURRENCY": str(ground.concurrency),
        "BENCH_ANSWER_WINDOW_S": str(ground.answer_window_s),
    }


def _prepare_baseline(contender: Contender, ground: Ground) -> None:
    contender.database = ground.postgres.make(contender.name)


def naive() -> Contender:
    worker = ["-m", "celery", "-A", "bench.naive.tasks", "worker", "--loglevel=WARNING"]
    commands = {"api": ["-m", "bench.naive.app"], "worker": [*worker, "--without-gossip", "--without-mingle"]}
    return Contender("naive", "naive Celery", commands, _baseline_environment, _prepare_baseline)


def durable() -> Contender:
    commands = {"api": ["-m", "bench.durable.app"], "worker": ["-m", "bench.durable.worker"]}
    return Contender("dbos", "DBOS", commands, _baseline_environment, _prepare_baseline, uses_broker=False)
