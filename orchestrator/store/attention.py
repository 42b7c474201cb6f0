"""What waits for a person, the oldest first, and the money that is in doubt. Every list and every sum has a bound."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from orchestrator.model import DISPUTED_REASONS
from orchestrator.store.database import Database
from orchestrator.store.rows import Row

#: Payments that are summed up: hundreds of times what a good month leaves, in some 20 ms. What is above is "at least".
SUMMED_MAX: Final = 5_000

#: Things of other pages that are counted up to here.
COUNTED_MAX: Final = 1_000

_DISPUTED: Final = ", ".join(f"'{reason.value}'" for reason in sorted(DISPUTED_REASONS))
#: As the index ``payments_doubtful`` has them.
_DOUBTFUL: Final = "(p.state = 'unknown' OR (p.state = 'confirmed' AND (p.late OR p.provisional)))"
_KIND: Final = f"""
CASE WHEN p.state = 'unknown' AND p.reason IN ({_DISPUTED}) THEN 'disputed' WHEN p.state = 'unknown' THEN 'unknown'
    WHEN p.late THEN 'late' ELSE 'provisional' END
"""

#: One pass: the sums, and of each kind and currency the ids of the oldest.
_PAYMENT_SUMS: Final = f"""
SELECT kind, currency, count(*) AS n, sum(minor)::bigint AS minor, min(created_at) AS oldest_at,
    count(*) FILTER (WHERE created_at > now() - interval '1 hour') AS within_hour,
    count(*) FILTER (WHERE created_at <= now() - interval '1 hour'
        AND created_at > now() - interval '1 day') AS within_day,
    (array_agg(id ORDER BY number))[:%(limit)s] AS oldest
FROM (
    SELECT {_KIND} AS kind, p.id, p.number, p.currency, p.created_at,
        coalesce(p.authorised_minor - p.refunded_minor, p.amount_minor) AS minor
    FROM payments p WHERE p.merchant_account = %(merchant_account)s AND {_DOUBTFUL}
    ORDER BY p.number LIMIT {SUMMED_MAX}
) AS doubtful GROUP BY kind, currency ORDER BY kind, currency
"""

_REFUND_SUMS: Final = f"""
SELECT 'refund' AS kind, currency, count(*) AS n, sum(amount_minor)::bigint AS minor, min(created_at) AS oldest_at
FROM (
    SELECT currency, amount_minor, created_at FROM refunds
    WHERE merchant_account = %(merchant_account)s AND state = 'unknown' ORDER BY number LIMIT {SUMMED_MAX}
) AS unknown GROUP BY currency ORDER BY currency
"""

#: Whole, with when their terminal is asked again.
_PAYMENTS: Final = f"""
SELECT p.*, {_KIND} AS kind, c.due_at AS next_check_at
FROM payments p LEFT JOIN commands c ON c.payment_id = p.id AND c.kind = 'check_status'
WHERE p.id = ANY (%(ids)s) ORDER BY p.number
"""

_REFUNDS: Final = """
SELECT r.id, r.payment_id, r.reference, r.poi_id, r.currency, r.amount_minor, r.state, r.outcome, r.reason,
    r.created_at, c.due_at AS next_check_at
FROM refunds r LEFT JOIN commands c ON c.refund_id = r.id AND c.kind = 'check_refund'
WHERE r.merchant_account = %(merchant_account)s AND r.state = 'unknown' ORDER BY r.number LIMIT %(limit)s
"""

_COUNTS: Final = f"""
SELECT clock_timestamp() AS at,
    (SELECT count(*) FROM (SELECT 1 FROM tellings WHERE merchant_account = %(merchant_account)s
        AND parked_at IS NOT NULL LIMIT {COUNTED_MAX}) AS parked) AS parked,
    (SELECT count(*) FROM (SELECT 1 FROM differences WHERE merchant_account = %(merchant_account)s
        AND state = 'open' LIMIT {COUNTED_MAX}) AS open) AS differences,
    (SELECT count(*) FROM webhook_quarantine) AS quarantined
"""


@dataclass(frozen=True, slots=True)
class Waiting:
    """What waits for a person. ``sums`` has a row for each kind and currency, with how many, how much, how old."""

    at: datetime
    sums: Sequence[Row]
    payments: Sequence[Row]
    refunds: Sequence[Row]
    parked: int
    differences: int
    quarantined: int
    limit: int

    @property
    def is_cut(self) -> bool:
        """Whether there is more than was summed up."""
        return sum(int(row["n"]) for row in self.sums if row["kind"] != "refund") >= SUMMED_MAX

    def at_risk(self) -> dict[str, int]:
        """The money in doubt, by currency, in minor units."""
        found: dict[str, int] = {}
        for row in self.sums:
            found[row["currency"]] = found.get(row["currency"], 0) + row["minor"]
        return dict(sorted(found.items(), key=lambda each: -each[1]))

    def of(self, kind: str) -> list[Row]:
        """The oldest payments of one kind: unknown, disputed, late, provisional."""
        return [row for row in self.payments if row["kind"] == kind][: self.limit]

    def count(self, kind: str) -> int:
        """How many there are of one kind."""
        return sum(row["n"] for row in self.sums if row["kind"] == kind)


@dataclass(frozen=True, slots=True)
class AttentionStore:
    """Reads what waits for a person."""

    database: Database

    def waiting(self, merchant_account: str, limit: int) -> Waiting:
        """Read it for one merchant account, at most ``limit`` of a kind."""
        values: dict[str, Any] = {"merchant_account": merchant_account, "limit": limit}
        counts = self.database.one(_COUNTS, values) or {}
        sums = self.database.all(_PAYMENT_SUMS, values)
        ids = [payment_id for row in sums for payment_id in row["oldest"]]
        return Waiting(
            limit=limit,
            sums=[*sums, *self.database.all(_REFUND_SUMS, values)],
            payments=self.database.all(_PAYMENTS, {"ids": ids}) if ids else [],
            refunds=self.database.all(_REFUNDS, values),
            **counts,
        )
