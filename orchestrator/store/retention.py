"""Retention: expunge what is left of payloads, and keep the proof.

Rows, journal lines and their hashes stay for ever. What goes is what lines rest on, receipts, what callers were told,
card and shopper in the row, and the platform's webhooks, each once it is old enough and nothing can need it any more.
A journal that is broken keeps everything: its details are what shows how.

What is left over says what there is to do, so a run that died is finished by the next one. Payments are looked at a
batch in a database transaction, passing over those that somebody else is moving.
"""

from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from psycopg.types.json import Jsonb

from orchestrator import evidence
from orchestrator.refunds import evidence as refund_evidence
from orchestrator.store import chain, refund_chain
from orchestrator.store.database import Connection, Database
from orchestrator.store.live import KEPT_HOURS
from orchestrator.store.pages import REJECTION_DAYS
from orchestrator.store.refund_statements import TOLD_BY_TERMINAL
from orchestrator.store.webhooks import QUARANTINE_DAYS

#: Payments of one database transaction: some 5,000 rows, a second at most.
_BATCH: Final = 500

#: Rows of other tables that one statement deletes.
_DELETED_AT_ONCE: Final = 1_000

#: A payment's id says when it was accepted, by the clock of the machine that took it in; the row decides.
_CLOCKS_DIFFER: Final = timedelta(days=1)

#: One run at a time.
_LOCK: Final = "SELECT pg_try_advisory_lock(hashtextextended('retention', 0)) AS taken"
_UNLOCK: Final = "SELECT pg_advisory_unlock(hashtextextended('retention', 0))"

#: What a person decided stands nowhere but in the detail of its line.
_KEPT_EVIDENCE: Final = ["ruled"]

#: Of a result, what is about the card; and of what was asked for, what is about the shopper and the clerk.
_CARD: Final = ["card_brand", "card_last4", "card_entry_mode", "card_funding", "auth_code", "signature"]
_SHOPPER: Final = [
    "metadata", "operator_id", "operator_language", "shift_number", "shopper_reference", "recurring_processing_model",
]  # fmt: skip

_BEGIN: Final = """
INSERT INTO retention_runs (cutoff, started_by)
SELECT now() - make_interval(days => %(days)s), %(by)s RETURNING id, cutoff
"""
_CUTOFF: Final = "SELECT NULL::bigint AS id, now() - make_interval(days => %(days)s) AS cutoff"
_FINISH: Final = "UPDATE retention_runs SET finished_at = now(), expunged = %(expunged)s WHERE id = %(id)s"

_CANDIDATES: Final = """
SELECT DISTINCT {key} AS id FROM {details} WHERE {key} > %(after)s AND {key} < %(young)s
ORDER BY {key} LIMIT %(limit)s
"""

#: Concluded and quiet: nothing to do or to tell (the sentinel is a command too), no difference, no refund under way.
_PAYMENTS: Final = """
SELECT p.id, p.sequence, p.state, p.journal_hash FROM payments p
WHERE p.id = ANY (%(ids)s) AND p.outcome IS NOT NULL AND greatest(p.concluded_at, p.reconciled_at) < %(cutoff)s
    AND NOT EXISTS (SELECT 1 FROM commands c WHERE c.payment_id = p.id)
    AND NOT EXISTS (SELECT 1 FROM differences d WHERE d.payment_id = p.id AND d.state <> 'closed')
    AND NOT EXISTS (SELECT 1 FROM refunds r WHERE r.payment_id = p.id AND r.outcome IS NULL)
ORDER BY p.id FOR UPDATE OF p SKIP LOCKED
"""
_REFUNDS: Final = """
SELECT r.id, r.sequence, r.state, r.journal_hash FROM refunds r
WHERE r.id = ANY (%(ids)s) AND r.outcome IS NOT NULL AND greatest(r.concluded_at, r.reconciled_at) < %(cutoff)s
    AND NOT EXISTS (SELECT 1 FROM commands c WHERE c.refund_id = r.id)
    AND NOT EXISTS (SELECT 1 FROM differences d
        WHERE (d.refund_id = r.id OR d.payment_id = r.payment_id) AND d.state <> 'closed')
ORDER BY r.id FOR UPDATE OF r SKIP LOCKED
"""

