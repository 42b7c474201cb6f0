"""Webhooks as they are kept: stored before they are acknowledged, counted when they come again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from psycopg.types.json import Jsonb

from orchestrator.meaning import Alarm
from orchestrator.model import Money
from orchestrator.store.database import Database
from orchestrator.store.rows import Row
from orchestrator.store.words import Became
from orchestrator.views import instant
from orchestrator.webhooks.items import REPORT_AVAILABLE, Item

#: What the quarantine holds at most; the oldest go. Our choice: a day of a busy shop's webhooks under a wrong key.
QUARANTINE_BODIES_MAX: Final = 2_000
QUARANTINE_BYTES_MAX: Final = 32 * 1024 * 1024
#: The platform itself gives up after this.
QUARANTINE_DAYS: Final = 30

#: Who receives a webhook takes along what somebody else stored this long ago and never finished, a few at a time.
LEFT_AFTER_S: Final = 60.0
_LEFT_LIMIT: Final = 20

#: One alarm of a kind in this time, however many bodies come.
_ALARM_EVERY: Final = "1 hour"

_MEMBERS: Final = (
    "digest text, live boolean, event_code text, success boolean, merchant_account text, psp_reference text, "
    "original_reference text, reference text, currency text, amount_minor bigint, happened_at timestamptz, "
    "reason text, terminal_id text, tender_reference text, action text, unreadable boolean, became text"
)
_NAMES: Final = ", ".join(member.split()[0] for member in _MEMBERS.split(", "))

#: In the order of their digests, so that two who store the same ones wait for each other and never both.
_KEEP: Final = f"""
INSERT INTO webhooks AS w ({_NAMES}, processed_at)
SELECT {_NAMES}, CASE WHEN became IS NOT NULL THEN now() END
FROM jsonb_to_recordset(%(items)s) AS i ({_MEMBERS}) ORDER BY digest
ON CONFLICT (digest) DO UPDATE SET times = w.times + 1, last_at = now()
RETURNING *
"""

_FINISH: Final = """
UPDATE webhooks SET became = %(became)s, payment_id = %(payment_id)s, refund_id = %(refund_id)s, processed_at = now(),
    failed_at = NULL
WHERE number = %(number)s
"""

_FAIL: Final = """
WITH failed AS (
    UPDATE webhooks SET failed_at = now() WHERE number = %(number)s AND became IS NULL RETURNING number
)
INSERT INTO alarms (name) SELECT %(alarm)s FROM failed
"""

_ALARM: Final = f"""
INSERT INTO alarms (name) SELECT %(alarm)s::text WHERE NOT EXISTS (
    SELECT 1 FROM alarms WHERE name = %(alarm)s::text AND payment_id IS NULL AND closed_at IS NULL
        AND at > now() - interval '{_ALARM_EVERY}')
"""

_LEFT: Final = """
SELECT * FROM webhooks WHERE became IS NULL AND failed_at IS NULL
    AND received_at < now() - make_interval(secs => %(after_s)s)
ORDER BY number LIMIT %(limit)s
"""

_UNPROCESSED: Final = "SELECT * FROM webhooks WHERE became IS NULL AND number > %(after)s ORDER BY number LIMIT 100"

_ONE: Final = "SELECT * FROM webhooks WHERE number = %(number)s"

_MANY: Final = """
SELECT * FROM webhooks
WHERE (%(merchant_account)s::text IS NULL OR merchant_account = %(merchant_account)s)
    AND (%(became)s::text IS NULL OR became = %(became)s)
    AND (NOT %(unprocessed)s OR became IS NULL)
ORDER BY number DESC LIMIT %(limit)s
"""

_REPORTS: Final = f"""
SELECT number, merchant_account, psp_reference AS name, reason AS url, happened_at, received_at FROM webhooks
WHERE event_code = '{REPORT_AVAILABLE}' AND success AND became = 'noted' AND number > %(after)s
    AND merchant_account = %(merchant_account)s
ORDER BY number LIMIT %(limit)s
"""

_QUARANTINE: Final = """
WITH counted AS (
    INSERT INTO tally_steps (name, labels)
    VALUES ('inbox_rejected', ARRAY[CASE WHEN %(header)s::text IS NULL THEN 'webhook-unsigned'
        ELSE 'webhook-signature' END])
)
INSERT INTO webhook_quarantine AS q (digest, size_bytes, header, body)
VALUES (%(digest)s, %(size_bytes)s, %(header)s, %(body)s)
ON CONFLICT (digest) DO UPDATE SET times = q.times + 1, last_at = now(),
    header = excluded.header, body = excluded.body
"""

_EVICT: Final = f"""
DELETE FROM webhook_quarantine WHERE last_at < now() - interval '{QUARANTINE_DAYS} days' OR digest IN (
    SELECT digest FROM (
        SELECT digest, row_number() OVER newest AS bodies, sum(size_bytes) OVER newest AS total_bytes
        FROM webhook_quarantine WINDOW newest AS (ORDER BY last_at DESC, digest)
    ) AS ranked WHERE bodies > %(bodies)s OR total_bytes > %(bytes_max)s)
