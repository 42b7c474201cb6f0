"""The runbook, as pages show it: what an alarm means, what to look at, what to do. Its text is ``docs/runbook.md``."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

#: Beside this module where the product is installed, in the documents of a checkout.
_PLACES: Final = (Path(__file__).with_name("runbook.md"), Path(__file__).parents[1] / "docs" / "runbook.md")

_LINK: Final = re.compile(r"\[([^\]]*)\]\([^)]*\)")


@dataclass(frozen=True, slots=True)
class Guidance:
    """A section of the runbook. What stands between backticks is to be typed, or is a word of the product."""

    means: str
    look: str
    do: str


def guidance(alarm: str) -> Guidance | None:
    """What the runbook says of an alarm; None for one that it does not know."""
    return _sections().get(alarm)


def pieces(text: str) -> list[tuple[str, bool]]:
    """Take a text apart: each piece, and whether it stood between backticks."""
    return [(piece, number % 2 == 1) for number, piece in enumerate(text.split("`")) if piece]


@cache
def _sections() -> Mapping[str, Guidance]:
    text = next((place.read_text(encoding="utf-8") for place in _PLACES if place.exists()), "")
    found: dict[str, Guidance] = {}
    for section in text.split("\n## ")[1:]:
        name, _, body = section.partition("\n")
        found[name.strip()] = _read(body)
    return found


def _read(body: str) -> Guidance:
    """The first paragraph that begins with "Look:" ends what it means; "Do:" stands behind it, or begins its own."""
    plain = " ".join(_LINK.sub(r"\1", body).split())
    means, _, rest = plain.partition(" Look: ")
    look, _, do = rest.partition(" Do: ")
    if not rest:
        means, _, do = plain.partition(" Do: ")
    return Guidance(means.strip(), look.strip(), do.strip())
