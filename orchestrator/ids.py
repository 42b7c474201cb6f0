"""Identifiers of our own."""

import secrets
import time
from uuid import UUID

_RANDOM_BITS = 74


def new_id() -> UUID:
    """Make a UUID of version 7 (RFC 9562): milliseconds first, so that an index grows at its end, then chance."""
    milliseconds = time.time_ns() // 1_000_000
    chance = secrets.randbits(_RANDOM_BITS)
    value = (
        (milliseconds & (1 << 48) - 1) << 80 | 0x7 << 76 | (chance >> 62) << 64 | 0b10 << 62 | chance & (1 << 62) - 1
    )
    return UUID(int=value)
