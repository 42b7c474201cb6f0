"""Pages: ``{"data": […], "next_cursor": …}``, with opaque cursors."""

import base64
import binascii
import re
from collections.abc import Sequence
from typing import Annotated, Any, Final

from fastapi import Query

from orchestrator.web.problems import Problem

LIMIT_DEFAULT: Final = 50
LIMIT_MAX: Final = 200
_NUMBER: Final = re.compile(r"[0-9]{1,18}", re.ASCII)

Limit = Annotated[int, Query(ge=1, le=LIMIT_MAX)]
Cursor = Annotated[str | None, Query(max_length=200)]


def page(data: Sequence[Any], limit: int, last: object) -> dict[str, Any]:
    """Show a page; a full one may have a next, which starts after ``last``."""
    return {"data": list(data), "next_cursor": encode(last) if len(data) == limit else None}


def encode(position: object) -> str:
    """Make a cursor."""
    return base64.urlsafe_b64encode(str(position).encode()).decode().rstrip("=")


def decode(cursor: str) -> str:
    """Read a cursor."""
    try:
        return base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
    except (binascii.Error, ValueError):
        raise _unknown() from None


def decode_number(cursor: str | None) -> int | None:
    """Read a cursor that is a number."""
    if cursor is None:
        return None
    text = decode(cursor)
    if not _NUMBER.fullmatch(text):
        raise _unknown()
    return int(text)


def decode_text(cursor: str | None) -> str:
    """Read a cursor that is a name; none starts before every name."""
    text = "" if cursor is None else decode(cursor)
    if not (text.isascii() and text.isprintable()):
        raise _unknown()
    return text


def _unknown() -> Problem:
    return Problem("invalid-field", "cursor: is none that this API gave out", field="cursor")
