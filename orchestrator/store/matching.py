"""Report lines against payments, as sets: staged in temporary tables of one connection, linked, and compared.

Nothing of a report outlives its run: the tables are gone with the connection, whatever becomes of the process. The same
connection holds the lock that lets one run of a merchant account go at a time.
"""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final
from uuid import UUID

from orchestrator.cards import mask_card_numbers
from orchestrator.model import CHARGED_OUTCOMES
from orchestrator.reports.reading import Line
from orchestrator.store import matching_statements as statements
from orchestrator.store.database import Connection, Database
from orchestrator.store.differences import OPEN_FOUND
from orchestrator.store.rows import Row

#: Report lines that go to the server in one message.
_STAGE_LINES: Final = 2_000

#: Payments and lines that are read at once.
PAGE: Final = 5_000

#: The server lets go of a killed run's lock when its statement has ended; a run that goes on is not waited for.
LOCK_WITHIN_S: Final = 5.0
_LOOK_EVERY_S: Final = 0.2

_TABLES: Final = (
    "lines",
    "words",
    "cancelled",
    "linked",
    "refunds_by_name",
    "work",
    "rest",
    "coverage",
    "ours",
    "absent",
)


class Busy(Exception):
    """Another run of this merchant account is going on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """Whole days, and when they begin and end in the reports' time zone."""

    first_day: date
    last_day: date
    begins_at: datetime
    ends_at: datetime


@contextmanager
def matching(database: Database, merchant_account: str) -> Iterator["Matching"]:
    """Take the merchant account's lock and a connection for one run.

    Raises:
        Busy: another run has the lock.
    """
    values = {"merchant_account": merchant_account}
    with database.connection() as connection:
        give_up_at_s = time.monotonic() + LOCK_WITHIN_S
        while not _locked(connection, values):
            if time.monotonic() > give_up_at_s:
                raise Busy
            time.sleep(_LOOK_EVERY_S)
        try:
            connection.execute(statements.FOR_SETS)
            _drop(connection)
            for statement in statements.CREATE:
                connection.execute(statement)
            charged = [outcome.value for outcome in CHARGED_OUTCOMES]
            yield Matching(connection, {**values, "charged": charged})
        finally:
            if not connection.broken:
                _drop(connection)
                connection.execute(statements.FOR_ROWS)
                connection.execute(statements.UNLOCK, values)


def _locked(connection: Connection, values: Mapping[str, Any]) -> bool:
    row = connection.execute(statements.LOCK, values).fetchone()
    return row is not None and bool(row["taken"])


def _drop(connection: Connection) -> None:
    connection.execute(f"DROP TABLE IF EXISTS {', '.join(f'pg_temp.{name}' for name in _TABLES)}")


