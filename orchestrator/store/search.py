"""Payments by what people know of them: newest first, a page at a time, and never more rows looked at than a bound.

One condition leads: the most selective one that has an index; the others are held against what it brings. What leads
brings its rows newest first, so that a page costs what a page holds; a condition without an index is held against the
newest payments, at most ``LOOKED_MAX`` of them at a time, and the page says how far it looked and goes on from there.
No statement counts everything, and none skips rows to reach a page.

A time is turned into a number first: numbers rise with ``created_at``, so halving finds the place in some thirty
look-ups, and no index on times has to be written for every payment.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from orchestrator.model import CHARGED_OUTCOMES, State
from orchestrator.search.sought import Search
from orchestrator.store.database import Database
from orchestrator.store.rows import Row

#: The newest payments that one search looks at: a busy shop's day. They lie side by side, and take some 30 ms.
LOOKED_MAX: Final = 10_000
#: Those of one card, one terminal, one state: each lies on a page of its own, and takes as long as ten of the others.
SCATTERED_MAX: Final = 2_000

#: Payments of one name (a PSP reference, a beginning of references) that are sorted; more are found by walking.
_NAMED_MAX: Final = 2_000

#: Numbers are given out as payments are accepted, ``created_at`` is when their database transaction began: one that
#: waited for a lock is out of order by that long. Ten minutes are more than any statement lives.
_DISORDER: Final = timedelta(minutes=10)

_CHARGED: Final = ", ".join(f"'{outcome.value}'" for outcome in sorted(CHARGED_OUTCOMES))

_CONDITIONS: Final[dict[str, str]] = {
    # A refund is found under its payment.
    "payment_id": "p.id IN (%(payment_id)s, (SELECT payment_id FROM refunds WHERE id = %(payment_id)s))",
    "psp_reference": """p.id IN (SELECT id FROM payments WHERE psp_reference = %(psp_reference)s
        UNION ALL SELECT payment_id FROM refunds WHERE psp_reference = %(psp_reference)s)""",
    "tender_reference": "p.tender_reference = %(tender_reference)s",
    "service_id": "p.service_id = %(service_id)s",
    "reference": "p.reference = %(reference)s",
    # By bytes, as the index orders them: LIKE would take a beginning's own % and _ for wildcards.
    "reference_start": "p.reference ~>=~ %(reference_start)s AND p.reference ~<~ %(reference_end)s",
    "sale_reference_id": "p.options ->> 'sale_reference_id' = %(sale_reference_id)s",
    "last4": "p.result ->> 'card_last4' = %(last4)s",
    "poi_id": "p.poi_id = %(poi_id)s",
    "state": "p.state = %(state)s",
    "outcome": "p.outcome = %(outcome)s",
    "created_from": "p.created_at >= %(created_from)s",
    "created_to": "p.created_at < %(created_to)s",
}
_CHARGED_CONDITIONS: Final = {
    "yes": f"p.outcome IN ({_CHARGED})",
    "no": f"p.outcome NOT IN ({_CHARGED})",
    "unknown": "p.outcome IS NULL",
}
#: A literal, so that the planner sees that the partial index has them all.
_UNKNOWN: Final = f"p.state = '{State.UNKNOWN.value}'"

#: Each payment of the merchant account has a number; halving finds the first that was created at a time or later.
_NUMBER_AT: Final = """
WITH RECURSIVE halves (low, high, step) AS (
    SELECT min(number), max(number) + 1, 0 FROM payments WHERE merchant_account = %(merchant_account)s
    UNION ALL
    SELECT CASE WHEN seen.created_at < %(at)s THEN seen.number + 1 ELSE low END,
        CASE WHEN seen.created_at < %(at)s THEN high ELSE (low + high) / 2 END, step + 1
    FROM halves, LATERAL (
        SELECT number, created_at FROM payments
        WHERE merchant_account = %(merchant_account)s AND number >= (low + high) / 2 ORDER BY number LIMIT 1
    ) AS seen
    WHERE low < high AND step < 64
)
SELECT low AS number FROM halves ORDER BY step DESC LIMIT 1
"""

_TERMINAL_NAMED: Final = """
SELECT poi_id FROM terminals WHERE merchant_account = %(merchant_account)s
    AND (lower(poi_id) = lower(%(poi_id)s) OR right(lower(poi_id), length(%(poi_id)s) + 1) = lower('-' || %(poi_id)s))
