"""Payments of a period with their journals, for whoever audits: streamed, in the order in which they were accepted."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from orchestrator.store.database import Database
from orchestrator.store.rows import Row

#: Payments that are read at once, with some ten lines each.
_BATCH: Final = 500

_PAYMENTS: Final = """
SELECT * FROM payments
WHERE created_at >= %(begins_at)s AND created_at < %(ends_at)s AND number > %(after)s
    AND (%(merchant_account)s::text IS NULL OR merchant_account = %(merchant_account)s)
ORDER BY number LIMIT %(limit)s
"""

_LINES: Final = """
SELECT j.*, d.detail FROM journal j LEFT JOIN journal_details d USING (payment_id, sequence)
WHERE j.payment_id = ANY (%(ids)s) ORDER BY j.payment_id, j.sequence
"""


@dataclass(frozen=True, slots=True)
class AuditStore:
    """Reads what an audit takes along."""

    database: Database

    def payments(
        self, merchant_account: str | None, begins_at: datetime, ends_at: datetime
    ) -> Iterator[tuple[Row, list[Row]]]:
        """Read the payments that were accepted in a period, each with the lines of its journal."""
        values = {"merchant_account": merchant_account, "begins_at": begins_at, "ends_at": ends_at, "limit": _BATCH}
        after = 0
        while batch := self.database.all(_PAYMENTS, {**values, "after": after}):
            lines = self._lines([row["id"] for row in batch])
            for row in batch:
                yield row, lines[row["id"]]
            after = batch[-1]["number"]

    def _lines(self, payment_ids: list[UUID]) -> dict[UUID, list[Row]]:
        lines: dict[UUID, list[Row]] = {payment_id: [] for payment_id in payment_ids}
        rows: list[dict[str, Any]] = self.database.all(_LINES, {"ids": payment_ids})
        for row in rows:
            lines[row["payment_id"]].append(row)
        return lines
