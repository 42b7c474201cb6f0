"""What one person proposed, until a second one agrees."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from psycopg.types.json import Jsonb

from orchestrator.store.database import Database

#: The newest proposal stands; the first person who sent it stays its author however often they send it again.
_PROPOSE: Final = """
WITH before AS (SELECT fingerprint, proposed_by, name FROM ruling_proposals WHERE payment_id = %(payment_id)s),
kept AS (
    INSERT INTO ruling_proposals AS p (payment_id, fingerprint, proposed_by, name, verdict)
    VALUES (%(payment_id)s, %(fingerprint)s, %(proposed_by)s, %(name)s, %(verdict)s)
    ON CONFLICT (payment_id) DO UPDATE SET fingerprint = excluded.fingerprint, proposed_by = excluded.proposed_by,
        name = excluded.name, verdict = excluded.verdict, at = now()
    WHERE p.fingerprint <> excluded.fingerprint
)
SELECT name FROM before WHERE fingerprint = %(fingerprint)s AND proposed_by <> %(proposed_by)s
"""


@dataclass(frozen=True, slots=True)
class RulingStore:
    """Keeps proposals, one for a payment."""

    database: Database

    def propose(
        self, payment_id: UUID, fingerprint: str, proposed_by: str, name: str, verdict: Mapping[str, Any]
    ) -> str | None:
        """Keep a proposal, with the ``verdict`` as the next person is to read it.

        Return the name of another person who proposed the same before, None when nobody did.
        """
        values = {
            "payment_id": payment_id, "fingerprint": fingerprint, "proposed_by": proposed_by, "name": name,
            "verdict": Jsonb(dict(verdict)),
        }  # fmt: skip
        row = self.database.one(_PROPOSE, values)
        return row["name"] if row else None
