"""Receipts: what a payment's terminal wants printed, kept where the settings say so."""

from dataclasses import dataclass
from typing import Final
from uuid import UUID

from orchestrator.store.database import Database
from orchestrator.store.rows import Row

#: Follows RECORD in its database transaction. It writes nothing when that moved nothing: no line has the salted hash.
KEEP: Final = """
INSERT INTO receipts (payment_id, receipts)
SELECT payment_id, %(receipts)s FROM journal
WHERE payment_id = %(id)s AND sequence = %(sequence)s AND detail_hash = %(detail_hash)s
ON CONFLICT (payment_id) DO UPDATE SET receipts = excluded.receipts, at = now()
"""


@dataclass(frozen=True, slots=True)
class ReceiptStore:
    """Reads receipts."""

    database: Database

    def of(self, payment_id: UUID) -> Row | None:
        """The receipts of a payment, and when they came; None where none were kept."""
        return self.database.one("SELECT receipts, at FROM receipts WHERE payment_id = %(id)s", {"id": payment_id})
