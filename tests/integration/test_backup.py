"""A copy of the database, and back: what was sent since is not sent again, and what is missing is found."""

import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest

from orchestrator.embedded.postgres import programs
from orchestrator.errors import ConfigurationError, StoreUnavailable
from orchestrator.simulator.process import SimulatorProcess
from orchestrator.simulator.webhooks import OFFICE_TIME
from orchestrator.store import backup, schema
from orchestrator.store.database import Database
from orchestrator.store.terminals import TerminalStore
from tests.integration.celery_support import MERCHANT, Product, wait_for
from tests.integration.cli_support import Desk
from tests.integration.servers import server_url
from tests.services import Embedded, fresh_database, libpq_url

pytestmark = pytest.mark.integration

TOOLS = backup.installed([Path("/usr/bin"), programs()])


@contextmanager
def filled(server: str) -> Iterator[str]:
    """A database with a schema and two terminals, one of them held."""
    with fresh_database(server) as url:
        schema.upgrade(url)
        with psycopg.connect(libpq_url(url)) as connection:
            connection.execute(
                "INSERT INTO terminals (poi_id, merchant_account, transport, held_at, held_by, hold_reason) VALUES"
                " ('V400m-1', 'HarbourBakery', 'async', NULL, NULL, NULL),"
                " ('V400m-2', 'HarbourBakery', 'async', now(), 'Ann', 'broken')"
            )
        yield url


@pytest.fixture(scope="module")
def full(postgres_url: str) -> Iterator[str]:
    with filled(postgres_url) as url:
        yield url


@pytest.fixture
def empty(empty_database_url: str) -> str:
    return empty_database_url


def held(url: str) -> dict[str, tuple[str, str]]:
    with psycopg.connect(libpq_url(url)) as connection:
        rows = connection.execute("SELECT poi_id, held_by, hold_reason FROM terminals").fetchall()
    return {row[0]: (row[1], row[2]) for row in rows}


def tag_keys(url: str) -> list[Any]:
    with psycopg.connect(libpq_url(url)) as connection:
        return connection.execute("SELECT key FROM tag_keys").fetchall()


def tables(url: str) -> int:
    with psycopg.connect(libpq_url(url)) as connection:
        row = connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone()
    assert row
    return int(row[0])


@pytest.mark.parametrize("which", ["service", "embedded"])
def test_a_copy_comes_back_whole_with_every_terminal_held(which: str, embedded: Embedded, tmp_path: Path) -> None:
    """On the oldest and on the newest release of PostgreSQL."""
    server, file = server_url(which, embedded), tmp_path / "copy"
    with filled(server) as full, fresh_database(server) as empty:
        backup.back_up(full, file, TOOLS)
        assert file.stat().st_mode & 0o777 == 0o600
        assert [path.name for path in tmp_path.iterdir()] == ["copy"]

        backup.restore(empty, file, TOOLS)
        assert schema.differences(empty) is None
        assert held(empty) == {"V400m-1": (backup.HELD_BY, backup.HELD_BECAUSE), "V400m-2": ("Ann", "broken")}
        assert tag_keys(empty) == tag_keys(full) != []


def test_half_a_copy_restores_nothing(full: str, empty: str, tmp_path: Path) -> None:
    file = tmp_path / "copy"
    backup.back_up(full, file, TOOLS)
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) * 9 // 10])
    with pytest.raises((ConfigurationError, StoreUnavailable), match="nothing was restored"):
        backup.restore(empty, file, TOOLS)
    assert tables(empty) == 0
    file.write_text("no copy")
    with pytest.raises(ConfigurationError, match="is no copy"):
        backup.restore(empty, file, TOOLS)
    assert tables(empty) == 0


def test_nothing_is_overwritten_and_nobody_may_be_at_work(full: str, empty: str, tmp_path: Path) -> None:
    file = tmp_path / "copy"
    backup.back_up(full, file, TOOLS)
    with pytest.raises(ConfigurationError, match="there already"):
        backup.back_up(full, file, TOOLS)
    with pytest.raises(ConfigurationError, match="not empty"):
        backup.restore(full, file, TOOLS)
    with psycopg.connect(libpq_url(empty)), pytest.raises(ConfigurationError, match="1 others are connected"):
        backup.restore(empty, file, TOOLS)
    with pytest.raises(ConfigurationError, match="nothing to copy"):
        backup.back_up(empty, tmp_path / "other", TOOLS)
    with pytest.raises(ConfigurationError, match="is no file"):
        backup.restore(empty, tmp_path / "other", TOOLS)


def test_programs_older_than_the_server_are_refused(full: str, tmp_path: Path) -> None:
    old = [backup.Programs(each.folder, 14) for each in TOOLS]
    with pytest.raises(ConfigurationError, match="or newer are needed"):
        backup.back_up(full, tmp_path / "copy", old)
    assert list(tmp_path.iterdir()) == []


