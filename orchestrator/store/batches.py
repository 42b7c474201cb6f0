"""Many decisions in one database transaction, for runs over whole days.

The same row, journal line and hash as ``statements.RECORD`` writes, for decisions that ask for nothing else: no
command, no telling, no alarm, no terminal that becomes free. What asks for more is written one by one.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import attrgetter
from typing import Any, Final
from uuid import UUID

from psycopg.types.json import Jsonb

from orchestrator.commands import CommandKind
from orchestrator.decide import Decision
from orchestrator.evidence import Evidence
from orchestrator.store.database import Database
from orchestrator.store.rows import Loaded, loaded_of, record_parameters
from orchestrator.store.statements import LINE_HASH, compact
from orchestrator.subscription import Subscription

_LOAD: Final = "SELECT *, clock_timestamp() AS read_at FROM payments WHERE id = ANY (%(ids)s)"

_KNOWN: Final = """
SELECT j.payment_id FROM unnest(%(ids)s::uuid[], %(digests)s::text[]) AS e (payment_id, digest)
JOIN journal j ON j.payment_id = e.payment_id AND j.digest = e.digest
"""

#: What a decision of this kind moves, and its type.
_COLUMNS: Final = {
    "id": "uuid", "expected_sequence": "int", "sequence": "int", "at": "timestamptz", "evidence": "text",
    "event": "text", "before": "text", "digest": "text", "state": "text", "outcome": "text", "reason": "text",
    "concluded_at": "timestamptz", "reconciled_at": "timestamptz", "authorised_minor": "bigint",
    "psp_reference": "text", "late": "boolean", "provisional": "boolean", "sentinel": "boolean", "books": "jsonb",
    "obsolete": "text[]", "salt": "text", "detail": "jsonb", "detail_hash": "text",
}  # fmt: skip

_HASH: Final = LINE_HASH.format(
    previous="p.journal_hash",
    payment_id="p.id",
    sequence="d.sequence",
    at="d.at",
    evidence="d.evidence",
    event="d.event",
    before="d.before",
    after="d.state",
    digest="d.digest",
    detail_hash="d.detail_hash",
)

_RECORD: Final = compact(f"""
WITH d AS MATERIALIZED (
        SELECT * FROM json_to_recordset(%(decisions)s::json)
        AS r ({", ".join(f"{name} {kind}" for name, kind in _COLUMNS.items())})
    ),
    moved AS (
        UPDATE payments p SET state = d.state, outcome = d.outcome, reason = d.reason, sequence = d.sequence,
            concluded_at = d.concluded_at, reconciled_at = d.reconciled_at, authorised_minor = d.authorised_minor,
            psp_reference = d.psp_reference, late = d.late, provisional = d.provisional, sentinel = d.sentinel,
            books = d.books, journal_hash = {_HASH}
        FROM d WHERE p.id = d.id AND p.sequence = d.expected_sequence
        RETURNING d.*, p.journal_hash AS hash
    ),
    line AS (
        INSERT INTO journal (payment_id, sequence, at, evidence, event, before, after, digest, detail_hash, hash)
        SELECT id, sequence, at, evidence, event, before, state, digest, detail_hash, hash FROM moved
    ),
    detail AS (
        INSERT INTO journal_details (payment_id, sequence, salt, detail)
        SELECT id, sequence, salt, detail FROM moved
    ),
    gone AS (
        DELETE FROM commands c USING moved WHERE c.payment_id = moved.id AND c.kind = ANY (moved.obsolete)
    )
SELECT id FROM moved
""")

#: Of a transaction: what the statement above does not write.
_UNTOUCHED: Final = attrgetter(
    "sent_at", "tender_reference", "abort_asked", "refused_with", "not_found_at", "checked_at", "checks",
    "asked_since_unknown",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Batches:
    """Reads and writes many payments at once."""

    database: Database

    def load(self, payment_ids: Sequence[UUID]) -> list[Loaded]:
        """Read these payments; those that are there."""
        return [loaded_of(row) for row in self.database.all(_LOAD, {"ids": list(payment_ids)})]

    def known(self, evidence: Mapping[UUID, Evidence]) -> set[UUID]:
        """Of these payments, those whose journal has this very evidence already."""
        values = {"ids": list(evidence), "digests": [each.digest for each in evidence.values()]}
        return {row["payment_id"] for row in self.database.all(_KNOWN, values)}

    def record(self, writes: Iterable[Mapping[str, Any]]) -> set[UUID]:
        """Write what ``parameters`` spelled; return the payments that moved. The others were moved by somebody else.

        Raises:
            Conflict: one piece of evidence is in a journal already; nothing was written.
        """
        decisions = json.dumps(list(writes), default=_plain)
        return {row["id"] for row in self.database.all(_RECORD, {"decisions": decisions})}


def parameters(
    decision: Decision, evidence: Evidence, loaded: Loaded, subscription: Subscription
) -> dict[str, Any] | None:
    """Spell a decision for ``Batches.record``; None for one that asks for more than a row and a line."""
    if decision.alarm is not None or any(plan.kind is not CommandKind.TELL_CALLER for plan in decision.commands):
        return None
    if _UNTOUCHED(decision.before) != _UNTOUCHED(decision.after):
        return None
    values = record_parameters(decision, evidence, loaded, None, None, subscription=subscription)
    if values["told"] is not None or values["frees"] or values["result"] is not None:
        return None
    return {name: values[name] for name in _COLUMNS}


def _plain(value: object) -> object:
    """What JSON has no word for."""
    if isinstance(value, Jsonb):
        return value.obj
    return value.isoformat() if isinstance(value, datetime) else str(value)
