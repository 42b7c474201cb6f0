"""What callers are to be told: one row for each event, written with the decision that it tells of.

The first row of a payment that is neither delivered nor parked is its head, and nothing behind it goes before it. Who
takes the head moves its ``next_at`` on, so that nobody else does; if it dies, the head is taken again after that.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from orchestrator.meaning import Alarm
from orchestrator.store.database import Database
from orchestrator.store.rows import Ring, Row, ring_of

_OPEN: Final = "t.delivered_at IS NULL AND t.parked_at IS NULL"

#: A command tells of a payment, of a refund, or of one telling that has neither.
_HEAD: Final = f"""
    (SELECT t.id, t.next_at FROM commands c JOIN tellings t ON t.payment_id = c.payment_id
     WHERE c.id = %(command_id)s AND c.kind = 'tell_caller' AND {_OPEN} ORDER BY t.sequence LIMIT 1)
    UNION ALL
    (SELECT t.id, t.next_at FROM commands c JOIN tellings t ON t.refund_id = c.refund_id
     WHERE c.id = %(command_id)s AND c.kind = 'tell_caller' AND {_OPEN} ORDER BY t.sequence LIMIT 1)
    UNION ALL
    (SELECT t.id, t.next_at FROM commands c JOIN tellings t ON t.id = c.telling_id
     WHERE c.id = %(command_id)s AND {_OPEN})
"""

_TAKE: Final = f"""
UPDATE tellings t SET attempts = attempts + 1, next_at = now() + make_interval(secs => %(lease_s)s)
WHERE id = (SELECT id FROM ({_HEAD}) AS head) AND next_at <= now() AND {_OPEN}
RETURNING id, type, at, url, data, attempts, now() AS taken_at
"""

#: While traces are off nobody looks for where one began.
_TAKE_TRACED: Final = f"""{_TAKE.rstrip()}, coalesce((SELECT trace FROM payments WHERE id = t.payment_id),
    (SELECT trace FROM refunds WHERE id = t.refund_id)) AS trace
"""

#: Before the head is looked at for the last time: a decision that adds a telling plans this command anew, and waits.
_LOCK: Final = "SELECT id FROM commands WHERE id = %(command_id)s FOR UPDATE"

_DELIVERED: Final = """
UPDATE tellings SET delivered_at = now(), parked_at = NULL, last_status = %(status)s, last_error = NULL
WHERE id = %(id)s AND delivered_at IS NULL
"""

#: A wait of null parks. Whoever was overtaken by another attempt has nothing to say any more.
_FAILED: Final = """
WITH failed AS (
    UPDATE tellings SET last_status = %(status)s, last_error = %(error)s,
        next_at = now() + make_interval(secs => coalesce(%(wait_s)s::float8, 0)),
        parked_at = CASE WHEN %(wait_s)s::float8 IS NULL THEN now() END
    WHERE id = %(id)s AND attempts = %(attempts)s AND delivered_at IS NULL
    RETURNING payment_id, refund_id, sequence, parked_at
)
INSERT INTO alarms (payment_id, refund_id, name, sequence)
SELECT payment_id, refund_id, %(alarm)s::text, sequence FROM failed
WHERE parked_at IS NOT NULL AND %(alarm)s::text IS NOT NULL
"""

_PUT_BACK: Final = """
UPDATE tellings SET attempts = attempts - 1, next_at = now() + make_interval(secs => %(wait_s)s)
WHERE id = %(id)s AND attempts = %(attempts)s
"""

#: The command stays, due when its head is, until nothing is left to tell.
_SETTLE: Final = f"""
WITH head AS ({_HEAD}),
    gone AS (DELETE FROM commands WHERE id = %(command_id)s AND NOT EXISTS (SELECT 1 FROM head))
UPDATE commands SET attempts = 0, due_at = greatest(head.next_at, now()), ring_at = greatest(head.next_at, now())
FROM head WHERE commands.id = %(command_id)s RETURNING head.next_at <= now() AS is_due
"""

_LIST: Final = """
SELECT id, number, payment_id, refund_id, merchant_account, sequence, type, at, url, data, attempts, next_at,
    delivered_at, parked_at, last_status, last_error
FROM tellings
WHERE (%(merchant_account)s::text IS NULL OR merchant_account = %(merchant_account)s)
    AND (%(before)s::bigint IS NULL OR number < %(before)s)
    AND (%(parked)s::boolean IS NULL OR (parked_at IS NOT NULL) = %(parked)s)
    AND (%(id)s::uuid IS NULL OR id = %(id)s)
