"""What people type into forms: in one line, without what no line has, and of a sensible length."""

import re
from typing import Annotated, Final

from fastapi import Form, Query

from orchestrator.web.console.faults import Refused

#: As the HTTP API has it for reasons and notes.
REASON_CHARACTERS_MIN: Final = 3
REASON_CHARACTERS_MAX: Final = 500
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")

#: A reason as it comes: line ends and spaces at its ends are taken away before it is measured.
Typed = Annotated[str, Form(max_length=2 * REASON_CHARACTERS_MAX)]

#: A word to narrow a list by.
Word = Annotated[str, Query(max_length=80, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")]


def one_line(text: str) -> str:
    """What was typed, in one line."""
    return _CONTROL.sub("", " ".join(text.split()))


def reason_of(text: str) -> str:
    """A reason, as it is kept.

    Raises:
        Refused: it is too short to be one, or too long.
    """
    said = one_line(text)
    if not REASON_CHARACTERS_MIN <= len(said) <= REASON_CHARACTERS_MAX:
        wanted = f"A reason has {REASON_CHARACTERS_MIN} to {REASON_CHARACTERS_MAX} characters"
        raise Refused(422, wanted, "Nothing was done. Go back, and say in a few words why.")
    return said


def note_of(text: str) -> str | None:
    """A note that may be left out.

    Raises:
        Refused: there is one, and it is too short or too long.
    """
    return reason_of(text) if one_line(text) else None
