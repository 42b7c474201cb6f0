"""A schema is brought up to date under processes of the release before, and they go on afterwards."""

import secrets
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import psycopg
import pytest
from psycopg import sql
from sqlalchemy import Engine, event

from orchestrator.errors import StoreUnavailable
from orchestrator.processes import wait_until_ready
from orchestrator.store import revisions, schema
from tests.integration.celery_support import Product, product_on, wait_for
from tests.integration.cli_support import Desk
from tests.integration.http_support import free_port
from tests.services import libpq_url

pytestmark = pytest.mark.integration

#: The last revision that knows nothing of refunds; the next one alters `payments`.
BEFORE = "0003"
#: An intake waits behind a migration for its two seconds at most; the rest is for this machine.
INTAKE_WAITS_MAX_S = 2 + 3

#: A payment as a release at that revision writes it.
ACCEPT = """
INSERT INTO payments (id, merchant_account, idempotency_key, fingerprint, reference, poi_id, sale_id, service_id,
    transport, currency, amount_minor, send_by, journal_hash)
VALUES (gen_random_uuid(), 'HarbourBakery', %(key)s, repeat('f', 64), %(key)s, 'V400m-1', 'till', %(key)s,
    'async', 'EUR', 100, now() + interval '1 minute', repeat('0', 64))
"""


class Intake:
    """Accepts payments as a process of the release before does, one after the other."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._end = threading.Event()
        self.accepted = 0
        self.longest_s = 0.0

    def run(self) -> None:
        with psycopg.connect(libpq_url(self._url), autocommit=True) as connection:
            while not self._end.is_set():
                began_s = time.monotonic()
                connection.execute(ACCEPT, {"key": secrets.token_hex(5)})
                self.longest_s = max(self.longest_s, time.monotonic() - began_s)
                self.accepted += 1
                self._end.wait(0.005)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(self.run)
            try:
                yield
            finally:
                self._end.set()
            running.result(INTAKE_WAITS_MAX_S)


def revision(url: str) -> str:
    with psycopg.connect(libpq_url(url)) as connection:
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    assert row
    return str(row[0])


def migration_waits(url: str) -> bool:
    """Whether a migration stands in line for the lock of a table."""
    with psycopg.connect(libpq_url(url)) as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            " AND query ILIKE 'ALTER TABLE payments%'"
        ).fetchone()
    return bool(row and row[0])


@contextmanager
def somebody_reads(url: str) -> Iterator[None]:
    """A report that somebody runs by hand, in a database transaction that stays open."""
    with psycopg.connect(libpq_url(url)) as connection:
        connection.execute("SELECT count(*) FROM payments")
        yield


def test_a_migration_gives_way_to_payments_and_comes_back(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = empty_database_url
    monkeypatch.setattr(schema, "_BETWEEN_ATTEMPTS_S", 0.5)
    schema.upgrade(url, to=BEFORE)
    intake = Intake(url)
    with intake.at_work(), ThreadPoolExecutor(1) as pool:
        with somebody_reads(url):
            upgrading = pool.submit(schema.upgrade, url)
            wait_for(lambda: migration_waits(url), 20)
            wait_for(lambda: not migration_waits(url), 20)
            accepted = intake.accepted
            wait_for(lambda: intake.accepted > accepted, 20)
            assert revision(url) == BEFORE
        assert upgrading.result(60) == revisions.newest()
        accepted = intake.accepted
        wait_for(lambda: intake.accepted > accepted + 10, 20)

    assert intake.longest_s < INTAKE_WAITS_MAX_S
    assert schema.differences(url) is None


def test_a_migration_that_never_gets_its_lock_says_so_and_leaves_everything_as_it_was(empty_database_url: str) -> None:
    url = empty_database_url
    schema.upgrade(url, to=BEFORE)
    with somebody_reads(url), pytest.raises(StoreUnavailable, match=f"stays at revision {BEFORE}"):
        schema.upgrade(url, attempts=1)

    assert revision(url) == BEFORE
    assert schema.upgrade(url) == revisions.newest()


def waits_for_callbacks(url: str) -> bool:
    """Whether a migration reads the table of callbacks, which somebody holds."""
    with psycopg.connect(libpq_url(url)) as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            " AND query LIKE '%FROM tellings%'"
        ).fetchone()
    return bool(row and row[0])


def test_payments_do_not_wait_while_a_migration_reads_what_callbacks_there_are(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = empty_database_url
    monkeypatch.setattr(schema, "_LOCK_TIMEOUT_S", 10)
    schema.upgrade(url, to="0009")
    with ThreadPoolExecutor(1) as pool, psycopg.connect(libpq_url(url)) as slow:
        slow.execute("LOCK TABLE tellings")  # so that reading it takes a while, as where there are millions
        upgrading = pool.submit(schema.upgrade, url, to="0010")
        wait_for(lambda: waits_for_callbacks(url), 20)
        with psycopg.connect(libpq_url(url)) as payment:
            payment.execute("SET lock_timeout = '200ms'")
            payment.execute("LOCK TABLE journal, refund_journal IN ROW EXCLUSIVE MODE")  # as whoever writes a line
        slow.rollback()
        assert upgrading.result(60) == "0010"


LATER = "9999"


def a_later_release_migrates(product: Product) -> None:
    """Add a column to every table, and a table, as a later release's migrations may."""
    tables = [row["name"] for row in product.sql("SELECT tablename AS name FROM pg_tables WHERE schemaname = 'public'")]
    assert "payments" in tables
    assert "commands" in tables
    with psycopg.connect(libpq_url(product.database_url)) as connection:
        for table in set(tables) - {"alembic_version"}:
            add = sql.SQL("ALTER TABLE {} ADD COLUMN later text DEFAULT 'x' NOT NULL")
            connection.execute(add.format(sql.Identifier(table)))
        connection.execute("CREATE TABLE later (id bigint)")
        connection.execute("UPDATE alembic_version SET version_num = %s", (LATER,))