_EMPTY: Final = """
WITH gone AS (
        DELETE FROM {details} d USING {journal} j
        WHERE d.{key} = ANY (%(ids)s) AND j.{key} = d.{key} AND j.sequence = d.sequence AND j.at < %(cutoff)s
            AND j.evidence <> ALL (%(kept_evidence)s)
        RETURNING d.{key} AS id
    ),
    told AS (
        UPDATE tellings SET data = '{{}}'
        WHERE {key} = ANY (%(ids)s) AND delivered_at < %(cutoff)s AND data::text <> '{{}}' RETURNING 1
    )
"""
#: A statement sees the details as they were before it: what a refund has to name of them stays in the result.
_EMPTY_PAYMENTS: Final = (
    _EMPTY.format(details="journal_details", journal="journal", key="payment_id")
    + f"""
    , paper AS (
        DELETE FROM receipts WHERE payment_id = ANY (%(ids)s) AND at < %(cutoff)s RETURNING 1
    ),
    stripped AS (
        UPDATE payments p SET options = p.options - %(shopper)s::text[],
            result = nullif(coalesce((SELECT jsonb_build_object(
                    'poi_transaction_id', detail -> 'poi_transaction_id',
                    'poi_transaction_at', detail -> 'poi_transaction_at') FROM ({TOLD_BY_TERMINAL}) AS d), '{{}}')
                || (coalesce(p.result, '{{}}') - %(card)s::text[]), '{{}}')
        WHERE p.id = ANY (%(ids)s) AND (p.options ?| %(shopper)s::text[] OR p.result ?| %(card)s::text[]
            OR (p.authorised_minor IS NOT NULL AND p.result -> 'poi_transaction_id' IS NULL))
    )
SELECT (SELECT count(DISTINCT id) FROM gone) AS payments, (SELECT count(*) FROM gone) AS journal_details,
    (SELECT count(*) FROM told) AS callbacks, (SELECT count(*) FROM paper) AS receipts
"""
)
_EMPTY_REFUNDS: Final = (
    _EMPTY.format(details="refund_journal_details", journal="refund_journal", key="refund_id")
    + """
SELECT (SELECT count(DISTINCT id) FROM gone) AS refunds, (SELECT count(*) FROM gone) AS journal_details,
    (SELECT count(*) FROM told) AS callbacks
"""
)


@dataclass(frozen=True, slots=True)
class _Journalled:
    """What has a journal: payments, refunds."""

    noun: str
    candidates: str
    quiet: str
    lines: str
    empty: str
    kinds: Container[str]


_JOURNALLED: Final = (
    _Journalled(
        "refund",
        _CANDIDATES.format(key="refund_id", details="refund_journal_details"),
        _REFUNDS,
        refund_chain.LINES,
        _EMPTY_REFUNDS,
        refund_evidence.KINDS,
    ),
    _Journalled(
        "payment",
        _CANDIDATES.format(key="payment_id", details="journal_details"),
        _PAYMENTS,
        chain.LINES,
        _EMPTY_PAYMENTS,
        evidence.KINDS,
    ),
)

#: Which lines of a payment and its refunds have lost what they rest on, and how many have in all.
_EMPTIED_OF: Final = """
SELECT j.payment_id AS id, array_agg(j.sequence ORDER BY j.sequence) AS lines
FROM journal j LEFT JOIN journal_details d USING (payment_id, sequence)
WHERE j.payment_id = %(id)s AND d.detail IS NULL GROUP BY j.payment_id
UNION ALL
SELECT j.refund_id, array_agg(j.sequence ORDER BY j.sequence)
FROM refund_journal j LEFT JOIN refund_journal_details d USING (refund_id, sequence)
WHERE j.refund_id IN (SELECT id FROM refunds WHERE payment_id = %(id)s) AND d.detail IS NULL GROUP BY j.refund_id
"""
_EMPTIED: Final = """
SELECT (SELECT count(*) FROM journal) - (SELECT count(*) FROM journal_details)
    + (SELECT count(*) FROM refund_journal) - (SELECT count(*) FROM refund_journal_details) AS lines
"""

#: What a count has in any case, beside the rows that go whole.
_COUNTED: Final = ("payments", "refunds", "journal_details", "receipts", "callbacks")

#: Rows that go whole, by what they are called in the count: the table and which of them. First those with a term of
#: their own, then those that go by the setting.
_BY_TERM: Final = {
    "rejections": ("rejections", f"at < now() - interval '{REJECTION_DAYS} days'"),
    "quarantine": ("webhook_quarantine", f"last_at < now() - interval '{QUARANTINE_DAYS} days'"),
    "terminal_events": ("terminal_events", f"at < now() - interval '{KEPT_HOURS} hours'"),
}
_UNSETTLED: Final = "NOT EXISTS (SELECT 1 FROM differences d WHERE d.state <> 'closed' AND {})"
_BY_SETTING: Final = {
    "callbacks": ("tellings", "payment_id IS NULL AND refund_id IS NULL AND delivered_at < %(cutoff)s"),
    "strays": ("strays", "last_at < %(cutoff)s"),
    "webhooks": (
        "webhooks",
        f"""webhooks.received_at < %(cutoff)s AND webhooks.last_at < %(cutoff)s AND webhooks.became IS NOT NULL
            AND NOT EXISTS (SELECT 1 FROM payments p WHERE p.id = webhooks.payment_id AND p.outcome IS NULL)
            AND NOT EXISTS (SELECT 1 FROM refunds r WHERE r.id = webhooks.refund_id AND r.outcome IS NULL)
            AND {_UNSETTLED.format("d.payment_id = webhooks.payment_id")}
            AND {_UNSETTLED.format("d.psp_reference = webhooks.psp_reference")}
            AND {_UNSETTLED.format("d.psp_reference = webhooks.original_reference")}""",
    ),
}


class RetentionBusy(Exception):
    """Another run is going on."""


