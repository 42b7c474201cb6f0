"""API keys in the database."""

from dataclasses import dataclass
from uuid import UUID

from orchestrator.store.database import Database
from orchestrator.store.rows import Row

_FIND = "SELECT id, merchant_account, role FROM api_keys WHERE key_hash = %(digest)s AND revoked_at IS NULL"
_CREATE = """
INSERT INTO api_keys (id, key_hash, merchant_account, role, created_by)
VALUES (%(id)s, %(digest)s, %(merchant_account)s, %(role)s, %(created_by)s)
"""
_REVOKE = "UPDATE api_keys SET revoked_at = now() WHERE id = %(id)s AND revoked_at IS NULL"
_LIST = """
SELECT id, merchant_account, role, created_by, created_at, revoked_at FROM api_keys
WHERE %(merchant_account)s::text IS NULL OR merchant_account = %(merchant_account)s ORDER BY created_at
"""


@dataclass(frozen=True, slots=True)
class KeyStore:
    """Find, create and revoke keys, by their digests."""

    database: Database

    def find(self, digest: str) -> Row | None:
        """Read the key with this digest, unless it was revoked."""
        return self.database.one(_FIND, {"digest": digest})

    def create(self, key_id: UUID, digest: str, merchant_account: str, role: str, created_by: str) -> None:
        """Store a new key."""
        values = {"id": key_id, "digest": digest, "merchant_account": merchant_account, "role": role}
        self.database.run(_CREATE, {**values, "created_by": created_by})

    def revoke(self, key_id: UUID) -> bool:
        """Revoke a key; false when there is none to revoke."""
        return self.database.run(_REVOKE, {"id": key_id}) > 0

    def list(self, merchant_account: str | None) -> list[dict[str, object]]:
        """Read the keys of one merchant account, or of all."""
        return self.database.all(_LIST, {"merchant_account": merchant_account})
