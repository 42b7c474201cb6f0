"""What a doctor asks the database: its version, its clock, its schema, and whether due work is done."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from orchestrator.store.database import Database

_SERVER = """
SELECT current_setting('server_version_num')::int AS version, clock_timestamp() AS at,
    to_regclass('alembic_version') IS NOT NULL AS has_schema
"""
_REVISION = "SELECT version_num FROM alembic_version"
#: A send that waits for its terminal is no delay of ours: it is overdue only when nobody rings it.
_WORK = """
SELECT (SELECT extract(epoch FROM now() - min(CASE kind WHEN 'send' THEN ring_at ELSE due_at END))::float8
        FROM commands WHERE CASE kind WHEN 'send' THEN ring_at ELSE due_at END <= now()) AS oldest_due_s,
    (SELECT count(*) FROM terminals WHERE removed_at IS NULL) AS terminals,
    (SELECT count(*) FROM terminals WHERE removed_at IS NULL AND transport <> 'async') AS held_terminals,
    (SELECT count(*) FROM tag_keys) AS tag_keys
"""


#: What was quarantined within the hour: an older one is of a key that was put right since, or of a stranger.
_DOORS: Final = """
SELECT (SELECT count(*) FROM webhook_quarantine WHERE last_at > now() - interval '1 hour') AS quarantined,
    (SELECT count(*) FROM webhooks WHERE became IS NULL AND received_at < now() - interval '5 minutes') AS unprocessed,
    (SELECT count(*) FROM alarms WHERE closed_at IS NULL) AS alarms
"""


@dataclass(frozen=True, slots=True)
class Doors:
    """Webhooks that nobody believes, those that are stored and not processed, and open alarms."""

    quarantined: int
    unprocessed: int
    alarms: int


@dataclass(frozen=True, slots=True)
class Server:
    """The database server: its version (150004 is 15.4), its clock, and the schema's revision, None for none."""

    version: int
    at: datetime
    revision: str | None


@dataclass(frozen=True, slots=True)
class Work:
    """What there is to do, and for whom. ``oldest_due_s`` is None when nothing is due."""

    oldest_due_s: float | None
    terminals: int
    held_terminals: int
    tag_keys: int


def server(database: Database) -> Server:
    """Ask the server who it is."""
    row = database.one(_SERVER, {}) or {}
    revision = database.one(_REVISION, {}) if row["has_schema"] else None
    return Server(row["version"], row["at"], revision["version_num"] if revision else None)


def doors(database: Database) -> Doors:
    """Ask what came in and was not taken, and what waits for a person; only with a schema."""
    row = database.one(_DOORS, {}) or {}
    return Doors(**row)


def work(database: Database) -> Work:
    """Ask what is due and what is registered; only with a schema."""
    row = database.one(_WORK, {}) or {}
    return Work(**row)
