"""Verify journals without the database's help: the hash chain line by line, and that the lines explain the row.

The hash is computed here on its own, from what ``statements`` says that a line covers. A database transaction reads a
payment and its lines on one snapshot, so that a payment that moves meanwhile is no problem of the chain's.
"""

import hashlib
import re
from collections.abc import Callable, Container, Generator, Iterator, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, TypeVar
from uuid import UUID

from orchestrator.decide import decide
from orchestrator.errors import Defect
from orchestrator.evidence import KINDS, from_detail
from orchestrator.model import Money, Transaction, Transport
from orchestrator.policy import Policy
from orchestrator.store.database import Connection, Database
from orchestrator.store.rows import Row, detail_hash, transaction_of

_T = TypeVar("_T")
_E = TypeVar("_E")

#: Payments that are read at once: enough to hide the round trip, little enough to hold in memory.
_BATCH: Final = 500

_ONE_SNAPSHOT: Final = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"
_PAYMENTS: Final = "SELECT * FROM payments WHERE id = ANY (%(ids)s)"
_NEXT: Final = "SELECT * FROM payments WHERE number > %(after)s ORDER BY number LIMIT %(limit)s"
#: A detail that is not there was expunged, or somebody else took it away.
EXPUNGED: Final = "(d.detail IS NULL AND j.at < (SELECT max(cutoff) FROM retention_runs)) AS expunged"
LINES: Final = f"""
SELECT j.*, d.salt, d.detail, {EXPUNGED}
FROM journal j LEFT JOIN journal_details d USING (payment_id, sequence)
WHERE j.payment_id = ANY (%(ids)s) ORDER BY j.payment_id, j.sequence
"""
_HEX_64: Final = re.compile(r"[0-9a-f]{64}\Z")
_HEX_32: Final = re.compile(r"[0-9a-f]{32}\Z")

#: What a slug of ours looks like. A line's hash joins its fields by ``|``; with none of them able to hold one, no two
#: different lines read alike.
_SLUG: Final = re.compile(r"[a-z_]{1,40}\Z")

#: What the acceptance fixes; everything else a transaction has comes from its journal.
_TERMS: Final = ("merchant_account", "reference", "poi_id", "sale_id", "service_id")

_AS_ACCEPTED: Final = ("id", "reference", "merchant_account", "poi_id", "sale_id", "service_id")


def verify_chain(database: Database, payment_id: UUID, policy: Policy | None = None) -> list[str]:
    """Say what is wrong with a payment's journal, in sentences; nothing when it is whole and explains the row.

    ``policy`` is the one that the decisions were made under, where a time scale is in use.
    """
    with database.connection() as connection, connection.transaction():
        connection.execute(_ONE_SNAPSHOT)
        rows = connection.execute(_PAYMENTS, {"ids": [payment_id]}).fetchall()
        lines = _lines_of(connection, [payment_id])
    if not rows:
        return ["There is no such payment" + (", but it has a journal." if lines[payment_id] else ".")]
    return journal_problems(rows[0], lines[payment_id], policy or Policy())


def verify_all(database: Database, policy: Policy | None = None) -> Iterator[tuple[UUID, list[str]]]:
    """Verify every payment, oldest first, a batch in memory at a time."""
    after = 0
    while batch := _read_batch(database, after):
        for row, lines in batch:
            yield row["id"], journal_problems(row, lines, policy or Policy())
        after = batch[-1][0]["number"]


def _read_batch(database: Database, after: int) -> list[tuple[Row, list[Row]]]:
    with database.connection() as connection, connection.transaction():
        connection.execute(_ONE_SNAPSHOT)
        rows = connection.execute(_NEXT, {"after": after, "limit": _BATCH}).fetchall()
        lines = _lines_of(connection, [row["id"] for row in rows])
    return [(row, lines[row["id"]]) for row in rows]


def _lines_of(connection: Connection, payment_ids: list[UUID]) -> dict[UUID, list[Row]]:
    lines: dict[UUID, list[Row]] = {payment_id: [] for payment_id in payment_ids}
    for line in connection.execute(LINES, {"ids": payment_ids}):
        lines[line["payment_id"]].append(line)
    return lines


def journal_problems(row: Row, lines: Sequence[Row], policy: Policy) -> list[str]:
    """Say what is wrong with a journal that was read already: all of its lines, as ``LINES`` reads them."""
    problems = list(chain_problems(row, lines))
    if problems or any(line["detail"] is None for line in lines):
        return problems  # a broken chain explains nothing; one that retention emptied cannot be replayed
    return list(_replay_problems(row, lines, policy))