ORDER BY number DESC LIMIT %(limit)s
"""

_LOCK_OF: Final = """
SELECT c.id FROM commands c JOIN tellings t ON t.payment_id = c.payment_id OR t.refund_id = c.refund_id
WHERE t.id = %(id)s AND c.kind = 'tell_caller' FOR UPDATE OF c
"""

_REDELIVER: Final = """
WITH again AS (
    UPDATE tellings SET delivered_at = NULL, parked_at = NULL, attempts = 0, next_at = now()
    WHERE id = %(id)s AND (%(merchant_account)s::text IS NULL OR merchant_account = %(merchant_account)s)
        AND data::text <> '{}'
    RETURNING id, payment_id, refund_id, sequence
), closed AS (
    UPDATE alarms a SET closed_at = now() FROM again
    WHERE (a.payment_id = again.payment_id OR a.refund_id = again.refund_id) AND a.sequence = again.sequence
        AND a.name = %(alarm)s AND a.closed_at IS NULL
), planned AS (
    INSERT INTO commands (payment_id, telling_id, kind, due_at, ring_at)
    SELECT payment_id, CASE WHEN payment_id IS NULL THEN id END, 'tell_caller', now(), now() + interval '5 seconds'
    FROM again WHERE refund_id IS NULL
    ON CONFLICT (payment_id, kind) DO UPDATE SET due_at = now(), ring_at = excluded.ring_at
    RETURNING id, kind
), planned_of_refund AS (
    INSERT INTO commands (refund_id, kind, due_at, ring_at)
    SELECT refund_id, 'tell_caller', now(), now() + interval '5 seconds' FROM again WHERE refund_id IS NOT NULL
    ON CONFLICT (refund_id, kind) DO UPDATE SET due_at = now(), ring_at = excluded.ring_at
    RETURNING id, kind
)
SELECT c.id AS command_id, c.kind, coalesce(again.payment_id, r.payment_id) AS payment_id,
    coalesce(p.reference, r.reference, '') AS reference, coalesce(p.poi_id, r.poi_id, '') AS poi_id,
    coalesce(p.transport, r.transport, 'async') AS transport
FROM again CROSS JOIN (SELECT * FROM planned UNION ALL SELECT * FROM planned_of_refund) AS c
    LEFT JOIN payments p ON p.id = again.payment_id LEFT JOIN refunds r ON r.id = again.refund_id
"""


@dataclass(frozen=True, slots=True)
class Telling:
    """One event as its caller is told it; ``attempts`` counts this one, which began at ``taken_at``."""

    id: UUID
    type: str
    at: datetime
    url: str
    data: Mapping[str, Any]
    attempts: int
    taken_at: datetime
    trace: str | None = None

    @property
    def row(self) -> Row | None:
        """The payment or refund that it tells of, as far as logs and traces name it; None where it is about neither."""
        return {**self.data, "trace": self.trace} if "id" in self.data and "poi_id" in self.data else None


@dataclass(frozen=True, slots=True)
class TellingStore:
    """Takes tellings in their order, and keeps what became of them."""

    database: Database

    def take(self, command_id: int, lease_s: float, *, traced: bool = False) -> Telling | None:
        """Take the head of what a command has to tell; None when it is not due, or somebody else has it.

        ``traced`` asks too where the trace began.
        """
        statement = _TAKE_TRACED if traced else _TAKE
        row = self.database.one(statement, {"command_id": command_id, "lease_s": lease_s})
        return Telling(**row) if row else None

    def delivered(self, command_id: int, telling: Telling, status: int | None) -> bool:
        """Keep that a telling arrived; return whether the next one may be taken now."""
        return self._settle(command_id, _DELIVERED, {"id": telling.id, "status": status})

    def failed(
        self,
        command_id: int,
        telling: Telling,
        *,
        status: int | None,
        error: str,
        wait_s: float | None,
        alarm: Alarm | None = Alarm.CALLBACK_PARKED,
    ) -> None:
        """Keep that an attempt failed: again after ``wait_s``, or parked and shown to a person when that is None."""
        values = {"id": telling.id, "attempts": telling.attempts, "status": status, "error": error, "wait_s": wait_s}
        self._settle(command_id, _FAILED, {**values, "alarm": alarm and alarm.value})

    def put_back(self, command_id: int, telling: Telling, wait_s: float) -> None:
        """Give back what was taken and not tried."""
        values = {"id": telling.id, "attempts": telling.attempts, "wait_s": wait_s}
        self._settle(command_id, _PUT_BACK, values)

    def settle(self, command_id: int) -> None:
        """Move a command to when its head is due, or remove it when nothing is left to tell."""
        values = {"command_id": command_id}
        self.database.last_of([(_LOCK, values), (_SETTLE, values)])

    def many(
        self, merchant_account: str | None, *, parked: bool | None, before: int | None, limit: int
    ) -> list[dict[str, Any]]:
        """Read tellings, newest first, older than number ``before``."""
        values = {"merchant_account": merchant_account, "parked": parked, "before": before, "limit": limit, "id": None}
        return self.database.all(_LIST, values)

    def one(self, telling_id: UUID, merchant_account: str | None) -> Row | None:
        """Read a telling."""
        values = {"merchant_account": merchant_account, "parked": None, "before": None, "limit": 1, "id": telling_id}
        return self.database.one(_LIST, values)

    def redeliver(self, telling_id: UUID, merchant_account: str | None) -> Ring | None:
        """Have a telling told again, whatever became of it; None when it is not there, or emptied."""
        values = {"id": telling_id, "merchant_account": merchant_account, "alarm": Alarm.CALLBACK_PARKED.value}
        row = self.database.last_of([(_LOCK_OF, values), (_REDELIVER, values)])
        return ring_of(row) if row else None

    def _settle(self, command_id: int, statement: str, values: Mapping[str, Any]) -> bool:
        every = {**values, "command_id": command_id}
        row = self.database.last_of([(_LOCK, every), (statement, every), (_SETTLE, every)])
        return bool(row and row["is_due"])
