"""Signs of health for people: what is due, what came in last, how full the database is. Each part reads few rows."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from orchestrator.store.database import Database

#: A command that was rung or put off lies at most ten minutes ahead (``Store.put_off``): what is due is before this.
_AHEAD: Final = "interval '15 minutes'"

#: Journal lines that are looked through for the last pushed one: where every result has to be asked for, some hours.
_LINES: Final = 500

#: A send that waits for its terminal is no delay of ours: it is overdue only when nobody rings it.
_COMMANDS: Final = f"""
SELECT kind, count(*) FILTER (WHERE since <= now()) AS due, count(*) FILTER (WHERE since > now()) AS soon,
    extract(epoch FROM now() - min(since) FILTER (WHERE since <= now()))::float8 AS oldest_due_s
FROM (SELECT kind, CASE kind WHEN 'send' THEN ring_at ELSE due_at END AS since FROM commands
    WHERE ring_at <= now() + {_AHEAD}) AS near
GROUP BY kind ORDER BY kind
"""

_VITALS: Final = f"""
SELECT clock_timestamp() AS at,
    current_setting('server_version_num')::int AS server_version,
    (SELECT version_num FROM alembic_version) AS revision,
    pg_database_size(current_database()) AS size_bytes,
    (SELECT sum(numbackends)::int FROM pg_stat_database) AS connections,
    current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
        AS connections_max,
    greatest(
        (SELECT l.at FROM (SELECT payment_id, sequence, number, at FROM journal
                WHERE number IS NOT NULL AND event NOT IN ('accepted', 'send_started')
                ORDER BY number DESC LIMIT {_LINES}) AS l
            JOIN journal_details d ON d.payment_id = l.payment_id AND d.sequence = l.sequence
            WHERE d.detail ->> 'channel' = 'notification' ORDER BY l.number DESC LIMIT 1),
        (SELECT at FROM terminal_events ORDER BY id DESC LIMIT 1)
    ) AS notified_at,
    (SELECT received_at FROM webhooks ORDER BY number DESC LIMIT 1) AS webhook_at,
    (SELECT count(*) FROM webhooks WHERE became IS NULL) AS webhooks_unprocessed,
    (SELECT count(*) FROM webhook_quarantine) AS quarantined,
    (SELECT max(last_at) FROM webhook_quarantine) AS quarantined_at,
    (SELECT count(*) FROM tellings WHERE parked_at IS NOT NULL) AS callbacks_parked,
    (SELECT count(*) FROM alarms WHERE closed_at IS NULL) AS alarms_open,
    (SELECT count(*) FROM terminals WHERE removed_at IS NULL) AS terminals,
    (SELECT count(*) FROM terminals WHERE removed_at IS NULL AND held_at IS NOT NULL) AS terminals_held,
    (SELECT count(*) FROM terminals WHERE removed_at IS NULL AND trouble IS NOT NULL) AS terminals_in_trouble,
    (SELECT max(created_at) FROM (SELECT created_at FROM payments ORDER BY number DESC LIMIT 1) AS p) AS payment_at
"""


@dataclass(frozen=True, slots=True)
class Commands:
    """What of one kind is due, or will be within a quarter of an hour. ``oldest_due_s`` is None when nothing is due."""

    kind: str
    due: int
    soon: int
    oldest_due_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Vitals:
    """The installation at an instant, as its database knows it; ``server_version`` 150004 is 15.4."""

    at: datetime
    server_version: int
    revision: str | None
    size_bytes: int
    connections: int
    connections_max: int
    notified_at: datetime | None
    webhook_at: datetime | None
    webhooks_unprocessed: int
    quarantined: int
    quarantined_at: datetime | None
    callbacks_parked: int
    alarms_open: int
    terminals: int
    terminals_held: int
    terminals_in_trouble: int
    payment_at: datetime | None


@dataclass(frozen=True, slots=True)
class VitalStore:
    """Reads them."""

    database: Database

    def read(self) -> Vitals:
        """Read all but the commands."""
        row = self.database.one(_VITALS, {}) or {}
        return Vitals(**row)

    def commands(self) -> list[Commands]:
        """Read what is due and what will be, by kind."""
        return [Commands(**row) for row in self.database.all(_COMMANDS, {})]