def line_hash(previous: str, line: Row) -> str:
    """SHA-256 over the hash before it and everything the line says."""
    at = line["at"].astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    said = (
        previous, str(line["payment_id"]), str(line["sequence"]), at, line["evidence"], line["event"],
        line["before"] or "", line["after"], line["digest"] or "", line["detail_hash"],
    )  # fmt: skip
    return hashlib.sha256("|".join(said).encode()).hexdigest()


def chain_problems(
    row: Row, lines: Sequence[Row], kinds: Container[str] = KINDS, noun: str = "payment"
) -> Iterator[str]:
    """Say what is wrong with the chain alone; ``row`` belongs to a ``noun`` whose journal holds these kinds."""
    previous = ""
    for number, line in enumerate(lines, start=1):
        if line["sequence"] != number:
            yield f"Line {number} is missing: line {line['sequence']} stands in its place."
            return
        yield from _line_problems(line, kinds)
        if line_hash(previous, line) != line["hash"]:
            yield f"Line {number} does not have the hash that its words and the line before it give."
        previous = line["hash"]
    if row["sequence"] != len(lines):
        yield f"The {noun} counts {row['sequence']} lines, the journal has {len(lines)}."
    if row["journal_hash"] != previous:
        yield f"The {noun}'s hash is not that of its last line."
    elif lines and row["state"] != lines[-1]["after"]:
        yield f"The {noun} is {row['state']}, and its last line says {lines[-1]['after']}."


def _line_problems(line: Row, kinds: Container[str]) -> Iterator[str]:
    number = line["sequence"]
    if line["evidence"] not in kinds:
        yield f"Line {number} rests on a kind of evidence that does not exist."
    if not all(_SLUG.match(word) for word in (line["event"], line["after"], line["before"] or "none")):
        yield f"Line {number} has a word that we never write."
    if line["digest"] is not None and not _HEX_64.match(line["digest"]):
        yield f"Line {number} has a digest that is none."
    if line["detail"] is None:
        if not line["expunged"]:
            yield f"Line {number} has lost its detail, and not to retention, which has not come that far."
        return
    if not _HEX_32.match(line["salt"]):
        yield f"Line {number} has a salt that is none."
    if detail_hash(line["salt"], line["detail"]) != line["detail_hash"]:
        yield f"Line {number} was given another detail after it was written."


def replay(
    accepted: _T, lines: Sequence[Row], read: Callable[[str, Row], _E], decide_again: Callable[[_T, _E, datetime], Any]
) -> Generator[str, None, _T | None]:
    """Decide again, from the acceptance on, and say where a line's words come out otherwise.

    Returns what the lines explain; None when one of them could not have happened.
    """
    believed = accepted
    for line in lines[1:]:
        evidence = read(line["evidence"], {**line["detail"], "digest": line["digest"]})
        try:
            decision = decide_again(believed, evidence, line["at"])
        except Defect as defect:
            yield f"Line {line['sequence']} could not have happened: {defect}."
            return None
        said = (decision.event.value, decision.before.state.value, decision.after.state.value)
        if said != (line["event"], line["before"], line["after"]):
            yield f"Line {line['sequence']} says {line['event']}; its evidence means {decision.event.value}."
        believed = decision.after
    return believed


def unexplained(stored: _T, explained: _T, noun: str) -> Iterator[str]:
    """Say which fields of the ``noun`` its journal does not come to."""
    for field in fields(stored):  # type: ignore[arg-type]  # both are data classes; the type says no more than T
        if getattr(stored, field.name) != getattr(explained, field.name):
            yield f"The {noun}'s {field.name} is not what its journal explains."


def _replay_problems(row: Row, lines: Sequence[Row], policy: Policy) -> Iterator[str]:
    """Each line's words, and in the end the row, must come out the same."""
    explained = yield from replay(_as_accepted(row), lines, from_detail, partial(decide, policy=policy))
    if explained is None:
        return
    if lines and (lines[0]["evidence"], lines[0]["after"]) != ("submission_accepted", "pending"):
        yield "Line 1 is not the acceptance of a submission."
    yield from _terms_problems(row, lines[0])
    yield from unexplained(transaction_of(row), explained, "payment")


def _terms_problems(row: Row, first: Row) -> Iterator[str]:
    """What was asked for stands in the first line; the row must not say anything else."""
    terms = {name: row[name] for name in _TERMS} | {
        "amount": {"currency": row["currency"], "minor": row["amount_minor"]}
    }
    for name, value in terms.items():
        if first["detail"].get(name) != value:
            yield f"The payment's {name} is not the one that was accepted."


def _as_accepted(row: Row) -> Transaction:
    return Transaction(
        **{name: row[name] for name in _AS_ACCEPTED},
        amount=Money(row["currency"], row["amount_minor"]),
        transport=Transport(row["transport"]),
    )
