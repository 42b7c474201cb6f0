"""ServiceIDs: 1 to 10 letters and digits, unique per terminal within 48 hours, new for every request.

Those of money are derived, so that the same submission can never be sent under two of them; the first character keeps
the kinds apart.
"""

import hashlib
import secrets
from typing import Literal

from orchestrator.terminal_api import strict_json

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_FREE_CHARS = 9  # ten characters at most by the protocol, one of them the kind
_MONEY = "P"
_PREFIX = {"status": "S", "abort": "A", "diagnosis": "D"}


def derive_service_id(merchant: str, kind: str, parent: str, idempotency_key: str, salt: int = 0) -> str:
    """Return the ServiceID of a payment or refund. Another ``salt`` is for a collision with another key."""
    content = strict_json.dumps_canonical([merchant, kind, parent, idempotency_key, salt])
    number = int.from_bytes(hashlib.sha256(content).digest())
    return _MONEY + "".join(
        _ALPHABET[number // len(_ALPHABET) ** place % len(_ALPHABET)] for place in range(_FREE_CHARS)
    )


def random_service_id(kind: Literal["status", "abort", "diagnosis"]) -> str:
    """Return a new ServiceID for a request that moves no money."""
    return _PREFIX[kind] + "".join(secrets.choice(_ALPHABET) for _ in range(_FREE_CHARS))