def test_the_password_is_on_no_command_line(full: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    run = subprocess.run
    monkeypatch.setattr(subprocess, "run", lambda command, **more: seen.append(command) or run(command, **more))
    address = full.replace("postgres@", "postgres:hidden@").replace("counterfoil@", "counterfoil:hidden@")
    assert "hidden" in address
    backup.back_up(address, tmp_path / "copy", TOOLS)
    assert any("pg_dump" in str(command) for command in seen)
    assert "hidden" not in str(seen)


def test_the_embedded_database_is_copied_and_restored_without_being_started_by_hand(
    full: str, empty: str, tmp_path: Path
) -> None:
    """A copy of one release's goes to the other's, and back."""
    home = {"HOME": str(tmp_path), "COUNTERFOIL_DATA_DIR": str(tmp_path / "data")}
    desk = Desk(home, None)  # type: ignore[arg-type]
    backup.back_up(full, tmp_path / "first", TOOLS)
    assert "every terminal is held" in desk.told("db", "restore", str(tmp_path / "first"))
    assert "second" in desk.told("db", "backup", str(tmp_path / "second"))
    backup.restore(empty, tmp_path / "second", TOOLS)
    assert schema.differences(empty) is None
    assert held(empty)["V400m-1"] == (backup.HELD_BY, backup.HELD_BECAUSE)


# -- after a disaster --------------------------------------------------------------------------------------------------


class Place(Product):
    """The product on one database; the simulator outlives it."""

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return Desk(self.environment, self.processes).run(*arguments)

    def told(self, *arguments: str) -> str:
        return Desk(self.environment, self.processes).told(*arguments)

    def open(self) -> None:
        self.processes.start("worker", "worker")
        self.processes.start("beat", "beat")

    def pay(self, poi_id: str, reference: str) -> None:
        self.enqueue(self.submission(poi_id, reference, send_by_s=600))

    def payment(self, reference: str) -> dict[str, Any]:
        (found,) = self.sql("SELECT * FROM payments WHERE reference = %s", reference)
        return found

    def hold(self, poi_id: str) -> None:
        with closing(Database(self.database_url, connections=1)) as database:
            assert TerminalStore(database).hold(poi_id, "Ann", "the till is closed")

    def release(self, *poi_ids: str) -> None:
        with closing(Database(self.database_url, connections=1)) as database:
            for poi_id in poi_ids:
                TerminalStore(database).release(poi_id)


@contextmanager
def place(folder: Path, simulator: SimulatorProcess, broker_url: str, database_url: str) -> Iterator[Place]:
    opened = Place(database_url, broker_url, simulator, folder)
    try:
        with opened.processes:
            yield opened
    finally:
        opened.client.close()


@pytest.fixture
def simulator(tmp_path: Path) -> Iterator[SimulatorProcess]:
    arguments = ["--any-terminal", "--api-key", "K", "--time-scale", "50", "--seed", "1", "--merchant", MERCHANT]
    with SimulatorProcess(tmp_path / "ledger", [*arguments, "--reports-dir", str(tmp_path / "reports")]) as running:
        yield running


def asked_for(simulator: SimulatorProcess) -> dict[str, int]:
    """How often each sale was asked for."""
    sales = [line["reference"] for line in simulator.ledger("request") if "reference" in line]  # no status checks
    return {sale: sales.count(sale) for sale in sales}


def reports(simulator: SimulatorProcess, folder: Path) -> list[str]:
    """The platform's reports of today."""
    [first, *_] = simulator.ledger("request")
    day = datetime.fromisoformat(first["at"]).astimezone(OFFICE_TIME).date()
    simulator.write_reports(day)
    return [
        word
        for path in sorted((folder / "reports").iterdir())
        if ".csv" in path.name
        for word in ("--report", str(path))
    ]


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_after_a_restore_nothing_is_sent_twice_and_the_books_find_what_was_lost(
    postgres_url: str, redis_broker_url: str, simulator: SimulatorProcess, tmp_path: Path
) -> None:
    file = tmp_path / "copy"
    with fresh_database(postgres_url) as url, place(tmp_path, simulator, redis_broker_url, url) as before:
        schema.upgrade(url)
        before.open()
        till, other = before.terminal(), before.terminal()
        before.pay(till, "concluded")
        assert before.outcome("concluded") == "approved"
        before.hold(other)
        before.pay(other, "waiting")
        wait_for(lambda: before.sql("SELECT 1 FROM payments WHERE reference = 'waiting'"))
        before.told("db", "backup", str(file))

        before.release(other)
        assert before.outcome("waiting") == "approved"
        before.pay(till, "taken since")
        assert before.outcome("taken since") == "approved"

    with fresh_database(postgres_url) as url, place(tmp_path, simulator, redis_broker_url, url) as after:
        assert "every terminal is held" in after.told("db", "restore", str(file))
        after.told("journal", "verify", "--all")
        assert after.payment("concluded")["outcome"] == "approved"
        assert after.payment("waiting")["sent_at"] is None

        after.open()
        after.pay(after.terminal(), "afterwards")
        assert after.outcome("afterwards") == "approved"  # so somebody is at work
        assert asked_for(simulator) == {"concluded": 1, "waiting": 1, "taken since": 1, "afterwards": 1}

        ran = after.command("reconcile", "run", "--merchant", MERCHANT, "--no-ask", *reports(simulator, tmp_path))
        assert ran.returncode == 30
        assert after.sql("SELECT kind, reference FROM differences") == [{"kind": "orphan", "reference": "taken since"}]
        waiting = after.payment("waiting")
        assert (waiting["state"], waiting["outcome"]) == ("reconciled", "approved")
        alarms = after.sql("SELECT name FROM alarms WHERE payment_id = %s", waiting["id"])
        # The one when the books come first, the other when its time to be sent does.
        assert {alarm["name"] for alarm in alarms} & {"booked_before_send", "late_approval"}

        after.release(till, other)
        after.pay(other, "the next one")
        assert after.outcome("the next one") == "approved"
        assert asked_for(simulator)["waiting"] == 1
