"""API keys: 256 random bits, stored hashed; a merchant scope and a role each."""

import hashlib
import secrets
from enum import StrEnum
from typing import Final

_PREFIX: Final = "cfk_"
_KEY_BYTES: Final = 32


class Role(StrEnum):
    """What a key may do."""

    VIEWER = "viewer"
    SUBMIT = "submit"
    OPERATE = "operate"
    FINANCE = "finance"
    ADMIN = "admin"

    def includes(self, other: "Role") -> bool:
        """Whether this role may do what ``other`` may."""
        return self is Role.ADMIN or other in {self, Role.VIEWER}


def make_key() -> tuple[str, str]:
    """Make a key; return it, to be shown once, and its digest, to be stored."""
    key = _PREFIX + secrets.token_urlsafe(_KEY_BYTES)
    return key, digest_of(key)


def digest_of(key: str) -> str:
    """SHA-256 in hex: enough for 256 random bits."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