"""

_QUARANTINED: Final = """
SELECT digest, size_bytes, header, body IS NOT NULL AS replayable, times, first_at, last_at FROM webhook_quarantine
ORDER BY last_at DESC LIMIT %(limit)s
"""

_REPLAYABLE: Final = """
SELECT digest, header, body FROM webhook_quarantine
WHERE body IS NOT NULL AND digest > %(after)s ORDER BY digest LIMIT 1
"""

_RELEASE: Final = "DELETE FROM webhook_quarantine WHERE digest = %(digest)s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A webhook as it is stored. ``repeated`` when it was there before, ``became`` None while it is not processed."""

    number: int
    item: Item
    received_at: datetime
    became: Became | None
    repeated: bool


@dataclass(frozen=True, slots=True)
class WebhookStore:
    """Keeps webhooks, and what became of them."""

    database: Database

    def keep(self, items: Mapping[Item, Became | None]) -> list[Kept]:
        """Store webhooks, or count them when they were stored before; each with what becomes of it, where that is
        certain already.
        """
        rows = {item.digest: _row(item, became) for item, became in items.items()}  # one body may hold one twice
        return [_kept(row) for row in self.database.all(_KEEP, {"items": Jsonb(list(rows.values()))})]

    def finish(
        self, number: int, became: Became, *, payment_id: UUID | None = None, refund_id: UUID | None = None
    ) -> None:
        """Keep what became of a webhook."""
        values = {"number": number, "became": became.value, "payment_id": payment_id, "refund_id": refund_id}
        self.database.run(_FINISH, values)

    def fail(self, number: int) -> None:
        """Keep that a webhook cannot be processed, for a defect of ours, and show it to a person."""
        self.database.run(_FAIL, {"number": number, "alarm": Alarm.DEFECT.value})

    def alarm(self, alarm: Alarm) -> None:
        """Tell a person, unless that was done within the hour."""
        self.database.run(_ALARM, {"alarm": alarm.value})

    def left_behind(self) -> list[Kept]:
        """Read some of those that were stored a while ago and never finished."""
        rows = self.database.all(_LEFT, {"after_s": LEFT_AFTER_S, "limit": _LEFT_LIMIT})
        return [_kept(row) for row in rows]

    def unprocessed(self, after: int) -> list[Kept]:
        """Read those that are not processed, whatever the reason, some at a time, after number ``after``."""
        return [_kept(row) for row in self.database.all(_UNPROCESSED, {"after": after})]

    def one(self, number: int) -> Kept | None:
        """Read a webhook."""
        row = self.database.one(_ONE, {"number": number})
        return _kept(row) if row else None

    def many(
        self, merchant_account: str | None, *, became: Became | None, unprocessed: bool, limit: int
    ) -> list[dict[str, Any]]:
        """Read webhooks, newest first."""
        values = {"merchant_account": merchant_account, "unprocessed": unprocessed, "limit": limit}
        return self.database.all(_MANY, {**values, "became": became and became.value})

    def reports_announced(self, merchant_account: str, *, after: int = 0, limit: int = 100) -> list[Row]:
        """Read which reports the platform has made: ``name``, ``url`` and when, in the order of their ``number``."""
        values = {"merchant_account": merchant_account, "after": after, "limit": limit}
        return list(self.database.all(_REPORTS, values))

    # -- the quarantine ------------------------------------------------------------------------------------------------

    def quarantine(
        self,
        *,
        digest: str,
        size_bytes: int,
        header: str | None,
        body: bytes | None,
        bodies_max: int = QUARANTINE_BODIES_MAX,
        bytes_max: int = QUARANTINE_BYTES_MAX,
    ) -> None:
        """Keep a body that nobody signed, or count it; the oldest make room."""
        kept = {"digest": digest, "size_bytes": size_bytes if body else 0, "header": header, "body": body}
        self.database.last_of([(_QUARANTINE, kept), (_EVICT, {"bodies": bodies_max, "bytes_max": bytes_max})])

    def quarantined(self, limit: int) -> Sequence[Row]:
        """Read what is in the quarantine, newest first, without the bodies."""
        return self.database.all(_QUARANTINED, {"limit": limit})

    def next_replayable(self, after: str) -> Row | None:
        """Read one body that has a signature, after the one with this digest."""
        return self.database.one(_REPLAYABLE, {"after": after})

    def release(self, digest: str) -> None:
        """Forget a body: it was replayed."""
        self.database.run(_RELEASE, {"digest": digest})


def _row(item: Item, became: Became | None) -> dict[str, Any]:
    """Spell a webhook as the table has it."""
    names = {name for name in Item.__dataclass_fields__ if name != "amount"}
    return {name: getattr(item, name) for name in names} | {
        "currency": item.amount and item.amount.currency,
        "amount_minor": None if item.amount is None else item.amount.minor,
        "became": became and became.value,
    }


def _kept(row: Row) -> Kept:
    names = {name for name in Item.__dataclass_fields__ if name not in {"amount", "happened_at"}}
    amount = None if row["currency"] is None else Money(row["currency"], row["amount_minor"])
    return Kept(
        number=row["number"],
        item=Item(**{name: row[name] for name in names}, amount=amount, happened_at=instant(row["happened_at"])),
        received_at=row["received_at"],
        became=row["became"] and Became(row["became"]),
        repeated=row["times"] > 1,
    )
