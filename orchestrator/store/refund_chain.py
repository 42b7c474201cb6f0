"""Verify the journals of refunds, as ``chain`` does those of payments: the same hash, replayed through their table."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Final
from uuid import UUID

from orchestrator.model import Money, Transport
from orchestrator.policy import Policy
from orchestrator.refunds.decide import decide
from orchestrator.refunds.evidence import KINDS, from_detail
from orchestrator.refunds.model import Refund, RefundReason
from orchestrator.store.chain import EXPUNGED, chain_problems, replay, unexplained
from orchestrator.store.database import Database
from orchestrator.store.refunds import refund_of
from orchestrator.store.rows import Row

#: Refunds that are read at once.
_BATCH: Final = 500

_ONE_SNAPSHOT: Final = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"
_NEXT: Final = """
SELECT * FROM refunds WHERE number > %(after)s AND (%(payment_id)s::uuid IS NULL OR payment_id = %(payment_id)s::uuid)
ORDER BY number LIMIT %(limit)s
"""
#: The hash calls whatever a line is about ``payment_id``.
LINES: Final = f"""
SELECT j.*, j.refund_id AS payment_id, d.salt, d.detail, {EXPUNGED}
FROM refund_journal j LEFT JOIN refund_journal_details d USING (refund_id, sequence)
WHERE j.refund_id = ANY (%(ids)s) ORDER BY j.refund_id, j.sequence
"""
_TERMS: Final = ("merchant_account", "reference", "poi_id", "sale_id", "service_id")


def verify_refunds(
    database: Database, policy: Policy | None = None, payment_id: UUID | None = None
) -> Iterator[tuple[UUID, list[str]]]:
    """Say of each refund, or of each of one payment, what is wrong with its journal; nothing when it is whole."""
    after = 0
    while batch := _read_batch(database, after, payment_id):
        for row, lines in batch:
            yield row["id"], _problems(row, lines, policy or Policy())
        after = batch[-1][0]["number"]


def _read_batch(database: Database, after: int, payment_id: UUID | None) -> list[tuple[Row, list[Row]]]:
    with database.connection() as connection, connection.transaction():
        connection.execute(_ONE_SNAPSHOT)
        values = {"after": after, "payment_id": payment_id, "limit": _BATCH}
        rows = connection.execute(_NEXT, values).fetchall()
        lines: dict[UUID, list[Row]] = {row["id"]: [] for row in rows}
        for line in connection.execute(LINES, {"ids": list(lines)}):
            lines[line["refund_id"]].append(line)
    return [(row, lines[row["id"]]) for row in rows]


def _problems(row: Row, lines: Sequence[Row], policy: Policy) -> list[str]:
    problems = list(chain_problems(row, lines, KINDS, "refund"))
    if problems or any(line["detail"] is None for line in lines):
        return problems  # a broken chain explains nothing; one that retention emptied cannot be replayed
    return list(_replay_problems(row, lines, policy))


def _replay_problems(row: Row, lines: Sequence[Row], policy: Policy) -> Iterator[str]:
    """Each line's words, and in the end the row, must come out the same."""
    if not lines or lines[0]["evidence"] != "refund_accepted":
        yield "Line 1 is not the acceptance of a refund."
        return
    explained = yield from replay(_as_accepted(row, lines[0]), lines, from_detail, partial(decide, policy=policy))
    if explained is not None:
        yield from unexplained(refund_of(row), explained, "refund")


def _as_accepted(row: Row, first: Row) -> Refund:
    """The refund by the terms of its first line; where the row says another, the comparison in the end shows it."""
    terms = first["detail"]
    payment_id = terms.get("payment_id")
    return Refund(
        **{name: terms[name] for name in _TERMS},
        id=row["id"],
        payment_id=UUID(payment_id) if payment_id else None,
        amount=Money(terms["amount"]["currency"], terms["amount"]["minor"]),
        transport=Transport(row["transport"]),
        reason=RefundReason.PENDING_APPROVAL if terms["needs_approval"] else None,
    )
