"""Passwords of people: scrypt, and a price for every guess, also of a name that nobody has."""

import base64
import hashlib
import hmac
import secrets
from typing import Final

#: N = 2^15, r = 8, p = 3: one of the choices of OWASP's Password Storage Cheat Sheet, "scrypt". It takes 32 MiB, of
#: which an API process can spare a few; the ones with less work per guess take more memory.
_COST_BITS: Final = 15
_BLOCK_SIZE: Final = 8
_PARALLEL: Final = 3
#: scrypt needs 128 * N * r bytes (RFC 7914, section 2); the library's own limit is just below that.
_MEMORY_MAX_BYTES: Final = 64 * 1024 * 1024
#: RFC 7914 leaves the salt open; NIST SP 800-132, section 5.1 asks for 16 bytes.
_SALT_BYTES: Final = 16
_HASH_BYTES: Final = 32

#: NIST SP 800-63B-4, section 3.1.1.2: 15 characters where the password is all that is asked for.
PASSWORD_CHARACTERS_MIN: Final = 15
#: The same section: allow at least 64. Ours keeps a login form small.
PASSWORD_CHARACTERS_MAX: Final = 200
#: 160 random bits, which nobody guesses.
_MADE_BYTES: Final = 20


def make_password() -> str:
    """Make a password, to be shown once."""
    return secrets.token_urlsafe(_MADE_BYTES)


def make_form_secret() -> str:
    """Make what proves forms of a person whom a proxy vouches for; 256 bits, as many as the hash that uses it has."""
    return secrets.token_urlsafe(_HASH_BYTES)


def hash_password(password: str) -> str:
    """Hash a password; the text says with which parameters, so that they may change."""
    salt = secrets.token_bytes(_SALT_BYTES)
    digest = _scrypt(password, salt, _COST_BITS, _BLOCK_SIZE, _PARALLEL)
    return f"scrypt${_COST_BITS}${_BLOCK_SIZE}${_PARALLEL}${_text(salt)}${_text(digest)}"


def fits(password: str, stored: str | None) -> bool:
    """Whether the password is the stored one. None, for a name that nobody has, takes the same work and never fits."""
    _, cost, block, parallel, salt, digest = (stored or _NOBODY).split("$")
    found = _scrypt(password, base64.b64decode(salt), int(cost), int(block), int(parallel))
    return hmac.compare_digest(found, base64.b64decode(digest)) and stored is not None


def _scrypt(password: str, salt: bytes, cost_bits: int, block_size: int, parallel: int) -> bytes:
    return hashlib.scrypt(
        password.encode("utf-8", "surrogatepass"),
        salt=salt,
        n=1 << cost_bits,
        r=block_size,
        p=parallel,
        maxmem=_MEMORY_MAX_BYTES,
        dklen=_HASH_BYTES,
    )


def _text(value: bytes) -> str:
    return base64.b64encode(value).decode()


#: What a guess at a name that nobody has is compared with: zeros that no password is known to give.
_NOBODY: Final = (
    f"scrypt${_COST_BITS}${_BLOCK_SIZE}${_PARALLEL}${_text(bytes(_SALT_BYTES))}${_text(bytes(_HASH_BYTES))}"
)
