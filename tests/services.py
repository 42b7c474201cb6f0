"""The real servers that tests talk to: found on the machine, or brought up from packages.

Each is looked for under its own environment variable, else at its standard place on this machine:

    COUNTERFOIL_TEST_POSTGRES   a URL, or `embedded` (from packages, whatever else is running)
    COUNTERFOIL_TEST_REDIS      a URL, or `embedded`
    COUNTERFOIL_TEST_RABBITMQ   a URL, or `none` (tests that need it are skipped)

With CI=true nothing is made up for: a server that is missing there is a failure, never a skip and never a stand-in.
"""

import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
import redis
from kombu import Connection
from kombu.exceptions import OperationalError
from psycopg import sql
from sqlalchemy.engine import make_url

if TYPE_CHECKING:
    from orchestrator.embedded import EmbeddedServers

# A server on this machine answers in milliseconds; five seconds cover one that is just starting.
ANSWER_WITHIN_S = 5

# Redis's own default number of databases (redis.conf, `databases 16`); number 0 is left to whoever lives there.
REDIS_DATABASES = range(1, 16)
REDIS_LEASE_KEY = "counterfoil-test-lease"
REDIS_LEASE_S = 3600  # longer than any run; an older lease is one of a run that was cut off


def in_ci() -> bool:
    return os.environ.get("CI", "").lower() in {"1", "true", "yes"}


def named_servers() -> dict[str, str]:
    """What the environment names, taken out of it: the product that a test starts must not find names not its own."""
    return {
        server: os.environ.pop(f"COUNTERFOIL_TEST_{server}", "").strip() for server in ("POSTGRES", "REDIS", "RABBITMQ")
    }


NAMED = named_servers()


def default_postgres_url() -> str:
    user, host = os.environ.get("PGUSER", "postgres"), os.environ.get("PGHOST", "127.0.0.1")
    return f"postgresql+psycopg://{user}@{host}:{os.environ.get('PGPORT', '5432')}/postgres"


def postgres_trouble(url: str) -> str | None:
    """Why this PostgreSQL cannot be used, or None when a database can be made in it."""
    try:
        with psycopg.connect(libpq_url(url), connect_timeout=ANSWER_WITHIN_S) as connection:
            row = connection.execute(
                "SELECT rolcreatedb OR rolsuper FROM pg_roles WHERE rolname = current_user"
            ).fetchone()
    except psycopg.Error as trouble:
        return str(trouble).strip()
    return None if row and row[0] else "its user may not create databases"


def broker_trouble(url: str) -> str | None:
    """Why this Redis or RabbitMQ cannot be used, or None when it speaks its protocol with us."""
    try:
        with Connection(url, connect_timeout=ANSWER_WITHIN_S) as connection:
            connection.ensure_connection(max_retries=1, interval_start=0, timeout=ANSWER_WITHIN_S)
    except (OperationalError, OSError, redis.RedisError) as trouble:
        return str(trouble).strip() or type(trouble).__name__
    return None


class Embedded:
    """PostgreSQL and Redis from packages: started when the first test asks, stopped when the session ends."""

    def __init__(self) -> None:
        self._servers: EmbeddedServers | None = None
        self._folder: Path | None = None

    def servers(self) -> "EmbeddedServers":
        if self._servers is None:
            from orchestrator.embedded import EmbeddedServers

            # A short path: the name of a Unix socket ends at 107 bytes.
            self._folder = Path(tempfile.mkdtemp(prefix="cf-"))
            self._servers = EmbeddedServers(self._folder / "data")
            self._servers.start()
        return self._servers

    def stop(self) -> None:
        if self._servers is not None:
            self._servers.stop()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


def find_postgres(embedded: Embedded) -> str:
    if NAMED["POSTGRES"] == "embedded":
        return embedded.servers().database_url
    url = NAMED["POSTGRES"] or default_postgres_url()
    trouble = postgres_trouble(url)
    if trouble is None:
        return url
    refuse_if_wanted("PostgreSQL", "POSTGRES", url, trouble)
    return embedded.servers().database_url


