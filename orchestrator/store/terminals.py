"""Registered terminals in the database."""

from dataclasses import dataclass
from typing import Any

from orchestrator.store.database import Database
from orchestrator.store.rows import Ring, Row, ring_of

_PUT = """
INSERT INTO terminals (poi_id, merchant_account, store, transport, region, cloud_api, till_prints, address, address_at)
VALUES (%(poi_id)s, %(merchant_account)s, %(store)s, %(transport)s, %(region)s, %(cloud_api)s, %(till_prints)s,
    %(address)s::text, CASE WHEN %(address)s::text IS NOT NULL THEN now() END)
ON CONFLICT (poi_id) DO UPDATE SET merchant_account = excluded.merchant_account, store = excluded.store,
    transport = excluded.transport, region = excluded.region, cloud_api = excluded.cloud_api,
    till_prints = excluded.till_prints, removed_at = NULL, address = excluded.address,
    address_at = CASE WHEN terminals.address IS DISTINCT FROM excluded.address THEN excluded.address_at
        ELSE terminals.address_at END,
    reassigned_at = CASE WHEN terminals.merchant_account <> excluded.merchant_account
        OR terminals.store IS DISTINCT FROM excluded.store THEN now() ELSE terminals.reassigned_at END
WHERE %(may_reassign)s OR terminals.removed_at IS NOT NULL OR terminals.merchant_account = excluded.merchant_account
RETURNING *, xmax = 0 AS created
"""
_SHOWN = """
SELECT t.*, holder.id AS holder_id, holder.reference AS holder_reference, holder.sent_at AS holder_sent_at,
    (SELECT count(*) FROM payments q WHERE q.poi_id = t.poi_id AND q.state = 'pending' AND q.sent_at IS NULL) AS queued,
    (SELECT count(*) FROM payments u WHERE u.poi_id = t.poi_id AND u.state = 'unknown') AS unknown
FROM terminals t LEFT JOIN payments holder ON holder.holds_terminal = t.poi_id
WHERE t.removed_at IS NULL AND (%(merchant_account)s::text IS NULL OR t.merchant_account = %(merchant_account)s)
"""
_ONE = _SHOWN + " AND t.poi_id = %(poi_id)s"
_MANY = _SHOWN + " AND t.poi_id > %(after)s ORDER BY t.poi_id LIMIT %(limit)s"
_AMONG = _SHOWN + " AND t.poi_id = ANY(%(poi_ids)s)"
_REMOVE = """
UPDATE terminals SET removed_at = now() WHERE poi_id = %(poi_id)s AND removed_at IS NULL
    AND (%(merchant_account)s::text IS NULL OR merchant_account = %(merchant_account)s)
    AND NOT EXISTS (SELECT 1 FROM payments WHERE poi_id = %(poi_id)s AND state = 'pending')
    AND NOT EXISTS (SELECT 1 FROM refunds WHERE poi_id = %(poi_id)s AND state = 'pending' AND reason IS NULL)
"""
_MOVE = """
UPDATE terminals SET address = %(address)s, address_at = now() WHERE poi_id = %(poi_id)s AND removed_at IS NULL
    AND (%(merchant_account)s::text IS NULL OR merchant_account = %(merchant_account)s)
"""
_HOLD = """
UPDATE terminals SET held_at = coalesce(held_at, now()), held_by = %(by)s, hold_reason = %(reason)s
WHERE poi_id = %(poi_id)s AND removed_at IS NULL
    AND (%(merchant_account)s::text IS NULL OR merchant_account = %(merchant_account)s)
"""
#: The head of the queue may start at once when the terminal is let go.
_RELEASE = """
WITH released AS (
    UPDATE terminals SET held_at = NULL, held_by = NULL, hold_reason = NULL
    WHERE poi_id = %(poi_id)s AND removed_at IS NULL
    AND (%(merchant_account)s::text IS NULL OR merchant_account = %(merchant_account)s) RETURNING poi_id
), woken AS (
    UPDATE commands SET due_at = now(), ring_at = now() + interval '5 seconds'
    WHERE kind = 'send' AND payment_id = (
        SELECT id FROM payments WHERE poi_id = (SELECT poi_id FROM released) AND state = 'pending' AND sent_at IS NULL
        ORDER BY number LIMIT 1)
    RETURNING id, kind, payment_id
)
SELECT released.poi_id, woken.id AS command_id, woken.kind, q.id AS payment_id, q.reference, q.transport
FROM released LEFT JOIN woken ON true LEFT JOIN payments q ON q.id = woken.payment_id
"""


@dataclass(frozen=True, slots=True)
class TerminalStore:
    """Register, show, hold and release terminals."""

    database: Database

    def put(self, terminal: dict[str, Any], *, may_reassign: bool = True) -> Row:
        """Register a terminal, or change what is known of it; nothing when it is another merchant account's."""
        unset = {"store": None, "region": None, "cloud_api": None, "till_prints": None, "address": None}
        row = self.database.one(_PUT, {**unset, **terminal, "may_reassign": may_reassign})
        return row or {}

    def one(self, poi_id: str, merchant_account: str | None) -> Row | None:
        """Read a terminal with what runs and what waits."""
        return self.database.one(_ONE, {"poi_id": poi_id, "merchant_account": merchant_account})

    def many(self, merchant_account: str | None, after: str, limit: int) -> list[dict[str, Any]]:
        """Read terminals in the order of their POIIDs."""
        return self.database.all(_MANY, {"merchant_account": merchant_account, "after": after, "limit": limit})

    def among(self, poi_ids: list[str]) -> list[dict[str, Any]]:
        """Read these terminals, whosever they are."""
        return self.database.all(_AMONG, {"merchant_account": None, "poi_ids": poi_ids})

    def remove(self, poi_id: str, merchant_account: str | None = None) -> bool:
        """Forget a terminal that has nothing pending; false when it has, or is not there."""
        return self.database.run(_REMOVE, {"poi_id": poi_id, "merchant_account": merchant_account}) > 0

    def move(self, poi_id: str, address: str, merchant_account: str | None = None) -> bool:
        """Note where a terminal listens now (host:port); false when it is not there."""
        values = {"poi_id": poi_id, "address": address, "merchant_account": merchant_account}
        return self.database.run(_MOVE, values) > 0

    def hold(self, poi_id: str, by: str, reason: str | None, merchant_account: str | None = None) -> bool:
        """Let nothing more start on a terminal; false when it is not there."""
        values = {"poi_id": poi_id, "by": by, "reason": reason, "merchant_account": merchant_account}
        return self.database.run(_HOLD, values) > 0

    def release(self, poi_id: str, merchant_account: str | None = None) -> list[Ring] | None:
        """Let payments start again; return what is to be rung, None when there is no such terminal."""
        row = self.database.one(_RELEASE, {"poi_id": poi_id, "merchant_account": merchant_account})
        if row is None:
            return None
        return [ring_of(row)] if row["command_id"] else []
