"""The product and the simulator as real processes, on servers of their own."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import httpx
import psycopg
import redis

from gauntlet.line import Line
from gauntlet.options import Plan
from gauntlet.servers import (
    PrivatePostgres,
    PrivateRedis,
    free_port,
    libpq,
    rabbitmqctl,
    throw_away_database,
    virtual_host,
)
from orchestrator.ids import new_id
from orchestrator.keys import make_key
from orchestrator.processes import Processes, wait_until_ready
from orchestrator.simulator.process import SimulatorProcess
from orchestrator.store import schema

MERCHANT = "GauntletPOS"
_CLOUD_KEY = "gauntlet-cloud-key"
_NOTIFIER = ("gauntlet", "gauntlet-password")
_SHARED_KEY = ("gauntlet-key", 1, "Gauntlet-Passphrase#1")
_KEY_VARIABLE = "GAUNTLET_TERMINAL_KEY"
_CALL_WITHIN_S = 10.0
_LOOK_EVERY_S = 0.05
_QUEUES = ("payments", "held", "status", "callbacks", "timers", "reconciliation")


class Stack:
    """Everything that a run needs, up between ``__enter__`` and ``__exit__``."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        self.plan, self.folder = plan, folder
        self.terminals = [f"V400m-{324000000 + number}" for number in range(plan.terminals)]
        self.api_key = ""
        self.simulator: SimulatorProcess
        self.postgres: PrivatePostgres | None = None
        self.redis: PrivateRedis | None = None
        self.line: Line | None = None
        self.died: list[str] = []
        self._vhost = ""
        self._commands: dict[str, tuple[Processes, tuple[str, ...]]] = {}
        self._groups: list[Processes] = []
        self._closing = ExitStack()

    def __enter__(self) -> Self:
        try:
            self._bring_up()
        except BaseException:
            self._closing.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    # -- what is there --

    @property
    def names(self) -> list[str]:
        """The product's processes."""
        return list(self._commands)

    @property
    def ledger(self) -> Path:
        """The simulator's ledger file."""
        return self.folder / "ledger.jsonl"

    def client(self) -> httpx.Client:
        """A caller of the first API."""
        headers = {"authorization": f"Bearer {self.api_key}"}
        return httpx.Client(base_url=self.urls[0], headers=headers, trust_env=False, timeout=_CALL_WITHIN_S)

    def wait_until(self, holds: Callable[[], bool], within_s: float = 60.0) -> None:
        """Return once the condition holds; TimeoutError when it does not in time."""
        deadline_s = time.monotonic() + within_s
        while not holds():
            if time.monotonic() > deadline_s:
                raise TimeoutError(f"it did not happen within {within_s:g} s; the logs are in {self.folder}")
            time.sleep(_LOOK_EVERY_S)

    def log(self, name: str) -> str:
        """What a process of the product has logged so far."""
        return (self.folder / "logs" / f"{name}.log").read_text(errors="replace")

    # -- what may be done to it --

    def process(self, name: str) -> subprocess.Popen[bytes]:
        """The process that runs under this name."""
        return self._commands[name][0].running[name]

    def start(self, name: str) -> None:
        """Start a process of the product."""
        group, command = self._commands[name]
        group.start(name, *command)

    def kill(self, name: str) -> None:
        """SIGKILL it; one that had died before by itself is noted, for no fault of ours explains it."""
        process = self.process(name)
        if process.poll() is not None:
            self.died.append(f"{name} ended by itself with status {process.returncode}")
        self._commands[name][0].kill(name)

    def pause(self, name: str, seconds: float) -> None:
        """SIGSTOP, and SIGCONT after some seconds."""
        process = self.process(name)
        process.send_signal(signal.SIGSTOP)
        time.sleep(seconds)
        process.send_signal(signal.SIGCONT)

    def stop_broker(self) -> None:
        """Nobody reaches the broker from now on."""
        if self.redis is not None:
            self.redis.stop()
        elif self.line is not None:
            self.line.cut()

    def start_broker(self) -> None:
        """The broker is back, with what it had."""
        if self.redis is not None:
            self.redis.start()
        elif self.line is not None:
            self.line.mend()

    def queued(self) -> dict[str, int]:
        """Messages that wait in each queue that is not empty; on RabbitMQ with those that a worker holds."""
        if self.redis is not None:
            with redis.Redis.from_url(self.redis.url) as client:
                counts = {name: int(client.llen(name)) for name in _QUEUES}
        else:
            lines = rabbitmqctl("list_queues", "-p", self._vhost, "name", "messages").splitlines()
            pairs = [line.split("\t") for line in lines if "\t" in line]
            counts = {name: int(count) for name, count in pairs if name in _QUEUES}
        return {name: count for name, count in counts.items() if count}

    def unacknowledged(self) -> int:
        """Redis alone: messages that killed workers had taken, which the broker gives out again after ten minutes."""
        if self.redis is None:
            return 0
        with redis.Redis.from_url(self.redis.url) as client:
            return int(client.hlen("unacked"))

    def stop(self, prefix: str) -> None:
        """Ask the processes whose names start so to end."""
        for name in [name for name in self.names if name.startswith(prefix)]:
            group = self._commands[name][0]
            if name in group.running:
                group.stop(name)

    # -- how it comes up --

    def _bring_up(self) -> None:
        self.database_url = self._database()
        self.broker_url = self._broker()
        schema.upgrade(self.database_url)
        ports = [free_port() for _ in range(self.plan.apis)]
        self.urls = [f"http://127.0.0.1:{port}" for port in ports]
        self.simulator = SimulatorProcess(self.ledger, self._simulator_arguments())
        self._closing.enter_context(self.simulator)
        addresses = {poi_id: f"{host}:{port}" for poi_id, (host, port) in self.simulator.terminals().items()}
        self.api_key = register(self.database_url, self.terminals, self.plan.transport, addresses)
        base = self.environment()
        for number, port in enumerate(ports, 1):
            self._add(f"api{number}", base | {"COUNTERFOIL_LISTEN": f"127.0.0.1:{port}"}, "serve")
        holds = self.plan.transport != "async"
        queues = ("--queues", ",".join(name for name in _QUEUES if name != "held")) if holds else ()
        for number in range(1, self.plan.workers + 1):
            self._add(
                f"worker{number}", base, "worker", "--name", f"gauntlet{number}@%h", "--concurrency", "16", *queues
            )
        if holds:
            threads = str(self.plan.held_threads)
            self._add("held1", base, "worker", "--name", "held@%h", "--concurrency", threads, "--queues", "held")
        for number in range(1, self.plan.beats + 1):
            self._add(f"beat{number}", base, "beat")
        for name in self.names:
            self.start(name)
        for url in self.urls:
            wait_until_ready(url)

    def _add(self, name: str, environment: dict[str, str], *command: str) -> None:
        group = Processes(environment, self.folder / "logs")
        self._closing.enter_context(group)
        self._commands[name] = (group, command)

    def _database(self) -> str:
        if self.plan.postgres_url and not self.plan.postgres_restarts:
            return self._closing.enter_context(throw_away_database(self.plan.postgres_url))
        self.postgres = PrivatePostgres()
        self.postgres.start()
        self._closing.callback(self.postgres.stop)
        return self.postgres.url

    def _broker(self) -> str:
        if self.plan.broker == "redis":
            self.redis = PrivateRedis(self.folder)
            self.redis.start()
            self._closing.callback(self.redis.stop)
            return self.redis.url
        self._vhost = self._closing.enter_context(virtual_host(self.plan.rabbitmq_url))
        parts = urlsplit(self.plan.rabbitmq_url)
        self.line = Line(parts.hostname or "127.0.0.1", parts.port or 5672)
        self.line.start()
        self._closing.callback(self.line.stop)
        user = parts.netloc.rpartition("@")[0]
        return f"amqp://{user}@127.0.0.1:{self.line.port}/{self._vhost}"

    def _simulator_arguments(self) -> list[str]:
        plan = self.plan
        options = {
            "--notify": f"{self.urls[0]}/notifications/terminal", "--username": _NOTIFIER[0],
            "--password": _NOTIFIER[1], "--api-key": _CLOUD_KEY, "--time-scale": str(plan.time_scale),
            "--seed": str(plan.seed), "--mix": plan.mix,
        }  # fmt: skip
        if plan.transport == "local":
            key = ":".join(map(str, _SHARED_KEY))
            options |= {"--local-listen": "127.0.0.1:0", "--root-out": str(self._root), "--nexo-key": key}
        terminals = [part for poi_id in self.terminals for part in ("--terminal", poi_id)]
        return [*(part for pair in options.items() for part in pair), *terminals]

    @property
    def _root(self) -> Path:
        return self.folder / "root.pem"

    def environment(self) -> dict[str, str]:
        """What the product's processes are told, but for what is each one's own."""
        return {
            "COUNTERFOIL_DATABASE_URL": self.database_url,
            "COUNTERFOIL_BROKER_URL": self.broker_url,
            "COUNTERFOIL_API_KEY": _CLOUD_KEY,
            "COUNTERFOIL_CLOUD_URL": self.simulator.url,
            "COUNTERFOIL_NOTIFICATION_USERNAME": _NOTIFIER[0],
            "COUNTERFOIL_NOTIFICATION_PASSWORD": _NOTIFIER[1],
            "COUNTERFOIL_TIME_SCALE": f"{self.plan.time_scale:g}",
            "COUNTERFOIL_LOG_FORMAT": "json",
            "HOME": str(self.folder),
            **(self._local_environment() if self.plan.transport == "local" else {}),
        }

    def _local_environment(self) -> dict[str, str]:
        return {"COUNTERFOIL_TERMINAL_ROOTS": str(self._root), _KEY_VARIABLE: _SHARED_KEY[2]}


