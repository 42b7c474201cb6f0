"""What counters stand at: rows that came since the last look are added up in ``tallies``, some thousands at a time.

Nothing is counted on the way of a payment. Whoever reads the metrics has the counting done: rows are read by a number
that rises, from a mark on. Retention may then expunge what it likes.

A number is given out before its row is committed, so a lower one may come to light after a higher one. The newest
number that is seen is therefore counted up to only once every database transaction has ended that was writing when it
was seen. One that writes and stays open delays the counters; it makes none of them wrong.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from orchestrator.model import Stage
from orchestrator.store.database import Connection, Database
from orchestrator.store.words import COUNTED_LINES
from orchestrator.transitions import TRANSITIONS, Step

#: Rows that one database transaction counts: about 50 ms.
STEP_ROWS: Final = 5_000

#: How long one call goes on counting: a worker's day that nobody looked at takes a few calls.
COUNT_FOR_S: Final = 2.0

#: How long it waits for others to end what they write, and how often it looks: a commit takes milliseconds.
_SETTLE_WITHIN_S: Final = 1.0
_LOOK_EVERY_S: Final = 0.01

#: Upper bounds of the buckets of time to a result. A tap takes 2 s to 10 s, a PIN up to a minute; the platform ends a
#: payment at 150 s; later than that comes only what a status check or the books said.
RESULT_BUCKETS_S: Final = (1.0, 2.0, 5.0, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0, 90.0, 120.0, 150.0, 300.0, 900.0, 3600.0)

#: One counts at a time, whatever their number.
_LOCK: Final = "SELECT pg_try_advisory_lock(hashtextextended('tallies', 0)) AS taken"
_UNLOCK: Final = "SELECT pg_advisory_unlock(hashtextextended('tallies', 0))"

#: How a journal's lines spell where a payment stands.
STATES: Final = {
    Stage.QUEUED: "pending",
    Stage.SENT: "pending",
    Stage.UNKNOWN: "unknown",
    Stage.DISPUTED: "unknown",
    Stage.NOT_PERFORMED: "confirmed",
    Stage.NOT_CHARGED: "confirmed",
    Stage.CHARGED: "confirmed",
    Stage.RECONCILED_NOT_CHARGED: "reconciled",
    Stage.RECONCILED_CHARGED: "reconciled",
}


def moves_to(*stages: Stage) -> frozenset[str]:
    """Spell the steps of the table that lead to these stages as a journal line has them: event, before, after."""
    return frozenset(
        f"{event.value} {STATES[stage]} {STATES[cell.after]}"
        for (stage, event), cell in TRANSITIONS.items()
        if isinstance(cell, Step) and cell.after in stages
    )


_CONFLICTS: Final = sorted(moves_to(Stage.DISPUTED))

#: Who or what told us: the way that a result came by, which books, or what kind of evidence of our own.
_SOURCE: Final = """
    CASE evidence WHEN 'ruled' THEN 'person' WHEN 'abort_asked' THEN 'caller' WHEN 'send_by_passed' THEN 'clock'
        WHEN 'not_found_reported' THEN 'status' WHEN 'not_delivered' THEN 'connection'
        WHEN 'request_rejected' THEN 'platform' WHEN 'report_silent' THEN 'report'
        ELSE coalesce(detail ->> 'channel', nullif(split_part(detail ->> 'source', ':', 1), ''), 'other') END
"""
_CONCLUDED: Final = "before IN ('pending', 'unknown') AND after IN ('confirmed', 'reconciled')"

#: What lines of either journal say of our requests. A status check that brought the result counts as one.
_ASKED: Final = """
    SELECT 'status_checks', ARRAY[CASE evidence WHEN 'in_progress_reported' THEN 'in_progress'
        WHEN 'not_found_reported' THEN 'not_found' WHEN 'answer_missing' THEN 'no_answer'
        WHEN 'request_rejected' THEN 'refused' ELSE 'result' END], 1 FROM batch
    WHERE evidence IN ('in_progress_reported', 'not_found_reported')
        OR detail ->> 'channel' = 'status' OR detail ->> 'exchange' = 'status'
    UNION ALL
    SELECT 'requests_failed', ARRAY[CASE coalesce(detail ->> 'exchange', 'payment') WHEN 'payment' THEN '{noun}'
        ELSE detail ->> 'exchange' END, CASE evidence WHEN 'not_delivered' THEN 'not_delivered'
        WHEN 'answer_missing' THEN 'no_answer' ELSE 'refused' END], 1
    FROM batch WHERE evidence IN ('not_delivered', 'answer_missing', 'request_rejected')
"""

_LINES: Final = """
    SELECT j.number, j.at, j.evidence, j.event, j.before, j.after, d.detail, s.outcome, s.currency, s.created_at
    FROM (SELECT * FROM {journal} WHERE number > (SELECT mark FROM here) AND number <= %(upto)s AND {counted}
          ORDER BY number LIMIT %(limit)s) AS j
    JOIN {subjects} s ON s.id = j.{key}
    LEFT JOIN {journal}_details d ON d.{key} = j.{key} AND d.sequence = j.sequence