ORDER BY poi_id LIMIT 2
"""


@dataclass(frozen=True, slots=True)
class Lead:
    """The condition that brings the rows. ``ordered``: its index has them newest first, so a page ends the reading."""

    name: str
    condition: str
    ordered: bool = True
    source: str = "payments p"

    @property
    def looks_at(self) -> int:
        """The most rows that it brings."""
        if not self.ordered:
            return _NAMED_MAX + 1
        return SCATTERED_MAX if self.name else LOOKED_MAX


#: A ServiceID alone is found through every terminal there ever was: hundreds of look-ups, and no index of its own.
_OF_SERVICE: Final = "terminals t JOIN payments p ON p.poi_id = t.poi_id"

#: The most selective first.
_LEADS: Final = (
    Lead("payment_id", _CONDITIONS["payment_id"], ordered=False),
    Lead("psp_reference", _CONDITIONS["psp_reference"], ordered=False),
    Lead("tender_reference", _CONDITIONS["tender_reference"], ordered=False),
    Lead("service_id", _CONDITIONS["service_id"], ordered=False, source=_OF_SERVICE),
    Lead("reference", _CONDITIONS["reference"]),
    Lead("sale_reference_id", _CONDITIONS["sale_reference_id"]),
    Lead("last4", _CONDITIONS["last4"]),
)
_OF_BEGINNING: Final = Lead("reference_start", _CONDITIONS["reference_start"], ordered=False)
_OF_TERMINAL: Final = Lead("poi_id", _CONDITIONS["poi_id"])
_OF_UNKNOWN: Final = Lead("state", _UNKNOWN)
_NEWEST: Final = Lead("", "true")


@dataclass(frozen=True, slots=True)
class Found:
    """A page. ``next_before`` is where the next one begins; ``looked`` is set where the bound ended this one early."""

    rows: list[dict[str, Any]]
    next_before: int | None
    looked: int | None = None
    looked_back_to: datetime | None = None


@dataclass(frozen=True, slots=True)
class SearchStore:
    """Finds payments of one merchant account."""

    database: Database

    def find(self, merchant_account: str, search: Search, before: int | None, limit: int) -> Found:
        """Read a page of the payments that match, newest first, older than number ``before``."""
        values = self._values(merchant_account, search, before)
        lead = self._lead(search, values)
        rest = [condition for name, condition in _conditions(search) if name != lead.name]
        rows = self._read(_statement(lead, rest, values, limit + 1), values)
        if len(rows) > limit:
            return Found(rows[:limit], rows[limit - 1]["number"])
        if not lead.ordered or (not rest and len(rows) < lead.looks_at):
            return Found(rows, None)
        return self._ended_early(lead, values, rows)

    def every(
        self, merchant_account: str, search: Search, *, limit: int, page: int = 500, looked_max: int = 10 * LOOKED_MAX
    ) -> Iterator[Row | None]:
        """Read the newest ``limit`` that match, a page in memory at a time; None at the end when there may be more."""
        before: int | None = None
        given = looked = 0
        while True:
            found = self.find(merchant_account, search, before, min(page, limit - given))
            yield from found.rows
            given += len(found.rows)
            looked += found.looked or 0
            before = found.next_before
            if before is None:
                return
            if given >= limit or looked >= looked_max:
                yield None
                return

    def _lead(self, search: Search, values: Mapping[str, Any]) -> Lead:
        for lead in _LEADS:
            if getattr(search, lead.name):
                return lead
        if search.reference_start and self._few(_OF_BEGINNING, values):
            return _OF_BEGINNING
        if search.state is State.UNKNOWN:
            return _OF_UNKNOWN
        return _OF_TERMINAL if search.poi_id else _NEWEST

    def _few(self, lead: Lead, values: Mapping[str, Any]) -> bool:
        """Whether so few have it that sorting them is cheaper than walking."""
        statement = f"""SELECT count(*) AS n FROM (SELECT 1 FROM payments p
            WHERE p.merchant_account = %(merchant_account)s AND {lead.condition} LIMIT {_NAMED_MAX + 1}) AS few"""
        return int(self._read(statement, values)[0]["n"]) <= _NAMED_MAX

    def _ended_early(self, lead: Lead, values: Mapping[str, Any], rows: list[dict[str, Any]]) -> Found:
        """The page is not full: whether that is all, or the bound was reached."""
        statement = f"""SELECT count(*) AS looked, min(number) AS number FROM (
            SELECT p.number FROM {lead.source} WHERE {lead.condition} AND {_place(values)}
            ORDER BY p.number DESC LIMIT {lead.looks_at}) AS looked_at"""
        edge = self._read(statement, values)[0]
        if edge["looked"] < lead.looks_at:
            return Found(rows, None)
        last = self.database.one("SELECT created_at FROM payments WHERE number = %(number)s", edge)
        return Found(rows, edge["number"], lead.looks_at, last["created_at"] if last else None)

    def _values(self, merchant_account: str, search: Search, before: int | None) -> dict[str, Any]:
        values: dict[str, Any] = {name: getattr(search, name) for name in _CONDITIONS}
        values |= {"merchant_account": merchant_account, "before": before, "low": None}
        values |= _amount_values(search)
        if search.reference_start:
            values["reference_end"] = _after(search.reference_start)
        if search.poi_id:
            values["poi_id"] = self._terminal(merchant_account, search.poi_id)
        if search.created_from is not None:
            values["low"] = self._number_at(merchant_account, search.created_from - _DISORDER)
        if search.created_to is not None:
            end = self._number_at(merchant_account, search.created_to + _DISORDER)
            values["before"] = end if before is None else min(before, end)
        return values

    def _number_at(self, merchant_account: str, at: datetime) -> int:
        row = self.database.one(_NUMBER_AT, {"merchant_account": merchant_account, "at": at})
        return row["number"] if row and row["number"] is not None else 0

    def _read(self, statement: str, values: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Planned for these values each time: a plan for average ones may walk a million rows to a merchant's ten."""
        with self.database.connection() as connection:
            return connection.execute(statement, values, prepare=False).fetchall()

    def _terminal(self, merchant_account: str, named: str) -> str:
        """The POIID that is meant: in any case of letters, or by the serial number that is printed on it."""
        rows = self.database.all(_TERMINAL_NAMED, {"merchant_account": merchant_account, "poi_id": named})
        found = [row["poi_id"] for row in rows]
        return found[0] if len(found) == 1 else named