def find_redis(embedded: Embedded) -> str:
    if NAMED["REDIS"] == "embedded":
        return embedded.servers().broker_url
    url = NAMED["REDIS"] or "redis://127.0.0.1:6379/0"
    trouble = broker_trouble(url)
    if trouble is None:
        return url
    refuse_if_wanted("Redis", "REDIS", url, trouble)
    return embedded.servers().broker_url


def find_rabbitmq() -> str:
    url = NAMED["RABBITMQ"] or "amqp://guest:guest@127.0.0.1:5672//"
    trouble = "switched off" if url == "none" else broker_trouble(url)
    if trouble is not None:
        refuse_if_wanted("RabbitMQ", "RABBITMQ", url, trouble)
        pytest.skip(
            f"no RabbitMQ ({trouble}); it comes in no package: start one, or name one in COUNTERFOIL_TEST_RABBITMQ"
        )
    return url


def refuse_if_wanted(server: str, name: str, url: str, trouble: str) -> None:
    """Fail where a stand-in would be a lie: in CI, and for a server that somebody named."""
    if in_ci() or NAMED[name] not in {"", "none"}:
        pytest.fail(f"{server} does not answer at {safe(url)}: {trouble}", pytrace=False)


def safe(url: str) -> str:
    """The URL without its password."""
    head, at, tail = url.rpartition("@")
    return f"{head.partition('://')[0]}://…@{tail}" if at else url


def libpq_url(url: str) -> str:
    """SQLAlchemy's URL as psycopg wants it."""
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


@contextmanager
def fresh_database(postgres_url: str) -> Iterator[str]:
    """A database of one's own, empty; the URL of it as the product takes it (`postgresql+psycopg://…`)."""
    name = f"cf_test_{secrets.token_hex(6)}"
    with psycopg.connect(libpq_url(postgres_url), autocommit=True) as server:
        server.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
    url = make_url(postgres_url).set(drivername="postgresql+psycopg", database=name)
    try:
        yield url.render_as_string(hide_password=False)
    finally:
        with psycopg.connect(libpq_url(postgres_url), autocommit=True) as server:
            server.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


@contextmanager
def fresh_redis(redis_url: str) -> Iterator[str]:
    """A numbered Redis database of one's own, empty; its URL as Celery takes it. Emptied again afterwards."""
    for number in REDIS_DATABASES:
        url = numbered(redis_url, number)
        with redis.Redis.from_url(client_url(url), socket_timeout=ANSWER_WITHIN_S) as client:
            if not leased(client):
                continue
            try:
                yield url
            finally:
                client.flushdb()
            return
    pytest.fail(f"databases 1 to 15 of the Redis at {safe(redis_url)} are all in use; empty one")


def leased(client: redis.Redis) -> bool:
    """Take this database if nobody has it. Data without a lease is somebody else's and stays."""
    lease = client.get(REDIS_LEASE_KEY)
    if lease is not None and float(lease) < time.time() - REDIS_LEASE_S:
        client.flushdb()
    return client.dbsize() == 0 and bool(client.set(REDIS_LEASE_KEY, time.time(), nx=True))


def numbered(redis_url: str, number: int) -> str:
    """The same Redis, another of its databases, in kombu's spelling for TCP and for Unix sockets."""
    address = redis_url.partition("?")[0]
    if address.startswith("redis+socket://"):
        return f"{address}?virtual_host={number}"
    scheme, _, rest = address.partition("://")
    return f"{scheme}://{rest.partition('/')[0]}/{number}"


def client_url(url: str) -> str:
    """Kombu's spelling of a Redis address in redis-py's."""
    return url.replace("redis+socket://", "unix://", 1).replace("?virtual_host=", "?db=", 1)