"""
_OF_PAYMENTS: Final = f"""
    SELECT 'payments', ARRAY[coalesce(outcome, 'contradicted'), currency, {_SOURCE}], 1 FROM batch WHERE {_CONCLUDED}
    UNION ALL SELECT 'unknown', '{{}}', 1 FROM batch WHERE before <> 'unknown' AND after = 'unknown'
    UNION ALL SELECT 'conflicting_evidence', '{{}}', 1 FROM batch
        WHERE concat_ws(' ', event, before, after) = ANY (%(conflicts)s::text[])
    UNION ALL SELECT 'time_to_result_bucket',
        ARRAY[width_bucket(extract(epoch FROM at - created_at)::float8, %(buckets)s::float8[])::text], 1
        FROM batch WHERE {_CONCLUDED}
    UNION ALL SELECT 'time_to_result_sum', '{{}}', greatest(extract(epoch FROM at - created_at)::float8, 0)
        FROM batch WHERE {_CONCLUDED}
    UNION ALL {_ASKED.format(noun="payment")}
"""
_OF_REFUNDS: Final = f"""
    SELECT 'refunds', ARRAY[coalesce(outcome, 'open'), currency, {_SOURCE}], 1 FROM batch WHERE {_CONCLUDED}
    UNION ALL {_ASKED.format(noun="refund")}
"""


def _rows(table: str, number: str, columns: str) -> str:
    return f"""
        SELECT {number} AS number, {columns} FROM {table}
        WHERE {number} > (SELECT mark FROM here) AND {number} <= %(upto)s ORDER BY {number} LIMIT %(limit)s
    """


@dataclass(frozen=True, slots=True)
class _Feed:
    """What is counted: a table, its rising number, its rows after the mark, and what each adds to which counter."""

    table: str
    number: str
    batch: str
    counts: str
    where: str = "true"


def _journal(journal: str, subjects: str, key: str, counts: str) -> _Feed:
    batch = _LINES.format(journal=journal, subjects=subjects, key=key, counted=COUNTED_LINES)
    return _Feed(journal, "number", batch, counts, COUNTED_LINES)


FEEDS: Final[Mapping[str, _Feed]] = {
    "lines": _journal("journal", "payments", "payment_id", _OF_PAYMENTS),
    "refund_lines": _journal("refund_journal", "refunds", "refund_id", _OF_REFUNDS),
    "payments": _Feed(
        "payments",
        "number",
        _rows("payments", "number", "transport"),
        "SELECT 'payments_accepted', ARRAY[transport::text], 1 FROM batch",
    ),
    "refunds": _Feed(
        "refunds", "number", _rows("refunds", "number", "1"), "SELECT 'refunds_accepted', '{}'::text[], 1 FROM batch"
    ),
    "alarms": _Feed(
        "alarms",
        "id",
        _rows("alarms", "id", "name, sequence"),
        # The other payments of a sale that was charged late are alarmed too, without a line of their own.
        """SELECT 'alarms_raised', ARRAY[name::text], 1 FROM batch
        UNION ALL SELECT 'late_results', '{}', 1 FROM batch WHERE name = 'late_approval' AND sequence IS NOT NULL""",
    ),
    "tellings": _Feed(
        "tellings", "number", _rows("tellings", "number", "1"), "SELECT 'callbacks_made', '{}'::text[], 1 FROM batch"
    ),
    "rejections": _Feed(
        "rejections",
        "id",
        _rows("rejections", "id", "problem"),
        "SELECT 'submissions_rejected', ARRAY[problem::text], 1 FROM batch",
    ),
    "webhooks": _Feed(
        "webhooks", "number", _rows("webhooks", "number", "1"), "SELECT 'webhooks', '{}'::text[], 1 FROM batch"
    ),
}

_ADD: Final = """
    INSERT INTO tallies AS t (name, labels, value) {counts}
    ON CONFLICT (name, labels) DO UPDATE SET value = t.value + excluded.value
"""


def _count_of(name: str, feed: _Feed) -> str:
    summed = f"SELECT name, labels, sum(n) FROM ({feed.counts}) AS c (name, labels, n) GROUP BY name, labels"
    return f"""
    WITH here AS MATERIALIZED (SELECT mark FROM tally_marks WHERE feed = '{name}' FOR UPDATE),
        batch AS MATERIALIZED ({feed.batch}),
        added AS ({_ADD.format(counts=summed)})
    UPDATE tally_marks SET mark = CASE WHEN (SELECT count(*) FROM batch) < %(limit)s
        THEN greatest(mark, %(upto)s) ELSE (SELECT max(number) FROM batch) END
    WHERE feed = '{name}' RETURNING (SELECT count(*) FROM batch) AS counted
    """


_COUNTS: Final = {name: _count_of(name, feed) for name, feed in FEEDS.items()}

#: How far each table is counted, and how far it goes.
_NEWEST: Final = " UNION ALL ".join(
    f"""SELECT '{name}' AS feed, mark,
    (SELECT coalesce(max({feed.number}), 0) FROM {feed.table} WHERE {feed.where}) AS newest
    FROM tally_marks WHERE feed = '{name}'"""
    for name, feed in FEEDS.items()
)

#: Whoever writes holds a lock on its own xid from before its first row to after its end is visible. Those of other
#: databases on the server are none of ours; one that is prepared belongs to no process, and may be.
_XIDS: Final = "locktype = 'transactionid' AND mode = 'ExclusiveLock' AND granted"
_WRITERS: Final = f"""
SELECT coalesce(array_agg(l.transactionid::text), '{{}}') AS xids
FROM (SELECT * FROM pg_locks WHERE {_XIDS}) AS l LEFT JOIN pg_stat_activity a ON a.pid = l.pid
WHERE l.pid IS DISTINCT FROM pg_backend_pid()
    AND (a.datid IS NULL OR a.datid = (SELECT oid FROM pg_database WHERE datname = current_database()))