def _place(values: Mapping[str, Any]) -> str:
    """Where in the list: written out, since a plan that is kept could not use an index for a bound that may be null."""
    bounds = {"before": "p.number < %(before)s", "low": "p.number >= %(low)s"}
    said = [bound for name, bound in bounds.items() if values[name] is not None]
    return " AND ".join(["p.merchant_account = %(merchant_account)s", *said])


def _statement(lead: Lead, rest: list[str], values: Mapping[str, Any], limit: int) -> str:
    inner = f"SELECT p.* FROM {lead.source} WHERE {lead.condition} AND {_place(values)}"
    inner += f"{' ORDER BY p.number DESC' if lead.ordered else ''} LIMIT {lead.looks_at}"
    return f"""SELECT * FROM ({inner}) AS p WHERE {" AND ".join(rest or ["true"])}
        ORDER BY p.number DESC LIMIT {limit}"""


def _conditions(search: Search) -> Iterator[tuple[str, str]]:
    for name, condition in _CONDITIONS.items():
        if getattr(search, name) is not None:
            yield name, condition
    if search.charged is not None:
        yield "charged", _CHARGED_CONDITIONS[search.charged]
    if search.amounts:
        yield "amounts", f"({' OR '.join(_amount_condition(n, search) for n in range(len(search.amounts)))})"


def _amount_condition(n: int, search: Search) -> str:
    """An amount as it was asked for, or as it is on the receipt: with tip and all."""
    said = f"(p.amount_minor = %(minor_{n})s OR p.authorised_minor = %(minor_{n})s)"
    return (
        said if search.amounts[n].currencies is None else f"({said} AND p.currency = ANY(%(currencies_{n})s::text[]))"
    )


def _amount_values(search: Search) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for n, amount in enumerate(search.amounts):
        found |= {f"minor_{n}": amount.minor, f"currencies_{n}": sorted(amount.currencies or ())}
    return found


def _after(beginning: str) -> str:
    """The first text, by bytes, that is behind every one with this beginning; references are ASCII."""
    return beginning[:-1] + chr(ord(beginning[-1]) + 1)
