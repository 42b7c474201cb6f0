"""JSON as money needs it: one reading per text, exact numbers, bounded size and depth.

The standard library's reader takes the last of two equal members, makes floats of amounts and follows nesting until
the stack ends. Nothing here lets a body's text into an error: bodies hold card data.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

from orchestrator.errors import LocalProtocolError, RemoteProtocolError

MAX_BODY_BYTES = 262_144  # our choice: over ten times the longest official sample, a payment with two receipts
MAX_DEPTH_LEVELS = 32  # our choice: the deepest official message, a repeated signature, has 12
MAX_NUMBER_CHARS = 30  # our choice: the schema's largest amount has 15
MAX_MEMBER_CHARS = 64  # of a member's name, quoted in an error

# A string is skipped whole, so that brackets inside it do not count; one without an end reaches to the end of the text.
# Possessive, so that no input makes it look at a character twice.
_BRACKETS = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[\]{}]', re.DOTALL)


class MalformedJson(RemoteProtocolError):
    """The body is not the JSON that we accept."""

    def __init__(self, problem: str, *, member: str | None = None) -> None:
        """Name the ``problem`` by a slug and, for a repeated member, the ``member``; never the payload."""
        super().__init__(f"not acceptable JSON: {problem}")
        self.problem = problem
        self.member = None if member is None else member[:MAX_MEMBER_CHARS]


def loads(body: bytes, *, max_bytes: int = MAX_BODY_BYTES, max_depth: int = MAX_DEPTH_LEVELS) -> Any:
    """Read one JSON text. Numbers with a point or an exponent become Decimal. Raises MalformedJson alone."""
    if len(body) > max_bytes:
        raise MalformedJson("too-long")
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        raise MalformedJson("not-utf-8") from None
    _check_depth(text, max_depth)
    try:
        return json.loads(
            text,
            object_pairs_hook=_unique_members,
            parse_int=_parse_int,
            parse_float=_parse_decimal,
            parse_constant=_refuse_constant,
        )
    except json.JSONDecodeError:
        raise MalformedJson("not-json") from None


def _check_depth(text: str, max_depth: int) -> None:
    depth = 0
    for token in _BRACKETS.finditer(text):
        match token[0]:
            case "{" | "[":
                depth += 1
                if depth > max_depth:
                    raise MalformedJson("too-deep")
            case "}" | "]":
                depth -= 1
            case _:  # a string
                pass


def _unique_members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for name, value in pairs:
        if name in members:
            raise MalformedJson("duplicate-member", member=name)
        members[name] = value
    return members


def _parse_int(text: str) -> int:
    if len(text) > MAX_NUMBER_CHARS:
        raise MalformedJson("number-too-long")
    return int(text)


def _parse_decimal(text: str) -> Decimal:
    if len(text) > MAX_NUMBER_CHARS:
        raise MalformedJson("number-too-long")
    try:
        number = Decimal(text)
    except InvalidOperation:  # an exponent beyond every range
        raise MalformedJson("number-out-of-range") from None
    if abs(number.adjusted()) > MAX_NUMBER_CHARS:  # written out, 1e99999999 would take 100 MB
        raise MalformedJson("number-out-of-range")
    return number


def _refuse_constant(text: str) -> Any:
    raise MalformedJson("not-a-number")


def dumps(value: Any) -> bytes:
    """Write JSON in ASCII, members in the order given, Decimal as a plain number. Raises LocalProtocolError."""
    return _encode(value, sort=False).encode("ascii")


def dumps_canonical(value: Any) -> bytes:
    """Write JSON so that equal values give equal bytes: members sorted, otherwise as ``dumps``."""
    return _encode(value, sort=True).encode("ascii")


def _encode(value: Any, *, sort: bool) -> str:
    match value:
        case None | bool() | int() | str():
            return json.dumps(value)
        case Decimal():
            return number_text(value)
        case Mapping():
            items: Iterable[tuple[Any, Any]] = sorted(value.items()) if sort else value.items()
            return "{" + ",".join(f"{_name(name)}:{_encode(item, sort=sort)}" for name, item in items) + "}"
        case Sequence() if not isinstance(value, bytes | bytearray):
            return "[" + ",".join(_encode(item, sort=sort) for item in value) + "]"
        case _:  # a float above all: it is not exact
            raise LocalProtocolError(f"a {type(value).__name__} has no place in a message")


def _name(name: Any) -> str:
    if not isinstance(name, str):
        raise LocalProtocolError("a member's name must be text")
    return json.dumps(name)


def number_text(value: Decimal) -> str:
    """Return the plain number without exponent and without trailing zeros, such as 10.5 for 10.50."""
    if not value.is_finite():
        raise LocalProtocolError("a number must be finite")
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
