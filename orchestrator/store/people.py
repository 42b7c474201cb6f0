"""People who log in to the console, and their sessions, in the database."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from orchestrator.store.database import Database
from orchestrator.store.rows import Row

#: A working day with its overtime: who comes back tomorrow logs in again. OWASP's Session Management Cheat Sheet,
#: "Absolute Timeout", names 4 to 8 h for an office worker's day; a night on call is longer.
SESSION_MAX_S: Final = 12 * 3600
#: A till room's browser is left alone at lunch; a live page counts as being used.
SESSION_IDLE_S: Final = 3600
#: How exactly idle time is known: one write a minute, and not one for each page.
_SEEN_EVERY_S: Final = 60

_ADD = """
INSERT INTO people (id, name, merchant_account, role, password_hash, form_secret, created_by)
VALUES (%(id)s, %(name)s, %(merchant_account)s, %(role)s, %(password_hash)s, %(form_secret)s, %(created_by)s)
"""
_BY_NAME = """
SELECT id, name, merchant_account, role, password_hash, form_secret FROM people
WHERE name = %(name)s AND revoked_at IS NULL
"""
_LIST = """
SELECT id, name, merchant_account, role, created_by, created_at, revoked_at FROM people
WHERE %(merchant_account)s::text IS NULL OR merchant_account = %(merchant_account)s ORDER BY name
"""
_REVOKE = """
WITH gone AS (UPDATE people SET revoked_at = now() WHERE name = %(name)s AND revoked_at IS NULL RETURNING id),
    ended AS (DELETE FROM console_sessions WHERE person_id IN (SELECT id FROM gone))
SELECT id FROM gone
"""
_NEW_HASH = """
WITH changed AS (
    UPDATE people SET password_hash = %(password_hash)s, form_secret = %(form_secret)s
    WHERE name = %(name)s AND revoked_at IS NULL RETURNING id
), ended AS (DELETE FROM console_sessions WHERE person_id IN (SELECT id FROM changed))
SELECT id FROM changed
"""
#: A login also clears away what has ended: there are as many of those as there were logins.
_OPEN = f"""
WITH ended AS (DELETE FROM console_sessions WHERE expires_at < now())
INSERT INTO console_sessions (token_hash, person_id, csrf, expires_at)
SELECT %(digest)s, id, %(csrf)s, now() + interval '{SESSION_MAX_S} s' FROM people
WHERE id = %(person_id)s AND revoked_at IS NULL AND password_hash = %(password_hash)s
"""
_SESSION = f"""
WITH found AS (
    SELECT s.token_hash, s.csrf, s.seen_at, p.id, p.name, p.role, p.merchant_account
    FROM console_sessions s JOIN people p ON p.id = s.person_id
    WHERE s.token_hash = %(digest)s AND p.revoked_at IS NULL
    AND s.expires_at > now() AND s.seen_at > now() - interval '{SESSION_IDLE_S} s'
), seen AS (
    UPDATE console_sessions SET seen_at = now()
    WHERE token_hash IN (SELECT token_hash FROM found WHERE seen_at < now() - interval '{_SEEN_EVERY_S} s')
)
SELECT id, name, role, merchant_account, csrf FROM found
"""
_END = "DELETE FROM console_sessions WHERE token_hash = %(digest)s"


@dataclass(frozen=True, slots=True)
class PeopleStore:
    """Add, find and revoke people; open, find and end sessions, by the digests of their tokens."""

    database: Database

    def add(self, person: Mapping[str, Any]) -> None:
        """Store a new person: id, name, merchant_account, role, password_hash, form_secret, created_by.

        Raises:
            Conflict: somebody has, or had, this name.
        """
        self.database.run(_ADD, person)

    def by_name(self, name: str) -> Row | None:
        """Read who has this name, unless they were revoked."""
        return self.database.one(_BY_NAME, {"name": name})

    def list(self, merchant_account: str | None) -> list[dict[str, object]]:
        """Read the people of one merchant account, or of all; never their secrets."""
        return self.database.all(_LIST, {"merchant_account": merchant_account})

    def revoke(self, name: str) -> bool:
        """Revoke a person and end their sessions; false when there is nobody to revoke."""
        return self.database.one(_REVOKE, {"name": name}) is not None

    def set_password(self, name: str, password_hash: str, form_secret: str) -> bool:
        """Change a password and end the sessions that the old one opened; false when there is nobody of that name."""
        values = {"name": name, "password_hash": password_hash, "form_secret": form_secret}
        return self.database.one(_NEW_HASH, values) is not None

    def open_session(self, digest: str, person_id: UUID, password_hash: str, csrf: str) -> bool:
        """Open a session; false when the person was revoked, or given another password, since it was checked."""
        values = {"digest": digest, "person_id": person_id, "password_hash": password_hash, "csrf": csrf}
        return self.database.run(_OPEN, values) > 0

    def session(self, digest: str) -> Row | None:
        """Read whose session this is, and note that it is used; None when it has ended or its person was revoked."""
        return self.database.one(_SESSION, {"digest": digest})

    def end_session(self, digest: str) -> None:
        """End a session."""
        self.database.run(_END, {"digest": digest})
