"""Terminals as people look at them: in pages, with what each last showed, and what is before it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from psycopg.types.json import Jsonb

from orchestrator.store.database import Database
from orchestrator.store.rows import Row

#: A number above this is said as "1,000 or more": nobody acts differently, and counting on has no end.
COUNTED_MAX: Final = 1_000

#: The last display text is looked for among so many rows of a terminal: a dialogue has about ten.
_DIALOGUE_ROWS: Final = 20

#: Payments that are listed one by one; more are named by their number.
LISTED_MAX: Final = 20

#: Above every id. A range of both columns is what the index of terminals has in order; asked for one terminal, newest
#: first, the planner may as well walk through everybody's events, and through all of them for a terminal without any.
_LAST_ID: Final = 2**63 - 1

#: What a terminal showed before it became this merchant account's is nobody's business here.
_SHOWN: Final = f"""
SELECT t.*, holder.id AS holder_id, holder.reference AS holder_reference, holder.sent_at AS holder_sent_at,
    holder.amount_minor AS holder_amount_minor, holder.currency AS holder_currency,
    (SELECT count(*) FROM (SELECT 1 FROM payments q WHERE q.poi_id = t.poi_id AND q.state = 'pending'
        AND q.sent_at IS NULL LIMIT {COUNTED_MAX}) AS queue) AS queued,
    (SELECT count(*) FROM (SELECT 1 FROM payments u WHERE u.poi_id = t.poi_id AND u.state = 'unknown'
        LIMIT {COUNTED_MAX}) AS unknowns) AS unknown,
    display.name AS display, display.at AS display_at
FROM terminals t
LEFT JOIN payments holder ON holder.holds_terminal = t.poi_id AND holder.merchant_account = t.merchant_account
LEFT JOIN LATERAL (
    SELECT latest.name, latest.at FROM (
        SELECT e.id, e.kind, e.name, e.at FROM terminal_events e
        WHERE (e.poi_id, e.id) >= (t.poi_id, 0) AND (e.poi_id, e.id) <= (t.poi_id, {_LAST_ID})
        ORDER BY e.poi_id DESC, e.id DESC LIMIT {_DIALOGUE_ROWS}) AS latest
    WHERE latest.kind = 'display' AND latest.at >= coalesce(t.reassigned_at, '-infinity')
    ORDER BY latest.id DESC LIMIT 1) AS display ON true
WHERE t.removed_at IS NULL AND t.merchant_account = %(merchant_account)s
"""
_ONE: Final = _SHOWN + " AND t.poi_id = %(poi_id)s"

#: The order of the index, which is character by character, so that a beginning is a range.
_AFTER: Final = " AND t.poi_id ~>~ %(after)s"
_BEGINS: Final = " AND t.poi_id ~>=~ %(begins)s AND t.poi_id ~<~ %(beyond)s"
_STORE: Final = " AND t.store = %(store)s"
_ORDER: Final = " ORDER BY t.poi_id USING ~<~ LIMIT %(limit)s"

#: Above every character that a POIID has.
_LAST_CHARACTER: Final = "\x7f"

_WAITING: Final = """
SELECT id, reference, currency, amount_minor, created_at, send_by, state, outcome FROM payments
WHERE poi_id = %(poi_id)s AND merchant_account = %(merchant_account)s AND state = 'pending' AND sent_at IS NULL
ORDER BY number LIMIT %(limit)s
"""
_UNKNOWN: Final = """
SELECT id, reference, currency, amount_minor, created_at, send_by, state, outcome FROM payments
WHERE poi_id = %(poi_id)s AND merchant_account = %(merchant_account)s AND state = 'unknown'
ORDER BY number LIMIT %(limit)s
"""
_EVENTS: Final = """
SELECT e.id, e.poi_id, e.payment_id, e.kind, e.name, e.detail, e.at FROM terminal_events e
WHERE e.poi_id = %(poi_id)s
    AND e.at >= (SELECT coalesce(t.reassigned_at, '-infinity') FROM terminals t WHERE t.poi_id = %(poi_id)s)
ORDER BY e.id DESC LIMIT %(limit)s
"""
_LOOKED: Final = """
UPDATE terminals t SET look = seen.look, looked_at = now()
FROM jsonb_to_recordset(%(looks)s) AS seen (poi_id text, look jsonb)
WHERE t.poi_id = seen.poi_id AND t.merchant_account = %(merchant_account)s AND t.removed_at IS NULL
"""


@dataclass(frozen=True, slots=True)
class TerminalPages:
    """Reads terminals for people, and keeps how they were when somebody looked."""

    database: Database

    def many(
        self, merchant_account: str, *, begins: str = "", store: str = "", after: str = "", limit: int
    ) -> list[dict[str, Any]]:
        """Read terminals in the order of their POIIDs, after this one; those that begin so, or are of that store."""
        values = {"merchant_account": merchant_account, "begins": begins, "beyond": begins + _LAST_CHARACTER}
        conditions = (_AFTER if after else "") + (_BEGINS if begins else "") + (_STORE if store else "")
        return self.database.all(
            _SHOWN + conditions + _ORDER, {**values, "store": store, "after": after, "limit": limit}
        )

    def one(self, poi_id: str, merchant_account: str) -> Row | None:
        """Read a terminal."""
        return self.database.one(_ONE, {"poi_id": poi_id, "merchant_account": merchant_account})

    def waiting(self, poi_id: str, merchant_account: str) -> list[dict[str, Any]]:
        """Read the payments that wait for a terminal, the next one first."""
        return self.database.all(_WAITING, _of(poi_id, merchant_account))

    def unknown(self, poi_id: str, merchant_account: str) -> list[dict[str, Any]]:
        """Read the unknown payments of a terminal, the oldest first."""
        return self.database.all(_UNKNOWN, _of(poi_id, merchant_account))

    def said(self, poi_id: str, limit: int) -> list[dict[str, Any]]:
        """Read what a terminal showed and said last, newest first."""
        return self.database.all(_EVENTS, {"poi_id": poi_id, "limit": limit})

    def looked(self, merchant_account: str, looks: Mapping[str, Mapping[str, Any]]) -> None:
        """Keep how terminals were, by POIID."""
        rows = [{"poi_id": poi_id, "look": dict(look)} for poi_id, look in looks.items()]
        if rows:
            self.database.run(_LOOKED, {"merchant_account": merchant_account, "looks": Jsonb(rows)})


def _of(poi_id: str, merchant_account: str) -> dict[str, Any]:
    return {"poi_id": poi_id, "merchant_account": merchant_account, "limit": LISTED_MAX}