@dataclass(frozen=True, slots=True)
class Matching:
    """One run's tables. The methods are its steps, in the order in which they are to be called."""

    connection: Connection
    values: dict[str, Any]

    def stage(self, file: int, lines: Iterable[Line]) -> int:
        """Take the lines of one report; return how many there were."""
        count = 0
        with self.connection.cursor() as cursor, cursor.copy(statements.STAGE) as copy:
            block: list[str] = []
            for line in lines:
                block.append(_spelled(file, line))
                count += 1
                if len(block) == _STAGE_LINES:
                    copy.write("".join(block))
                    block.clear()
            copy.write("".join(block))
        return count

    def days(self) -> tuple[date, date] | None:
        """Return the first and the last day of all that was staged; None when nothing was."""
        row = self._one(statements.DAYS)
        return (row["first_day"], row["last_day"]) if row and row["first_day"] else None

    def begin(self, first_day: date, last_day: date) -> Period:
        """Fix the period: keep the lines that concern it, and find the payments of it."""
        self.values.update(first_day=first_day, last_day=last_day)
        self._run(statements.TRIM)
        row = self._one(statements.BOUNDS) or {}
        period = Period(first_day=first_day, last_day=last_day, **row)
        self._run(statements.COVERAGE)
        self._run(statements.OURS, begins_at=period.begins_at, ends_at=period.ends_at)
        self._run("ANALYZE lines; ANALYZE coverage; ANALYZE ours")
        return period

    def open_payments(self) -> list[UUID]:
        """Read the payments of the period that their terminals can still tell about."""
        return [row["id"] for row in self._all(statements.OPEN_PAYMENTS)]

    def unanswered(self, payment_ids: Sequence[UUID], since: datetime) -> int:
        """Count those of these payments that were asked about and have not answered since."""
        row = self._one(statements.UNANSWERED, ids=list(payment_ids), since=since)
        return int(row["n"]) if row else 0

    def now(self) -> datetime:
        """Read the database's clock."""
        row = self._one("SELECT clock_timestamp() AS at") or {}
        at: datetime = row["at"]
        return at

    def left_webhooks(self) -> list[int]:
        """Read the numbers of stored webhooks that were not recorded, and may be now."""
        return [row["number"] for row in self._all(statements.LEFT_WEBHOOKS)]

    def link(self) -> int:
        """Find the last word of each PSP reference and whose it is; return how many there are to record."""
        for statement in statements.LINK:
            self._run(statement)
        row = self._one("SELECT count(*) AS n FROM work")
        return int(row["n"]) if row else 0

    def words(self) -> Iterator[list[dict[str, Any]]]:
        """Read what the books say of payments, by payment, a page at a time."""
        yield from self._pages(statements.WORDS)

    def rest(self) -> Iterator[list[dict[str, Any]]]:
        """Read the lines that have to be looked at one by one: refunds, what happened later, and charges of a sale."""
        yield from self._pages(statements.REST)

    def silent(self) -> Iterator[list[dict[str, Any]]]:
        """Read payments without a charge of which no covering report knows one."""
        for statement in statements.ABSENT:
            self._run(statement)
        yield from self._pages(statements.SILENT)

    def open_differences(self, names: Sequence[str]) -> int:
        """Open every difference that sets show; return how many were new. ``names`` are those of the files."""
        new = 0
        for found in statements.FOUND:
            new += len(self._all(OPEN_FOUND.format(found=f"({found})"), names=list(names)))
        self._run(statements.CLOSE_FOUND_AGAIN)
        self._run(statements.CLOSE_KNOWN_BY_NAME)
        return new

    def keep_found(self, run_id: UUID) -> None:
        """Keep which differences concern this period, whoever found them."""
        self._run(statements.KEEP_FOUND, run_id=run_id)

    def totals(self) -> list[Row]:
        """Count and sum the payments of the period by currency, state, outcome and what the reports say of them."""
        return list(self._all(statements.TOTALS))

    def others(self) -> list[Row]:
        """Count the lines of types that are not known."""
        return list(self._all(statements.OTHERS))

    def _pages(self, statement: str) -> Iterator[list[dict[str, Any]]]:
        after = 0
        while page := self._all(statement, after=after, limit=PAGE):
            yield page
            after = page[-1]["number"]

    def _run(self, statement: str, **values: Any) -> None:
        self.connection.execute(statement, {**self.values, **values} if "%" in statement else None)

    def _one(self, statement: str, **values: Any) -> dict[str, Any] | None:
        return self.connection.execute(statement, {**self.values, **values}).fetchone()

    def _all(self, statement: str, **values: Any) -> list[dict[str, Any]]:
        return self.connection.execute(statement, {**self.values, **values}).fetchall()


def _spelled(file: int, line: Line) -> str:
    """Spell a line for COPY; a field that is not there is null."""
    online = None if line.terminal is None else not line.terminal
    masked = mask_card_numbers(line.reference)
    fields = (
        file, line.number, line.kind.value, line.record_type, line.entry.value, line.psp_reference, line.reference,
        None if masked == line.reference else masked, line.modification, line.modification_reference, line.day,
        line.offset_minutes, line.at, line.currency, line.minor, online,
    )  # fmt: skip
    return "\t".join(["\\N" if field is None else _escaped(str(field)) for field in fields]) + "\n"


def _escaped(text: str) -> str:
    """Everything else that COPY knows as special cannot be printed, and is gone by now."""
    return text.replace("\\", "\\\\") if "\\" in text else text
