"""Reach into somebody else's JSON without ever being surprised by it."""

import hashlib
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from orchestrator.terminal_api import strict_json

MAX_TEXT_CHARS = 256  # our choice: no identifier or reason of the protocol is longer
_UNSTORABLE = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")  # control characters, and surrogates that no encoding takes
_NOT_SLUG = re.compile(r"[^a-z0-9]+")
_LONG_NUMBER = re.compile(r"[0-9](?:[ -]?[0-9]){7,}", re.ASCII)  # could be a card's: PANs have 8 digits and more


def member(value: object, *path: str) -> Any:
    """Return the member at the path, None where there is none."""
    for name in path:
        if not isinstance(value, Mapping):
            return None
        value = value.get(name)
    return value


def mapping(value: object, *path: str) -> Mapping[str, Any] | None:
    """Return the object at the path, None where there is none."""
    found = member(value, *path)
    return found if isinstance(found, Mapping) else None


def text(value: object, *path: str) -> str | None:
    """Return the text at the path, or a number as text; None where there is none, or it is empty.

    Verbatim but for characters that no database takes, and cut at ``MAX_TEXT_CHARS``.
    """
    found = member(value, *path)
    if isinstance(found, int | Decimal) and not isinstance(found, bool):
        found = str(found)
    if not isinstance(found, str) or not found:
        return None
    return _UNSTORABLE.sub("\ufffd", found[:MAX_TEXT_CHARS])


def word(value: object, *path: str) -> str | None:
    """Return the text at the path that should be a word of the protocol, without what could be a card's number."""
    found = text(value, *path)
    return None if found is None else without_long_numbers(found)


def without_long_numbers(text: str) -> str:
    """Return free text without what could be a card's number."""
    return _LONG_NUMBER.sub("…", text)


def flag(value: object, *path: str) -> bool | None:
    """Return the boolean at the path, also where it is spelled as text."""
    match member(value, *path):
        case bool(found):
            return found
        case "true":
            return True
        case "false":
            return False
        case _:
            return None


def slug(value: str | None) -> str:
    """Return the text in lower case with hyphens, at most 40 characters, without what could be a card's number."""
    return _NOT_SLUG.sub("-", without_long_numbers(value or "").lower())[:40].strip("-") or "none"


def digest(*parts: str | int | bool | None) -> str:
    """Return a SHA-256 that is equal for equal parts alone."""
    return hashlib.sha256(strict_json.dumps_canonical(parts)).hexdigest()
