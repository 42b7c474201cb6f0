"""Tellings and the quarantine as people look at them: in pages, newest first."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from orchestrator.store.database import Database
from orchestrator.store.rows import Row

#: Parked tellings that one press of a button has told again: some seconds of work.
REDELIVERED_MAX: Final = 500

#: Receivers that are listed, and parked tellings that are counted for it.
_RECEIVERS_MAX: Final = 20
_COUNTED_MAX: Final = 10_000


class TellingState(StrEnum):
    """Where a telling is in its life."""

    WAITING = "waiting"
    PARKED = "parked"
    DELIVERED = "delivered"


@dataclass(frozen=True, slots=True, kw_only=True)
class TellingFilter:
    """What a list of tellings is narrowed to; None does not narrow."""

    merchant_account: str
    state: TellingState | None = None
    type: str | None = None
    payment_id: UUID | None = None


_IN_STATE: Final = {
    TellingState.WAITING: "t.delivered_at IS NULL AND t.parked_at IS NULL",
    TellingState.PARKED: "t.parked_at IS NOT NULL",
    TellingState.DELIVERED: "t.delivered_at IS NOT NULL",
}
_MANY: Final = """
SELECT t.id, t.number, t.payment_id, t.refund_id, t.sequence, t.type, t.at, t.url, t.attempts, t.next_at,
    t.delivered_at, t.parked_at, t.last_status, t.last_error, t.data ->> 'reference' AS reference,
    t.data::text = '{{}}' AS emptied
FROM tellings t WHERE t.merchant_account = %(merchant_account)s{conditions}
ORDER BY t.number DESC LIMIT %(limit)s
"""
#: Several addresses may be of one host, and an address may hold a secret: they are told apart by a digest.
_RECEIVER: Final = "encode(sha256(convert_to(p.url, 'UTF8')), 'hex')"
_PARKED: Final = f"""
SELECT t.id, t.number, t.url, t.parked_at FROM tellings t
WHERE t.merchant_account = %(merchant_account)s AND t.parked_at IS NOT NULL AND t.data::text <> '{{}}'
ORDER BY t.number LIMIT {_COUNTED_MAX}
"""
_RECEIVERS: Final = f"""
SELECT {_RECEIVER} AS receiver, p.url, count(*) AS parked, min(p.parked_at) AS since FROM ({_PARKED}) AS p
GROUP BY p.url ORDER BY parked DESC, p.url LIMIT {_RECEIVERS_MAX}
"""
_PARKED_OF: Final = f"""
SELECT p.id FROM ({_PARKED}) AS p WHERE {_RECEIVER} = %(receiver)s ORDER BY p.number LIMIT {REDELIVERED_MAX}
"""
_QUARANTINED: Final = """
SELECT digest, size_bytes, header, body IS NOT NULL AS replayable, times, first_at, last_at FROM webhook_quarantine
WHERE (%(before_at)s::timestamptz IS NULL OR (last_at, digest) < (%(before_at)s::timestamptz, %(before)s::text))
ORDER BY last_at DESC, digest DESC LIMIT %(limit)s
"""
_IN_QUARANTINE: Final = """
SELECT count(*) AS bodies, count(body) AS replayable, coalesce(sum(times), 0) AS times, min(first_at) AS since
FROM webhook_quarantine
"""


@dataclass(frozen=True, slots=True)
class TellingPages:
    """Reads tellings and the quarantine for people."""

    database: Database

    def many(self, narrowed: TellingFilter, before: int | None, limit: int) -> list[dict[str, Any]]:
        """Read tellings, newest first, older than number ``before``; without what was told."""
        conditions = [_IN_STATE[narrowed.state]] if narrowed.state else []
        conditions += ["t.type = %(type)s"] if narrowed.type else []
        conditions += ["t.payment_id = %(payment_id)s"] if narrowed.payment_id else []
        conditions += ["t.number < %(before)s"] if before is not None else []
        values = {
            "merchant_account": narrowed.merchant_account, "type": narrowed.type, "payment_id": narrowed.payment_id,
            "before": before, "limit": limit,
        }  # fmt: skip
        return self.database.all(_MANY.format(conditions="".join(f" AND {each}" for each in conditions)), values)

    def receivers(self, merchant_account: str) -> Sequence[Row]:
        """Read the addresses that have parked tellings, with how many, those with the most first."""
        return self.database.all(_RECEIVERS, {"merchant_account": merchant_account})

    def parked_of(self, receiver: str, merchant_account: str) -> list[UUID]:
        """Name the oldest parked tellings of an address, by its digest: so many as are told again at once."""
        rows = self.database.all(_PARKED_OF, {"receiver": receiver, "merchant_account": merchant_account})
        return [row["id"] for row in rows]

    def quarantined(self, before: tuple[datetime, str] | None, limit: int) -> Sequence[Row]:
        """Read what is in the quarantine, newest first, without the bodies; after this time and digest."""
        at, digest = before or (None, None)
        return self.database.all(_QUARANTINED, {"before_at": at, "before": digest, "limit": limit})

    def in_quarantine(self) -> Row:
        """Count what is in the quarantine; it is small by its own limits."""
        return self.database.one(_IN_QUARANTINE, {}) or {}