def register(
    database_url: str, terminals: Sequence[str], transport: str = "async", addresses: Mapping[str, str] | None = None
) -> str:
    """Register terminals for the merchant account; an API key that may do everything there."""
    api_key, digest = make_key()
    key = "INSERT INTO api_keys (id, key_hash, merchant_account, role, created_by) VALUES (%s, %s, %s, %s, %s)"
    terminal = "INSERT INTO terminals (poi_id, merchant_account, transport, address) VALUES (%s, %s, %s, %s)"
    shared = """
        INSERT INTO shared_keys (level, merchant_account, identifier, version, passphrase, created_by)
        VALUES ('merchant', %s, %s, %s, %s, 'gauntlet')
    """
    with psycopg.connect(libpq(database_url)) as connection, connection.cursor() as cursor:
        cursor.execute(key, (new_id(), digest, MERCHANT, "admin", "gauntlet"))
        rows = [(poi_id, MERCHANT, transport, (addresses or {}).get(poi_id)) for poi_id in terminals]
        cursor.executemany(terminal, rows)
        if transport == "local":
            cursor.execute(shared, (MERCHANT, *_SHARED_KEY[:2], f"env:{_KEY_VARIABLE}"))
    return api_key


def versions(stack: Stack) -> dict[str, str]:
    """What the run ran on."""
    with psycopg.connect(libpq(stack.database_url)) as connection:
        row = connection.execute("SHOW server_version").fetchone()
    found = {"python": sys.version.split()[0], "celery": version("celery"), "kombu": version("kombu")}
    found["postgresql"] = str(row[0]) if row else ""
    if stack.redis is not None:
        with redis.Redis.from_url(stack.redis.url) as client:
            found["redis"] = str(client.info("server")["redis_version"])
    else:
        found["rabbitmq"] = rabbitmqctl("version").strip()
    return found
