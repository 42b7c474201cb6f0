"""The database by plain SQL, as JSON that a judge reads without a line of the product."""

import json
from pathlib import Path
from typing import Any, TypeAlias

import psycopg
from psycopg.rows import dict_row

from gauntlet.servers import libpq

Row: TypeAlias = dict[str, Any]
Dump: TypeAlias = dict[str, list[Row]]

_INSTANT = """'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'"""

_QUERIES = {
    "payments": f"""
        SELECT id::text, number, merchant_account, idempotency_key, reference, poi_id, sale_id, service_id, currency,
            amount_minor, authorised_minor, psp_reference, state, outcome, reason, sequence, sentinel, late,
            journal_hash, override_by, holds_terminal, to_char(send_by AT TIME ZONE 'UTC', {_INSTANT}) AS send_by,
            to_char(sent_at AT TIME ZONE 'UTC', {_INSTANT}) AS sent_at,
            to_char(concluded_at AT TIME ZONE 'UTC', {_INSTANT}) AS concluded_at
        FROM payments ORDER BY number
    """,
    "journal": f"""
        SELECT payment_id::text, sequence, to_char(at AT TIME ZONE 'UTC', {_INSTANT}) AS at, evidence, event, before,
            after, digest, detail_hash, hash, salt, detail
        FROM journal JOIN journal_details USING (payment_id, sequence) ORDER BY payment_id, sequence
    """,
    "commands": "SELECT payment_id::text, kind, due_at <= now() AS is_due, attempts FROM commands ORDER BY id",
    "alarms": "SELECT payment_id::text, name FROM alarms ORDER BY id",
    "rejections": "SELECT merchant_account, idempotency_key, reference, problem FROM rejections ORDER BY id",
    "strays": "SELECT why, poi_id, service_id, times FROM strays ORDER BY digest",
}


def dump(database_url: str) -> Dump:
    """Read everything that the judge looks at, as of one instant."""
    with psycopg.connect(libpq(database_url), row_factory=dict_row) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        return {name: connection.execute(query).fetchall() for name, query in _QUERIES.items()}


def save(data: Dump, path: Path) -> None:
    """Write a dump to a file."""
    path.write_text(json.dumps(data, separators=(",", ":")), encoding="utf-8")


def read_lines(path: Path) -> list[Row]:
    """The JSON lines of a ledger or a client log; a last line that a crash left unfinished is not one."""
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.endswith("\n")]
