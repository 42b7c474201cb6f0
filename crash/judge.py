"""What must hold once a payment has ended, whatever died on the way. It reads the database and the ledger itself."""

import hashlib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, TypeAlias

import psycopg

Row: TypeAlias = dict[str, Any]
Connection: TypeAlias = psycopg.Connection[Row]

_PAYMENTS = "SELECT * FROM payments WHERE reference = %s"
_JOURNAL = """
SELECT j.*, d.sequence IS NOT NULL AS has_detail FROM journal j LEFT JOIN journal_details d USING (payment_id, sequence)
WHERE payment_id = %s ORDER BY sequence
"""
_COMMANDS = "SELECT kind FROM commands WHERE payment_id = %s"
_OPEN = """
SELECT 1 FROM payments p WHERE p.reference = %s AND (p.state NOT IN ('confirmed', 'reconciled')
    OR EXISTS (SELECT 1 FROM commands c WHERE c.payment_id = p.id AND NOT (p.sentinel AND c.kind = 'check_status')))
"""


def has_ended(connection: Connection, reference: str) -> bool:
    """Whether the payment is there, has an outcome, and nothing is left to do but to watch."""
    there = connection.execute(_PAYMENTS, [reference]).fetchone()
    return there is not None and connection.execute(_OPEN, [reference]).fetchone() is None


def violations(connection: Connection, reference: str, ledger: Sequence[Row]) -> list[str]:
    """Everything that should not be; empty when all is well."""
    with connection.transaction():
        # One snapshot: a sentinel may look at its terminal at any time, and add a line.
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        rows = connection.execute(_PAYMENTS, [reference]).fetchall()
        if len(rows) != 1:
            return [f"{len(rows)} payments for one submission"]
        (row,) = rows
        journal = connection.execute(_JOURNAL, [row["id"]]).fetchall()
        commands = [command["kind"] for command in connection.execute(_COMMANDS, [row["id"]])]
    return [*_money(row, ledger), *_chain(row, journal), *_left_behind(row, commands)]


def _money(row: Row, ledger: Sequence[Row]) -> Iterator[str]:
    of_it = [line for line in ledger if line.get("service_id") == row["service_id"]]
    requests = sum(line["kind"] == "request" and line["category"] == "Payment" for line in of_it)
    charges = [line for line in of_it if line["kind"] == "charge"]
    if requests > 1:
        yield f"{requests} payment requests in the ledger"
    if len(charges) > 1:
        yield f"{len(charges)} charges in the ledger"
    if row["outcome"] is None:
        yield f"no outcome: {row['state']}, {row['reason']}"
    elif (row["outcome"] in {"approved", "partially_approved"}) != bool(charges):
        yield f"outcome {row['outcome']}, and {len(charges)} charges in the ledger"
    elif charges and row["authorised_minor"] != row["amount_minor"]:
        yield f"authorised {row['authorised_minor']} of {row['amount_minor']}"
    if (row["sent_at"] is None) and requests:
        yield "a request in the ledger for a payment that was never claimed"


def _chain(row: Row, journal: Sequence[Row]) -> Iterator[str]:
    previous, state = "", None
    for expected, line in enumerate(journal, 1):
        if line["sequence"] != expected or not line["has_detail"]:
            yield f"journal line {line['sequence']} where {expected} belongs, or without its detail"
        if line["before"] != state:
            yield f"journal line {expected} starts at {line['before']}, the one before it ended at {state}"
        if line["hash"] != _hash(previous, line):
            yield f"journal line {expected} has another hash"
        previous, state = line["hash"], line["after"]
    if (row["sequence"], row["journal_hash"], row["state"]) != (len(journal), previous, state):
        yield "the row is not where its journal ends"
    if sum(line["evidence"] == "send_started" for line in journal) > 1:
        yield "claimed twice"


def _hash(previous: str, line: Row) -> str:
    at: datetime = line["at"]
    parts = (
        previous,
        str(line["payment_id"]),
        str(line["sequence"]),
        at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        line["evidence"],
        line["event"],
        line["before"] or "",
        line["after"],
        line["digest"] or "",
        line["detail_hash"],
    )
    return hashlib.sha256("|".join(parts).encode()).hexdigest()


def _left_behind(row: Row, commands: Sequence[str]) -> Iterator[str]:
    allowed = {"check_status"} if row["sentinel"] else set()
    if left := set(commands) - allowed:
        yield f"commands left: {', '.join(sorted(left))}"
    if row["holds_terminal"]:
        yield "the terminal is still held"