@dataclass(slots=True)
class Expunged:
    """What a run expunged, or would: rows by what they are called. ``cutoff`` is None where only fixed terms count.

    ``broken`` are payments and refunds whose journal is broken; they were left as they are.
    """

    cutoff: datetime | None
    counts: dict[str, int] = field(default_factory=dict)
    broken: list[UUID] = field(default_factory=list)

    def add(self, counts: dict[str, int]) -> None:
        """Count more."""
        for name, count in counts.items():
            self.counts[name] = self.counts.get(name, 0) + count


@dataclass(frozen=True, slots=True)
class RetentionStore:
    """Expunges."""

    database: Database

    def run(self, days: int | None, by: str, *, dry_run: bool = False) -> Expunged:
        """Expunge what is older than so many days, and what has a term of its own; with None only the latter.

        ``dry_run`` counts, and changes nothing.

        Raises:
            RetentionBusy: another run is going on.
        """
        with self.database.connection() as connection, _alone(connection):
            row: dict[str, Any] = {"id": None, "cutoff": None}
            if days is not None:
                begin = _CUTOFF if dry_run else _BEGIN
                row = connection.execute(begin, {"days": days, "by": by[:120]}).fetchone() or row
            expunged = Expunged(row["cutoff"])
            if expunged.cutoff is not None:
                expunged.add(dict.fromkeys(_COUNTED, 0))
                for journalled in _JOURNALLED:
                    _empty(connection, journalled, expunged, expunged.cutoff, dry_run=dry_run)
            rows = _BY_TERM if expunged.cutoff is None else _BY_TERM | _BY_SETTING
            for name, (table, which) in rows.items():
                expunged.add({name: _delete(connection, table, which, expunged.cutoff, dry_run=dry_run)})
            connection.execute(_FINISH, {"id": row["id"], "expunged": Jsonb(expunged.counts)})
            return expunged

    def emptied_lines(self) -> int:
        """Count the lines of journals that have lost what they rest on."""
        row = self.database.one(_EMPTIED, {})
        return int(row["lines"]) if row else 0

    def emptied_lines_of(self, payment_id: UUID) -> dict[UUID, list[int]]:
        """Say which lines of a payment and of its refunds have."""
        return {row["id"]: row["lines"] for row in self.database.all(_EMPTIED_OF, {"id": payment_id})}


@contextmanager
def _alone(connection: Connection) -> Iterator[None]:
    taken = connection.execute(_LOCK).fetchone()
    if not taken or not taken["taken"]:
        raise RetentionBusy
    try:
        yield
    finally:
        if not connection.broken:
            connection.execute(_UNLOCK)


def _empty(
    connection: Connection, journalled: _Journalled, expunged: Expunged, cutoff: datetime, *, dry_run: bool
) -> None:
    """Go through all that has details left and may be old enough, in the order of their ids."""
    after, young = UUID(int=0), UUID(int=int((cutoff + _CLOCKS_DIFFER).timestamp() * 1000) << 80)
    values = {
        "young": young, "limit": _BATCH, "cutoff": cutoff, "kept_evidence": _KEPT_EVIDENCE, "card": _CARD,
        "shopper": _SHOPPER,
    }  # fmt: skip
    while found := connection.execute(journalled.candidates, {**values, "after": after}).fetchall():
        after = found[-1]["id"]
        with connection.transaction(force_rollback=dry_run):
            quiet = connection.execute(journalled.quiet, {**values, "ids": [row["id"] for row in found]}).fetchall()
            broken = _broken(connection, journalled, quiet)
            whole = [row["id"] for row in quiet if row["id"] not in broken]
            expunged.add(connection.execute(journalled.empty, {**values, "ids": whole}).fetchone() or {})
        expunged.broken += broken


def _broken(connection: Connection, journalled: _Journalled, rows: Sequence[dict[str, Any]]) -> list[UUID]:
    """Those whose chain does not hold: each line's hash and detail, up to what the row says."""
    lines: dict[UUID, list[dict[str, Any]]] = {row["id"]: [] for row in rows}
    for line in connection.execute(journalled.lines, {"ids": list(lines)}):
        lines[line["payment_id"]].append(line)
    return [
        row["id"] for row in rows if any(chain.chain_problems(row, lines[row["id"]], journalled.kinds, journalled.noun))
    ]


def _delete(connection: Connection, table: str, which: str, cutoff: datetime | None, *, dry_run: bool) -> int:
    """Delete rows a few at a time, each in its own database transaction; one that changes meanwhile stays."""
    values = {"cutoff": cutoff, "limit": _DELETED_AT_ONCE}
    if dry_run:
        counted = connection.execute(f"SELECT count(*) AS n FROM {table} WHERE {which}".encode(), values).fetchone()
        return int(counted["n"]) if counted else 0
    some = f"SELECT ctid FROM {table} WHERE {which} LIMIT %(limit)s"
    statement = f"DELETE FROM {table} WHERE ctid = ANY (ARRAY ({some}))".encode()
    total = 0
    while (count := connection.execute(statement, values).rowcount) > 0:
        total += count
    return total