"""
_STILL: Final = f"SELECT 1 FROM pg_locks WHERE {_XIDS} AND transactionid::text = ANY (%(xids)s) LIMIT 1"

#: Steps are taken away as they are counted: nobody's number matters, and who is not committed yet comes next time.
_TAKE_STEPS: Final = f"""
WITH taken AS (
    DELETE FROM tally_steps WHERE id = ANY (ARRAY(
        SELECT id FROM tally_steps ORDER BY id LIMIT %(limit)s FOR UPDATE SKIP LOCKED)) RETURNING name, labels
), added AS (
    {_ADD.format(counts="SELECT name, labels, count(*) FROM taken GROUP BY name, labels")}
)
SELECT count(*) AS counted FROM taken
"""

#: What was made and neither waits nor was given up arrived. One that is told again after all counts once.
_DELIVERED: Final = """
WITH made AS (SELECT value FROM tallies WHERE name = 'callbacks_made'),
    open AS (SELECT count(*) AS n FROM tellings WHERE delivered_at IS NULL AND parked_at IS NULL),
    parked AS (SELECT count(*) AS n FROM tellings WHERE parked_at IS NOT NULL),
    now_at AS (SELECT (SELECT value FROM made) - (SELECT n FROM open) - (SELECT n FROM parked) AS value)
INSERT INTO tallies AS t (name, labels, value)
SELECT 'callbacks_delivered', '{}'::text[], value FROM now_at
WHERE value > coalesce((SELECT value FROM tallies WHERE name = 'callbacks_delivered'), 0)
ON CONFLICT (name, labels) DO UPDATE SET value = greatest(t.value, excluded.value)
"""

_READ: Final = "SELECT name, labels, value FROM tallies"


@dataclass(frozen=True, slots=True)
class TallyStore:
    """Counts, and says what it counted."""

    database: Database

    def count(self, for_s: float = COUNT_FOR_S, step_rows: int = STEP_ROWS) -> bool:
        """Count what came since the last call; return whether nothing is left. Harmless from several sides at once."""
        until_s = time.monotonic() + for_s
        with self.database.connection() as connection, _alone(connection) as alone:
            if not alone:
                return False
            found = connection.execute(_NEWEST.encode()).fetchall()
            behind = {row["feed"]: row["newest"] for row in found if row["newest"] > row["mark"]}
            done = not behind or _settled(connection)
            if done:
                done = all(_count(connection, name, upto, step_rows, until_s) for name, upto in behind.items())
            done &= _steps(connection, step_rows, until_s)
            connection.execute(_DELIVERED)
            return done

    def read(self) -> Sequence[Mapping[str, Any]]:
        """Read every counter: ``name``, ``labels``, ``value``."""
        return self.database.all(_READ, {})


@contextmanager
def _alone(connection: Connection) -> Iterator[bool]:
    taken = connection.execute(_LOCK).fetchone()
    if not taken or not taken["taken"]:
        yield False
        return
    try:
        yield True
    finally:
        if not connection.broken:
            connection.execute(_UNLOCK)


def _settled(connection: Connection) -> bool:
    """Wait until all have ended who write now: whatever numbers they took, their rows are there then, or never."""
    give_up_s = time.monotonic() + _SETTLE_WITHIN_S
    writers = connection.execute(_WRITERS.encode()).fetchone() or {"xids": []}
    while writers["xids"] and connection.execute(_STILL, writers).fetchone():
        if time.monotonic() > give_up_s:
            return False
        time.sleep(_LOOK_EVERY_S)
    return True


def _count(connection: Connection, name: str, upto: int, step_rows: int, until_s: float) -> bool:
    values = {"upto": upto, "limit": step_rows, "conflicts": _CONFLICTS, "buckets": list(RESULT_BUCKETS_S)}
    while True:
        row = connection.execute(_COUNTS[name].encode(), values).fetchone()
        if row is None or row["counted"] < step_rows:
            return True
        if time.monotonic() > until_s:
            return False


def _steps(connection: Connection, step_rows: int, until_s: float) -> bool:
    while True:
        row = connection.execute(_TAKE_STEPS.encode(), {"limit": step_rows}).fetchone()
        if row is None or row["counted"] < step_rows:
            return True
        if time.monotonic() > until_s:
            return False
