"""The books day by day: which runs covered a day, what they left open, and whether somebody signed."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final
from uuid import UUID

from orchestrator.store.database import Database
from orchestrator.store.differences import DifferenceFilter
from orchestrator.store.rows import Row

#: Numbers above these are said as "1,000 or more": nobody acts differently, and counting on has no end.
COUNTED_MAX: Final = 1_000
DIFFERENCES_COUNTED_MAX: Final = 10_000

#: No run is over more days than a year has, so one that covers a day ends at most this much later.
_PERIOD_DAYS_MAX: Final = 366

#: Of each day, the newest run that covered it and the newest that was signed off.
_COVERS: Final = f"""
r.merchant_account = %(merchant_account)s AND r.first_day <= d.day
    AND r.last_day BETWEEN d.day AND d.day + {_PERIOD_DAYS_MAX}
"""
_DAYS: Final = f"""
SELECT d.day::date AS day, newest.id AS run_id, newest.state, newest.signed_at AS newest_signed_at,
    signed.signed_at, signed.signed_by, coalesce(open.some, false) AS is_open
FROM (SELECT generate_series(%(first_day)s::date, %(last_day)s::date, interval '1 day')::date AS day) AS d
LEFT JOIN LATERAL (SELECT r.id, r.state, r.signed_at FROM reconciliation_runs r
    WHERE {_COVERS} ORDER BY r.number DESC LIMIT 1) AS newest ON true
LEFT JOIN LATERAL (SELECT r.signed_at, r.signed_by FROM reconciliation_runs r
    WHERE {_COVERS} AND r.signed_at IS NOT NULL ORDER BY r.number DESC LIMIT 1) AS signed ON true
LEFT JOIN LATERAL (SELECT true AS some FROM reconciliation_found f JOIN differences x ON x.id = f.difference_id
    WHERE f.run_id = newest.id AND x.state = 'open' LIMIT 1) AS open ON true
ORDER BY d.day DESC
"""
_NEWEST: Final = f"""
SELECT r.* FROM (SELECT %(day)s::date AS day) AS d JOIN reconciliation_runs r ON {_COVERS}
WHERE NOT %(signed)s OR r.signed_at IS NOT NULL
ORDER BY r.number DESC LIMIT 1
"""
_UNKNOWN: Final = f"""
SELECT p.id, p.reference, p.poi_id, p.currency, p.amount_minor, p.created_at, p.reason, p.state, p.outcome
FROM payments p
WHERE p.state = 'unknown' AND p.merchant_account = %(merchant_account)s
    AND p.created_at >= %(begins_at)s AND p.created_at < %(ends_at)s
ORDER BY p.created_at LIMIT {COUNTED_MAX}
"""
#: One probe for each, however many there are: a plan that reads the whole table would be right only by its statistics.
_COUNTS: Final = f"""
SELECT counted.kind, counted.state, count(*) AS n FROM (
    SELECT d.kind, d.state FROM reconciliation_found f
    CROSS JOIN LATERAL (SELECT x.kind, x.state FROM differences x WHERE x.id = f.difference_id OFFSET 0) AS d
    WHERE f.run_id = %(id)s LIMIT {DIFFERENCES_COUNTED_MAX}) AS counted
GROUP BY counted.kind, counted.state ORDER BY counted.kind, counted.state
"""
_OF_RUN: Final = """
SELECT d.* FROM reconciliation_found f
CROSS JOIN LATERAL (SELECT * FROM differences x WHERE x.id = f.difference_id OFFSET 0) AS d
WHERE f.run_id = %(run_id)s{conditions} ORDER BY d.number LIMIT %(limit)s
"""
_OF_ALL: Final = "SELECT d.* FROM differences d WHERE {conditions} ORDER BY d.number LIMIT %(limit)s"


@dataclass(frozen=True, slots=True)
class DayPages:
    """Reads the books of days, and differences a page at a time."""

    database: Database

    def days(self, merchant_account: str, first_day: date, last_day: date) -> Sequence[Row]:
        """Read days, the last one first: run, whether it left something open, and who signed."""
        values = {"merchant_account": merchant_account, "first_day": first_day, "last_day": last_day}
        return self.database.all(_DAYS, values)

    def newest_run(self, merchant_account: str, day: date, *, signed: bool = False) -> Row | None:
        """Read the newest run that covers a day; of those that were signed off, if that is asked."""
        return self.database.one(_NEWEST, {"merchant_account": merchant_account, "day": day, "signed": signed})

    def unknown(self, merchant_account: str, day: date) -> list[dict[str, Any]]:
        """Read the payments that were accepted on a day (UTC) and are unknown; not more than are counted."""
        begins_at = datetime.combine(day, time(), UTC)
        values = {"merchant_account": merchant_account, "begins_at": begins_at, "ends_at": begins_at + timedelta(1)}
        return self.database.all(_UNKNOWN, values)

    def counts(self, run_id: UUID) -> Sequence[Row]:
        """Count the differences of a run by kind and state, up to a limit."""
        return self.database.all(_COUNTS, {"id": run_id})

    def differences(self, narrowed: DifferenceFilter, after: int, limit: int) -> list[dict[str, Any]]:
        """Read differences, oldest first, after number ``after``: of a run, or of the merchant account."""
        values: dict[str, Any] = {
            "merchant_account": narrowed.merchant_account, "state": narrowed.state, "kind": narrowed.kind,
            "run_id": narrowed.run_id, "after": after, "limit": limit,
        }  # fmt: skip
        conditions = ["d.merchant_account = %(merchant_account)s", "d.number > %(after)s"]
        conditions += ["d.state = %(state)s"] if narrowed.state else []
        conditions += ["d.kind = %(kind)s"] if narrowed.kind else []
        if narrowed.run_id is None:
            return self.database.all(_OF_ALL.format(conditions=" AND ".join(conditions)), values)
        text = "".join(f" AND {each}" for each in conditions)
        return self.database.all(_OF_RUN.format(conditions=text), values)
