"""Lists: payments by filter and journals by payment, a page at a time."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from orchestrator.model import CHARGED_OUTCOMES
from orchestrator.store.database import Database

#: Refusals are kept and shown this long (interfaces, "HTTP API").
REJECTION_DAYS: Final = 30

_REJECTIONS = f"""
SELECT id, at, idempotency_key, reference, problem, field, detail, payment_id FROM rejections
WHERE merchant_account = %(merchant_account)s AND at > now() - interval '{REJECTION_DAYS} days'
    AND (%(before_id)s::bigint IS NULL OR id < %(before_id)s::bigint)
ORDER BY id DESC LIMIT %(limit)s
"""

_JOURNAL: Final = """
SELECT l.sequence, l.at, l.evidence, l.event, l.before, l.after, l.digest, l.detail_hash, l.hash, d.detail, d.salt
FROM journal l LEFT JOIN journal_details d USING (payment_id, sequence)
WHERE l.payment_id = %(payment_id)s AND l.sequence > %(after)s ORDER BY l.sequence LIMIT %(limit)s
"""

_CONCLUDED: Final = "SELECT id FROM payments WHERE id = ANY (%(ids)s) AND state <> 'pending'"

_IS_CHARGED: Final = "outcome IN ({})".format(", ".join(f"'{outcome.value}'" for outcome in sorted(CHARGED_OUTCOMES)))

#: What each filter asks of a row. The sale reference is spelt as in its index: a member that is a parameter, too, would
#: not be found there.
_CONDITIONS: Final = {
    **{
        name: f"{name} = %({name})s"
        for name in ("merchant_account", "reference", "poi_id", "state", "outcome", "psp_reference", "amount_minor")
    },
    "sale_reference_id": "options ->> 'sale_reference_id' = %(sale_reference_id)s",
    "created_from": "created_at >= %(created_from)s",
    "created_to": "created_at < %(created_to)s",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentFilter:
    """What a list of payments is narrowed to; None does not narrow."""

    merchant_account: str | None = None
    reference: str | None = None
    sale_reference_id: str | None = None
    poi_id: str | None = None
    state: str | None = None
    outcome: str | None = None
    charged: bool | None = None
    psp_reference: str | None = None
    amount_minor: int | None = None
    created_from: datetime | None = None
    created_to: datetime | None = None


@dataclass(frozen=True, slots=True)
class Pages:
    """Reads lists."""

    database: Database

    def payments(self, narrowed: PaymentFilter, before_number: int | None, limit: int) -> list[dict[str, Any]]:
        """Read payments, newest first, older than ``before_number``."""
        asked = {name: value for name in PaymentFilter.__slots__ if (value := getattr(narrowed, name)) is not None}
        conditions = [_CONDITIONS[name] for name in asked if name != "charged"]
        if narrowed.charged is not None:
            conditions.append(_IS_CHARGED if narrowed.charged else f"NOT {_IS_CHARGED}")
        if before_number is not None:
            conditions.append("number < %(before_number)s")
        where = f"WHERE {' AND '.join(conditions)} " if conditions else ""
        statement = f"SELECT * FROM payments {where}ORDER BY number DESC LIMIT %(limit)s"
        return self.database.all(statement, {**asked, "before_number": before_number, "limit": limit})

    def journal(self, payment_id: UUID, after_sequence: int, limit: int) -> list[dict[str, Any]]:
        """Read journal lines in ascending order, with what they rest on where retention has kept it."""
        return self.database.all(_JOURNAL, {"payment_id": payment_id, "after": after_sequence, "limit": limit})

    def rejections(self, merchant_account: str, before_id: int | None, limit: int) -> list[dict[str, Any]]:
        """Read refusals of submissions that came by task, newest first, older than ``before_id``."""
        values = {"merchant_account": merchant_account, "before_id": before_id, "limit": limit}
        return self.database.all(_REJECTIONS, values)

    def concluded_among(self, payment_ids: list[UUID]) -> set[UUID]:
        """Of these payments, those that a caller who waits has waited long enough for."""
        return {row["id"] for row in self.database.all(_CONCLUDED, {"ids": payment_ids})}
