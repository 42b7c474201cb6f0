"""The servers that all contenders share, and what those servers count.

Without URLs a PostgreSQL and a Redis (or Valkey) of our own are brought up from packages, so that what they count is
this run's alone. Each contender has its own database, Redis database or virtual host.
"""

import os
import secrets
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import quote, urlsplit

import psycopg
import redis
from kombu import Connection
from sqlalchemy import make_url

from orchestrator.embedded import EmbeddedServers

TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def cpu_s(pid: int, *, reaped: bool = False) -> float:
    """CPU seconds, user and system, of one process; with those of the children that it outlived, where asked."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0.0
    values = text.rpartition(")")[2].split()
    return sum(int(value) for value in values[11 : 15 if reaped else 13]) / TICKS_PER_S


def children(pid: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, IndexError):
            if int(path.read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(path.parent.name))
    return found


def rss_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def threads(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


# -- PostgreSQL --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Transactions:
    """Counts of one server (``writing``: took a transaction id) and of one database (``all``)."""

    writing: int
    all: int


class Postgres:
    """One server, on which databases are made and dropped."""

    def __init__(self, url: str) -> None:
        self._url = make_url(url)
        self._admin = psycopg.connect(self.plain_url(None), autocommit=True)
        self.version = self._one("SHOW server_version")
        self._postmaster = self._find_postmaster()
        self._made: list[str] = []

    def url(self, database: str) -> str:
        """SQLAlchemy's URL."""
        return self._url.set(database=database).render_as_string(hide_password=False)

    def plain_url(self, database: str | None) -> str:
        """libpq's URL, keywords in the query."""
        url = self._url if database is None else self._url.set(database=database)
        return url.set(drivername="postgresql").render_as_string(hide_password=False)

    def make(self, label: str) -> str:
        """A new database with a name that nobody has."""
        name = f"counterfoil_bench_{label}_{secrets.token_hex(4)}"
        self._admin.execute(f'CREATE DATABASE "{name}"')
        self._made.append(name)
        return name

    def close(self) -> None:
        for name in self._made:
            self._admin.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        self._admin.close()

    def transactions(self, database: str) -> Transactions:
        writing = self._one("SELECT pg_snapshot_xmax(pg_current_snapshot())::text")
        every = self._one("SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = %s", database)
        return Transactions(int(writing), int(every))

    def cpu_s(self, except_pid: int = 0) -> float | None:
        """CPU seconds of the server's processes, those that ended included; None when they are on another machine."""
        if not self._postmaster:
            return None
        ours = {except_pid, self._admin.info.backend_pid}
        living = sum(cpu_s(pid) for pid in children(self._postmaster) if pid not in ours)
        return living + cpu_s(self._postmaster, reaped=True)

    def _find_postmaster(self) -> int:
        backend = self._admin.info.backend_pid
        try:
            return int(Path(f"/proc/{backend}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            return 0

    def _one(self, statement: str, *parameters: object) -> str:
        row = self._admin.execute(statement, parameters).fetchone()
        return str(row[0]) if row else ""


# -- brokers -----------------------------------------------------------------------------------------------------------


class Broker(Protocol):
    """A broker with a place of its own for each contender."""

    name: str
    version: str

    def place(self, label: str) -> str:
        """The URL of an empty place for this contender."""

    def task_messages(self) -> int:
        """Task messages that the server took in since it started."""

    def cpu_s(self) -> float | None:
        """CPU seconds of the server; None when it is on another machine."""

    def close(self) -> None:
        """Give the places back."""


class RedisBroker:
    """Redis or Valkey; a place is a numbered database."""

    name = "Redis"

    def __init__(self, url: str) -> None:
        self._url = url
        self._client = self._connect(0)
        server = self._client.info("server")
        self.version = str(server.get("valkey_version") or server["redis_version"])
        self._pid = int(server["process_id"]) if _is_local(url) else 0
        self._places: dict[str, int] = {}

    def _connect(self, number: int) -> redis.Redis:
        if self._url.startswith("redis+socket://"):
            return redis.Redis(unix_socket_path=self._url.removeprefix("redis+socket://").partition("?")[0], db=number)
        return redis.Redis.from_url(self._url.rpartition("/")[0] + f"/{number}")

    def place(self, label: str) -> str:
        number = self._places.setdefault(label, len(self._places) + 1)
        self._connect(number).flushdb()
        if self._url.startswith("redis+socket://"):
            return f"{self._url.partition('?')[0]}?virtual_host={number}"
        return self._url.rpartition("/")[0] + f"/{number}"

    def task_messages(self) -> int:
        """Kombu puts each task message into a list by one LPUSH; events and control messages are PUBLISHed."""
        stats = self._client.info("commandstats")
        return sum(int(stats.get(f"cmdstat_{name}", {}).get("calls", 0)) for name in ("lpush", "rpush"))

    def cpu_s(self) -> float | None:
        return cpu_s(self._pid, reaped=True) if self._pid else None

    def close(self) -> None:
        for label in list(self._places):
            self.place(label)


class RabbitBroker:
    """RabbitMQ; a place is a virtual host. Needs ``rabbitmqctl``, on the server's machine."""

    name = "RabbitMQ"

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._front = f"amqp://{parts.netloc}/"
        self._user = parts.username or "guest"
        self.version = self._control("version").strip()
        pid = self._control("eval", "os:getpid().").strip().strip('"')
        self._pid = int(pid) if pid.isdigit() and _is_local(url) else 0
        self._made: set[str] = set()
        self._run = secrets.token_hex(4)

    def place(self, label: str) -> str:
        name = f"counterfoil_bench_{label}_{self._run}"
        if name in self._made:
            self._control("delete_vhost", name)
        self._control("add_vhost", name)
        self._control("set_permissions", "--vhost", name, self._user, ".*", ".*", ".*")
        self._made.add(name)
        return self._front + quote(name, safe="")

    def task_messages(self) -> int:
        """Messages routed to a queue: worker events find none while no monitor listens."""
        program = "{_, C} = lists:keyfind([{protocol, amqp091}], 1, maps:to_list(rabbit_global_counters:overview()))"
        return int(self._control("eval", program + ", maps:get(messages_routed_total, C)."))

    def cpu_s(self) -> float | None:
        return cpu_s(self._pid, reaped=True) if self._pid else None

    def close(self) -> None:
        for name in self._made:
            self._control("delete_vhost", name)

    @staticmethod
    def _control(*arguments: str) -> str:
        done = subprocess.run(
            ["rabbitmqctl", "--quiet", *arguments], check=True, capture_output=True, text=True, timeout=60
        )
        return done.stdout


def _is_local(url: str) -> bool:
    return url.startswith("redis+socket://") or (urlsplit(url).hostname or "") in {"127.0.0.1", "localhost", "::1"}


def rabbit_trouble(url: str) -> str | None:
    """Why RabbitMQ cannot be measured, None when it can."""
    try:
        with Connection(url, connect_timeout=3) as connection:
            connection.ensure_connection(max_retries=1, interval_start=0, timeout=3)
        RabbitBroker(url)
    except (OSError, subprocess.SubprocessError, ValueError) as trouble:
        return f"{type(trouble).__name__}: {trouble}"
    except Exception as trouble:  # noqa: BLE001  -- kombu raises what its drivers raise
        return type(trouble).__name__
    return None


@contextmanager
def servers(database_url: str | None, redis_url: str | None, folder: Path) -> Iterator[tuple[Postgres, RedisBroker]]:
    """The servers that were named, or ours for the time of this run."""
    embedded = None if database_url and redis_url else EmbeddedServers(folder)
    if embedded is not None:
        embedded.start()
        database_url = database_url or embedded.database_url
        redis_url = redis_url or embedded.broker_url
    assert database_url is not None
    assert redis_url is not None
    postgres, broker = Postgres(database_url), RedisBroker(redis_url)
    try:
        yield postgres, broker
    finally:
        broker.close()
        postgres.close()
        if embedded is not None:
            embedded.stop()
