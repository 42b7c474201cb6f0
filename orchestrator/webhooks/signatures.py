"""Whether a webhook is the platform's: an HMAC-SHA256 in each item, or, of the newer kinds, in a header over the body.

What an item's signature covers is fixed by the platform's libraries: eight members, joined by colons that nothing
escapes. Members must never be read back out of that text: values with colons can be shifted between neighbours. The
event's date, its reason and everything in ``additionalData`` are not covered.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

from orchestrator.terminal_api import fields

#: What a signature covers, in this order.
_SIGNED: Final = (
    ("pspReference",),
    ("originalReference",),
    ("merchantAccountCode",),
    ("merchantReference",),
    ("amount", "value"),
    ("amount", "currency"),
    ("eventCode",),
    ("success",),
)

_SIGNATURE_CHARS: Final = 44  # Base64 of 32 bytes


def signature_of(item: Mapping[str, Any]) -> str | None:
    """The signature that an item carries; None where it has none, and nobody could ever verify it."""
    found = fields.member(item, "additionalData", "hmacSignature")
    return found if isinstance(found, str) and found else None


def item_is_signed(item: Mapping[str, Any], keys: Sequence[bytes]) -> bool:
    """Whether one of the keys made the signature of this item."""
    text = signed_text(item)
    return text is not None and _is_made_by(keys, text, signature_of(item))


def body_is_signed(body: bytes, signature: str, keys: Sequence[bytes]) -> bool:
    """Whether one of the keys made this header's signature over exactly these bytes."""
    return _is_made_by(keys, body, signature)


def sign(key: bytes, signed: bytes) -> str:
    """Sign as the platform does."""
    return base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()


def signed_text(item: Mapping[str, Any]) -> bytes | None:
    """What the signature of an item is made over; None when a member is of a kind that no signature covers."""
    parts = [_part(fields.member(item, *path)) for path in _SIGNED]
    try:
        return ":".join(part for part in parts if part is not None).encode() if None not in parts else None
    except UnicodeEncodeError:  # half a surrogate pair: JSON can spell it, UTF-8 cannot
        return None


def _part(value: object) -> str | None:
    """A member as it is signed: what is missing or null is empty, a boolean is spelled as JSON spells it."""
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case str() | int() | Decimal():
            return str(value)
        case _:
            return None


def _is_made_by(keys: Sequence[bytes], signed: bytes, signature: str | None) -> bool:
    given = _decoded(signature)
    made = [hmac.compare_digest(hmac.digest(key, signed, hashlib.sha256), given) for key in keys]  # all, at one pace
    return any(made)


def _decoded(signature: str | None) -> bytes:
    """The bytes of a signature; none for what is no Base64 of the right length, which no HMAC then equals."""
    if signature is None or len(signature) != _SIGNATURE_CHARS or not signature.isascii():
        return b""
    try:
        return base64.b64decode(signature, validate=True)
    except binascii.Error:
        return b""
