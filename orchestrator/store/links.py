"""What of ours an entry in the platform's books may be about."""

from dataclasses import dataclass
from typing import Final

from orchestrator.store.database import Database
from orchestrator.store.rows import Loaded, loaded_of

#: A sale that was tried more often than this is for a person.
_CANDIDATES_MAX: Final = 50

#: Ordered by what no index has: in the order of ``number`` a plan could walk through all of a merchant's payments.
_CANDIDATES: Final = """
SELECT *, clock_timestamp() AS read_at FROM payments
WHERE psp_reference = %(psp_reference)s::text AND merchant_account = %(merchant_account)s
UNION ALL
(SELECT *, clock_timestamp() FROM payments
 WHERE merchant_account = %(merchant_account)s AND reference = %(reference)s::text
 ORDER BY created_at DESC LIMIT %(limit)s)
"""

_KNOWN: Final = """
SELECT EXISTS (SELECT 1 FROM terminals WHERE poi_id = %(terminal_id)s::text) AS terminal,
    EXISTS (SELECT 1 FROM terminals WHERE merchant_account = %(merchant_account)s)
    OR EXISTS (SELECT 1 FROM payments WHERE merchant_account = %(merchant_account)s) AS merchant_account
"""


@dataclass(frozen=True, slots=True)
class LinkStore:
    """Finds what an entry in the books may be about."""

    database: Database

    def candidates(self, merchant_account: str, psp_reference: str | None, reference: str | None) -> list[Loaded]:
        """Read the payments of a merchant account that have this PSP reference, and the latest of this sale."""
        values = {
            "merchant_account": merchant_account, "psp_reference": psp_reference, "reference": reference,
            "limit": _CANDIDATES_MAX,
        }  # fmt: skip
        rows = {row["id"]: row for row in self.database.all(_CANDIDATES, values)}
        return [loaded_of(row) for row in rows.values()]

    def known(self, merchant_account: str, terminal_id: str | None) -> tuple[bool, bool]:
        """Whether a merchant account, and a terminal, was ever one that we serve."""
        row = self.database.one(_KNOWN, {"merchant_account": merchant_account, "terminal_id": terminal_id}) or {}
        return bool(row["merchant_account"]), bool(row["terminal"])