def test_old_processes_go_on_and_may_even_start_after_a_later_release_has_migrated(
    postgres_url: str, redis_broker_url: str, tmp_path: Path
) -> None:
    address = f"127.0.0.1:{free_port()}"
    with product_on(postgres_url, redis_broker_url, tmp_path, {"COUNTERFOIL_LISTEN": address}) as product:
        for name, command in {"api": "serve", "worker": "worker", "beat": "beat"}.items():
            product.processes.start(name, command)
        wait_until_ready(f"http://{address}", 60)
        poi_id = product.terminal()
        product.enqueue(product.submission(poi_id, "before"))
        assert product.outcome("before") == "approved"

        a_later_release_migrates(product)
        product.enqueue(product.submission(poi_id, "after"))
        assert product.outcome("after") == "approved"
        ready = httpx.get(f"http://{address}/readyz", trust_env=False)
        assert (ready.status_code, ready.json()) == (200, {"status": "ok", "schema": LATER})

        assert product.processes.stop("worker") == 0
        product.processes.start("worker again", "worker")
        product.enqueue(product.submission(poi_id, "later"))
        assert product.outcome("later") == "approved"

        assert schema.upgrade(product.database_url) == LATER
        assert schema.differences(product.database_url) is None
        desk = Desk(product.environment, product.processes)
        assert "bring this process up to date too" in desk.told("doctor", "--quick")


def test_a_process_is_not_ready_on_a_schema_that_lacks_something(
    empty_database_url: str, tmp_path: Path, redis_broker_url: str
) -> None:
    schema.upgrade(empty_database_url, to=BEFORE)
    environment = {
        "HOME": str(tmp_path),
        "COUNTERFOIL_DATABASE_URL": empty_database_url,
        "COUNTERFOIL_BROKER_URL": redis_broker_url,
    }
    told = Desk(environment, None).run("list")  # type: ignore[arg-type]
    assert told.returncode == 1
    assert (
        f"schema is at {BEFORE}, this release needs {revisions.newest()}; run `counterfoil db upgrade`" in told.stderr
    )


def test_an_index_whose_making_was_cut_short_is_made_anew(empty_database_url: str) -> None:
    """As a migration leaves it that is killed, or that waits in vain, while it makes one concurrently."""
    schema.upgrade(empty_database_url, to="0008")
    with psycopg.connect(libpq_url(empty_database_url), autocommit=True) as connection:
        connection.execute("CREATE INDEX payments_terminal_newest ON payments (poi_id)")
        connection.execute(
            "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'payments_terminal_newest'::regclass"
        )

        schema.upgrade(empty_database_url)

        row = connection.execute(
            "SELECT indisvalid, pg_get_indexdef(indexrelid) FROM pg_index"
            " WHERE indexrelid = 'payments_terminal_newest'::regclass"
        ).fetchone()
    assert row
    assert row[0]
    assert "(poi_id, number)" in row[1]
    assert schema.differences(empty_database_url) is None


# -- a migration that is cut off ---------------------------------------------------------------------------------------


class CutOff(Exception):
    """The machine went away."""


@contextmanager
def cut_off_before(revision: str) -> Iterator[None]:
    """Everything of this migration is done, and what commits by itself stays; that it was done is not written down."""

    def look(_connection: object, _cursor: object, statement: str, *_more: object) -> None:
        if statement.startswith(f"UPDATE alembic_version SET version_num='{revision}'"):
            raise CutOff

    event.listen(Engine, "before_cursor_execute", look)
    try:
        yield
    finally:
        event.remove(Engine, "before_cursor_execute", look)


def test_a_migration_that_was_cut_off_at_its_very_end_can_be_run_again(empty_database_url: str) -> None:
    url, newest = empty_database_url, int(revisions.newest() or 0)
    schema.upgrade(url, to="0001")
    for number in range(2, newest + 1):
        with cut_off_before(f"{number:04d}"), pytest.raises(CutOff):
            schema.upgrade(url, to=f"{number:04d}")
        assert schema.upgrade(url, to=f"{number:04d}") == f"{number:04d}"
    assert schema.differences(url) is None
