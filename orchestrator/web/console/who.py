"""Who asks: a session by its cookie, or a name that a trusted proxy vouches for."""

import hashlib
import hmac
import ipaddress
import secrets
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from starlette.requests import Request

from config.settings import Settings
from orchestrator.keys import Role, digest_of
from orchestrator.store.people import PeopleStore
from orchestrator.store.rows import Row

COOKIE: Final = "counterfoil_console"
PATH: Final = "/console"
#: 256 bits, as API keys have: nobody guesses them, so that their plain hash may be stored.
_SECRET_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Person:
    """Who is logged in."""

    user_id: UUID
    name: str
    role: Role
    merchant_account: str
    csrf: str
    by_header: bool = False  # a proxy vouches for them: there is no session of ours to end

    @property
    def author(self) -> str:
        """How journals and audits name who acted."""
        return f"user {self.name}"


class NobodyOfThisName(Exception):
    """The proxy vouches for a name that no person has."""


class Who:
    """Finds out who asks. Every request asks the database, so that who is revoked is out at once."""

    def __init__(self, people: PeopleStore, settings: Settings) -> None:
        self._people = people
        self._header = settings.console_user_header
        self._proxies = [ipaddress.ip_network(each) for each in settings.console_trusted_proxies]

    def __call__(self, request: Request) -> Person | None:
        """The person, or None for nobody.

        Raises:
            NobodyOfThisName: the proxy named somebody who may not log in.
        """
        if self._header and self._trusts(request):
            names = request.headers.getlist(self._header)
            if names:
                return self._vouched_for(names)
        token = request.cookies.get(COOKIE)
        row = self._people.session(digest_of(token)) if token else None
        return person_of(row, row["csrf"]) if row else None

    def _trusts(self, request: Request) -> bool:
        try:
            address = ipaddress.ip_address(request.client.host if request.client else "")
        except ValueError:
            return False
        address = getattr(address, "ipv4_mapped", None) or address
        return any(address in network for network in self._proxies)

    def _vouched_for(self, names: list[str]) -> Person:
        # Two headers are two opinions: a proxy that adds its own beside the visitor's vouches for nothing.
        row = self._people.by_name(tidy_name(names[0])) if len(names) == 1 else None
        if row is None:
            raise NobodyOfThisName
        # There is no session to hold a form's secret, and none is needed: it only has to be one that others don't know.
        csrf = hmac.new(row["form_secret"].encode(), b"forms of the console", hashlib.sha256).hexdigest()
        return person_of(row, csrf, by_header=True)


def person_of(row: Row, csrf: str, *, by_header: bool = False) -> Person:
    """Read a person from their row."""
    return Person(row["id"], row["name"], Role(row["role"]), row["merchant_account"], csrf, by_header)


def tidy_name(name: str) -> str:
    """A name as it is stored: capitals do not tell people apart."""
    return name.strip().lower()


def new_secret() -> str:
    """A token, or the secret of forms."""
    return secrets.token_urlsafe(_SECRET_BYTES)
