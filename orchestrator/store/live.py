"""What terminals show and say: kept for two days for whoever watches, and read from where a watcher was.

The ids of one terminal's rows are given out under a lock of its own, so they rise in the order in which the rows are
committed: whoever has seen one has missed none before it. Nobody waits for other terminals, nor for whatever else runs
in the database. Old rows are removed by those who add new ones, so that nothing has to run when nothing happens.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal
from uuid import UUID

from psycopg.types.json import Jsonb

from orchestrator.meaning import Alarm
from orchestrator.store.database import Database
from orchestrator.store.rows import Row
from orchestrator.subscription import DISPLAY
from orchestrator.terminal_api.shown import Trouble, display_text, said_by
from orchestrator.views import instant

#: Rows that a watcher is given at once; more come with the next look.
BATCH_MAX: Final = 100

#: Long enough to resume after a night; longer is nobody's business, and the journal has what matters.
KEPT_HOURS: Final = 48

#: Old rows that one new row removes: more than one, so that a backlog of old ones shrinks.
_SWEPT_BY_EACH: Final = 20

#: A terminal that is out of order says so again and again.
_ALARM_AGAIN_AFTER_HOURS: Final = 1

#: Rows of a terminal among which those of the same tender are looked for: a dialogue has about ten.
_DIALOGUE_ROWS: Final = 20

#: One at a time for each terminal. A display text is not worth waiting for the disk: notifications may be lost anyway.
_TAKE_TURN: Final = """
SELECT pg_advisory_xact_lock(hashtextextended('terminal_events|' || coalesce(%(poi_id)s, ''), 0)),
    set_config('synchronous_commit', CASE WHEN %(kind)s = 'display' THEN 'off'
        ELSE current_setting('synchronous_commit') END, true)
"""

#: Which payment it is about: the one that it names, the one of the same tender, or the one that holds the terminal.
_KEEP: Final = f"""
WITH terminal AS (
        SELECT poi_id, merchant_account FROM terminals WHERE poi_id = %(poi_id)s AND removed_at IS NULL
    ),
    about AS (
        SELECT coalesce(
            (SELECT p.id FROM payments p WHERE p.poi_id = t.poi_id AND p.service_id = %(service_id)s
                AND p.merchant_account = t.merchant_account),
            (SELECT latest.payment_id FROM (SELECT e.payment_id, e.detail FROM terminal_events e
                    WHERE e.poi_id = t.poi_id ORDER BY e.id DESC LIMIT {_DIALOGUE_ROWS}) AS latest
                WHERE latest.payment_id IS NOT NULL
                    AND latest.detail->>'tender_reference' = %(detail)s::jsonb->>'tender_reference' LIMIT 1),
            (SELECT p.id FROM payments p WHERE p.holds_terminal = t.poi_id
                AND p.sale_id = coalesce(%(sale_id)s, p.sale_id))
        ) AS payment_id FROM terminal t
    ),
    kept AS (
        INSERT INTO terminal_events (poi_id, payment_id, kind, name, detail)
        SELECT t.poi_id, about.payment_id, %(kind)s, %(name)s, %(detail)s FROM terminal t, about
        RETURNING *
    ),
    marked AS (
        UPDATE terminals SET trouble = %(trouble)s::text,
            trouble_at = CASE WHEN %(trouble)s::text IS NOT NULL THEN now() END
        WHERE %(tells_trouble)s AND poi_id = (SELECT poi_id FROM terminal)
            AND trouble IS DISTINCT FROM %(trouble)s::text
    ),
    alarmed AS (
        INSERT INTO alarms (payment_id, poi_id, name)
        SELECT (SELECT payment_id FROM about), %(poi_id)s::text, %(alarm)s::text
        WHERE %(alarm)s::text IS NOT NULL AND NOT EXISTS (
            SELECT 1 FROM alarms a WHERE a.closed_at IS NULL AND a.name = %(alarm)s::text
                AND a.poi_id IS NOT DISTINCT FROM %(poi_id)s::text
                AND a.at > now() - interval '{_ALARM_AGAIN_AFTER_HOURS} hours')
    ),
    gone AS (
        DELETE FROM terminal_events WHERE id IN (
            SELECT id FROM terminal_events WHERE at < now() - interval '{KEPT_HOURS} hours'
            ORDER BY at LIMIT {_SWEPT_BY_EACH} FOR UPDATE SKIP LOCKED)
    ),
    told AS (
        INSERT INTO tellings (merchant_account, type, at, url, data)
        SELECT t.merchant_account, '{DISPLAY}', kept.at, coalesce(p.callback_url, %(callback_url)s::text),
            (%(told)s::jsonb || jsonb_build_object('payment_id', kept.payment_id,
                'merchant_account', t.merchant_account,
                'at', to_char(kept.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')))::json
        FROM terminal t, kept LEFT JOIN payments p ON p.id = kept.payment_id
        WHERE %(told)s::jsonb IS NOT NULL AND coalesce(p.callback_url, %(callback_url)s::text) IS NOT NULL
        RETURNING id
    ),
    planned AS (
        INSERT INTO commands (telling_id, kind, due_at, ring_at)
        SELECT id, 'tell_caller', now(), now() + interval '5 seconds' FROM told RETURNING id
    )
SELECT kept.*, terminal.merchant_account, (SELECT id FROM planned) AS command_id FROM kept, terminal
"""

#: Where a watcher begins: where it was (but not ahead of a database that was restored), else just before the last
#: display text, so that whoever joins late knows what stands on the screen.
_BEGIN: Final = """
SELECT CASE WHEN %(after)s::bigint IS NOT NULL
    THEN least(%(after)s::bigint, (SELECT max(id) FROM terminal_events))
    ELSE coalesce(
        (SELECT id - 1 FROM terminal_events WHERE {key} = %(key)s AND kind = 'display' ORDER BY id DESC LIMIT 1),
        (SELECT max(id) FROM terminal_events WHERE {key} = %(key)s), 0)
    END AS after
"""
_BEGIN_PAYMENT: Final = _BEGIN.format(key="payment_id")
_BEGIN_TERMINAL: Final = _BEGIN.format(key="poi_id")

#: Several watchers, each from where it is: one probe of an index for each.
_NEWS: Final = f"""
SELECT w.number, news.* FROM unnest(%(numbers)s::int[], %(poi_ids)s::text[], %(payment_ids)s::uuid[],
    %(afters)s::bigint[]) AS w (number, poi_id, payment_id, after)
CROSS JOIN LATERAL (
    (SELECT * FROM terminal_events e WHERE w.payment_id IS NULL AND e.poi_id = w.poi_id AND e.id > w.after
        ORDER BY e.id LIMIT {BATCH_MAX})
    UNION ALL
    (SELECT * FROM terminal_events e WHERE w.payment_id IS NOT NULL AND e.payment_id = w.payment_id AND e.id > w.after
        ORDER BY e.id LIMIT {BATCH_MAX})
) AS news ORDER BY w.number, news.id
"""

_MOVED: Final = """
SELECT p.* FROM unnest(%(ids)s::uuid[], %(sequences)s::int[]) AS w (id, sequence)
JOIN payments p ON p.id = w.id AND p.sequence <> w.sequence
"""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a watcher is: of a payment, or of a terminal and all that it shows; ``after`` is the last id it saw."""

    number: int
    key: UUID | str
    after: int


@dataclass(frozen=True, slots=True)
class LiveStore:
    """Keeps what terminals show and say, and reads it for those who watch.

    Where it ``tells``, what is shown is also told by callback: to the payment's caller, or to ``callback_url``.
    """

    database: Database
    callback_url: str | None = None
    tells: bool = False

    def keep(
        self,
        kind: Literal["display", "event"],
        name: str,
        detail: Mapping[str, str],
        *,
        poi_id: str | None,
        sale_id: str | None,
        service_id: str | None,
        trouble: Trouble | None,
        tells_trouble: bool,
        alarm: Alarm | None,
    ) -> Row | None:
        """Keep one; None when no such terminal is registered, so that nobody could watch it. An alarm is kept always.

        The row has the ``payment_id`` that was found, or None, the ``merchant_account``, and the ``command_id`` of the
        telling, or None. ``trouble`` is what is wrong with the terminal from now on, None for nothing, where the
        message ``tells_trouble``.
        """
        telling = {"kind": kind, "name": name, "detail": detail, "poi_id": poi_id, "payment_id": None, "at": None}
        parameters: dict[str, Any] = {
            "kind": kind, "name": name, "detail": Jsonb(dict(detail)), "poi_id": poi_id and poi_id[:64],
            "sale_id": sale_id, "service_id": service_id, "trouble": trouble and trouble.value,
            "tells_trouble": tells_trouble, "alarm": alarm and alarm.value,
            "told": Jsonb(shown(telling)) if self.tells and kind == "display" else None,
            "callback_url": self.callback_url,
        }  # fmt: skip
        return self.database.last_of([(_TAKE_TURN, parameters), (_KEEP, parameters)])

    def begin(self, key: UUID | str, after: int | None) -> int:
        """The id after which a watcher of this payment or terminal begins."""
        statement = _BEGIN_PAYMENT if isinstance(key, UUID) else _BEGIN_TERMINAL
        row = self.database.one(statement, {"key": key, "after": after})
        return int(row["after"]) if row else 0

    def news(self, places: Sequence[Place]) -> list[dict[str, Any]]:
        """Read what came after each place, by its number, in order; at most ``BATCH_MAX`` for each."""
        parameters = {
            "numbers": [place.number for place in places],
            "poi_ids": [None if isinstance(place.key, UUID) else place.key for place in places],
            "payment_ids": [place.key if isinstance(place.key, UUID) else None for place in places],
            "afters": [place.after for place in places],
        }
        return self.database.all(_NEWS, parameters)

    def moved(self, sequences: Mapping[UUID, int]) -> list[dict[str, Any]]:
        """Of these payments, those whose sequence is another by now."""
        return self.database.all(_MOVED, {"ids": list(sequences), "sequences": list(sequences.values())})


def told(row: Row) -> dict[str, Any]:
    """Show what a terminal showed as callers and listeners are told it."""
    return shown(row) | {"merchant_account": row["merchant_account"]}


def shown(row: Row) -> dict[str, Any]:
    """Show what a terminal showed or said, in words and as it came."""
    detail = row["detail"]
    common = {
        "poi_id": row["poi_id"],
        "payment_id": None if row["payment_id"] is None else str(row["payment_id"]),
        "name": row["name"],
        "at": instant(row["at"]),
    }
    if row["kind"] == "display":
        text = display_text(row["name"])
        return common | {"text": text} | {name: detail.get(name) for name in ("terminal_at", "tender_reference")}
    said = said_by(row["name"], detail)
    return common | {"text": said.text, "severity": said.severity.value, "detail": detail}
