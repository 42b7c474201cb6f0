"""Real messages, spoiled the way that machines spoil them: one structural change at a time, several in a row.

A change is plain data (what, where, and with what), so that Hypothesis shrinks a failure to the changes that matter.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

from hypothesis import strategies as st

from tests.protocol_vectors import ENTRIES, message

#: A card number that no evidence may hold: of the public test range, and right by its check digit.
CARD_NUMBER = "4111111111111111"
CARD_NUMBERS = (CARD_NUMBER, "4111 1111 1111 1111", "4111-1111-1111-1111")

#: Numbers as they are spelled; JSON's writer could not spell some of them.
NUMBERS = (
    "0", "-0", "-1", "-0.01", "0.000000000000000000001", "10.990", "10.99e0", "1099e-2", "1e400", "-1e400", "1E+2",
    "99999999999999999999999999999", "123456789012345678901234567890123456789", "1e-400", "NaN", "Infinity",
    "9007199254740993", "999999999999999.99",
)  # fmt: skip
TEXTS = (
    "", " ", "null", "N/A", "true", "Success", "Partial", "Failure", "EUR", "USD", "JPY", "XXX", "Reject", "InProgress",
    "NotFound", "Busy", "Response", "Payment", "Reversal", "TransactionStatus", "Refund", "e30=", "eyJhIjoxfQ==", "=&=",
    "%", "%zz%00", "a" * 400, "9" * 40, "\x00", "\ud800", "\u202e", "٣", "１０.９９", "e\u0301" * 5, "<script>",
    "{}", "[]", "message=%ff", "serviceId=pay0000001", "posAuthAmountValue=1&posAuthAmountCurrency=USD", "\U0001f4b3",
    *CARD_NUMBERS, *(f"refusalReason={number}" for number in CARD_NUMBERS), "pay0000001", "V400m-324000123", "KASSA-07",
    "ORDER-20251125-0001", "sta0000001",
)  # fmt: skip
NAMES = (
    "SaleToPOIResponse", "SaleToPOIRequest", "MessageHeader", "PaymentResponse", "Response", "Result", "POIID",
    "ServiceID", "SaleID", "EventNotification", "NexoBlob", "SecurityTrailer", "additionalData", "amount", "", "\ud800",
    "a" * 300, CARD_NUMBER, "AmountsResp", "Currency", "RepeatedMessageResponse", "PaymentReceipt",
)  # fmt: skip
_RAW = "\u0007raw:"  # stands before a number until the text is written


class Again(str):
    """A name that a dict takes a second time."""

    __slots__ = ()
    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other

    def __ne__(self, other: object) -> bool:
        return self is not other


class Change(NamedTuple):
    """What is done, at which of the places (counted, and starting anew behind the last), and with what."""

    what: str
    place: int
    other: int
    leaf: Any


Path = tuple[str | int, ...]


def places(value: Any, path: Path = ()) -> Iterator[Path]:
    """Every place in a JSON value, the whole one first."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, item in items:
        yield from places(item, (*path, name))


def at(value: Any, path: Path) -> Any:
    for name in path:
        value = value[name]
    return value


def replaced(value: Any, path: Path, by: Callable[[Any], Any]) -> Any:
    """The value with the one at the path made anew; nothing that was there is changed."""
    if not path:
        return by(value)
    copy = value.copy()
    copy[path[0]] = replaced(value[path[0]], path[1:], by)
    return copy


def _without(name: str | int) -> Callable[[Any], Any]:
    def drop(parent: Any) -> Any:
        if isinstance(parent, dict):
            return {key: item for key, item in parent.items() if key is not name and key != name}
        return [item for place, item in enumerate(parent) if place != name]

    return drop


def _renamed(name: str | int, new: str) -> Callable[[Any], Any]:
    def rename(parent: Any) -> Any:
        if isinstance(parent, dict):
            return {(new if key == name else key): item for key, item in parent.items()}
        return dict(enumerate(parent))

    return rename


def _twice(name: str | int, second: Any) -> Callable[[Any], Any]:
    def add(parent: Any) -> Any:
        if isinstance(parent, dict):
            return {**parent, Again(name): second}
        return [*parent, second]

    return add


def changed(value: Any, change: Change, donors: Sequence[Any]) -> Any:
    """The value with one change; where a change makes no sense there, with none."""
    every = list(places(value))
    path, other = every[change.place % len(every)], every[change.other % len(every)]
    parent, last = path[:-1], path[-1] if path else ""
    match change.what:
        case "drop" if path:
            return replaced(value, parent, _without(last))
        case "twice" if path:
            return replaced(value, parent, _twice(last, change.leaf if change.other % 2 else at(value, path)))
        case "rename" if path:
            return replaced(value, parent, _renamed(last, NAMES[change.other % len(NAMES)]))
        case "retype":
            return replaced(value, path, lambda _: change.leaf)
        case "nest":
            wrap: Callable[[Any], Any] = (lambda it: [it]) if change.other % 2 else (lambda it: {str(last): it})
            return replaced(value, path, wrap)
        case "swap":
            here, there = at(value, path), at(value, other)
            if path[: len(other)] == other or other[: len(path)] == path:  # one holds the other
                return value
            return replaced(replaced(value, path, lambda _: there), other, lambda _: here)
        case "graft":
            donor = donors[change.other % len(donors)]
            same = [each for each in places(donor) if each and each[-1] == last] or list(places(donor))
            return replaced(value, path, lambda _: at(donor, same[change.place % len(same)]))
        case "text":
            odd = TEXTS[change.other % len(TEXTS)]
            return replaced(value, path, lambda it: it + odd if isinstance(it, str) else odd)
        case "number":
            return replaced(value, path, lambda _: _RAW + NUMBERS[change.other % len(NUMBERS)])
        case _:
            return value


#: In place of any value: each type, odd numbers, words that mean something elsewhere, and the sale's neighbours.
INSTEAD: tuple[Any, ...] = (
    None, True, 1, -1, 0, 99.99, "", " ", [], {}, "X", "Success", "Partial", "Failure", "USD", "JPY", "1e3", "-10.99",
    "V400m-324000124", "pay0000002", "KASSA-08", "ORDER-20251125-0002", "Payment", "Request", "a" * 400, "\x00\ud800",
    _RAW + "1e400", _RAW + "NaN", _RAW + "10.991", _RAW + "123456789012345678901234567890123456789", CARD_NUMBER,
)  # fmt: skip


def single_changes(value: Any) -> Iterator[tuple[str, bytes]]:
    """The value with one thing wrong at one place, for each place and each thing; and what was done."""
    for path in places(value):
        by = [("retype", replaced(value, path, lambda _, leaf=leaf: leaf)) for leaf in INSTEAD]  # type: ignore[misc]
        if isinstance(at(value, path), str):
            by.append(("text", replaced(value, path, lambda it: it + "x")))
        for number, what in enumerate(("drop", "twice", "rename", "nest", "nest") if path else ()):
            place = list(places(value)).index(path)
            by.append((what, changed(value, Change(what, place, number, None), [value])))
        for what, spoilt in by:
            yield what, written(spoilt, ascii_only=True)


def without(value: Any, name: str) -> Any:
    """The value without the members of this name, at any depth."""
    if isinstance(value, dict):
        return {key: without(item, name) for key, item in value.items() if key != name}
    return [without(item, name) for item in value] if isinstance(value, list) else value


def written(value: Any, *, ascii_only: bool) -> bytes:
    """The JSON text, with numbers as they are to be spelled; half a surrogate pair becomes bytes that are no UTF-8."""
    text = json.dumps(value, ensure_ascii=ascii_only, default=_decimal)
    for number in NUMBERS:
        text = text.replace(json.dumps(_RAW + number, ensure_ascii=ascii_only), number)
    return text.encode("utf-8", "surrogatepass")


def _decimal(value: object) -> float:
    assert isinstance(value, Decimal)
    return float(value)


leaves: st.SearchStrategy[Any] = (
    st.sampled_from(TEXTS)
    | st.sampled_from([_RAW + number for number in NUMBERS])
    | st.none()
    | st.booleans()
    | st.sampled_from([[], {}, [[]], [None], {"": ""}, {"a": [{"b": CARD_NUMBER}]}])
)
_number = st.integers(0, 999)
changes = st.builds(
    Change, st.sampled_from("drop twice rename retype nest swap graft text number".split()), _number, _number, leaves
)


def spoiled(values: Sequence[Any], most: int = 4) -> st.SearchStrategy[bytes]:
    """One of these values with a few changes, as a body that may be cut short."""

    def build(value: Any, done: Sequence[Change], ascii_only: bool, cut: int | None) -> bytes:
        for change in done:
            value = changed(value, change, values)
        text = written(value, ascii_only=ascii_only)
        return text if cut is None else text[: cut % (len(text) + 1)]

    cuts = st.none() | st.none() | st.none() | st.integers(0, 20_000)
    return st.builds(build, st.sampled_from(values), st.lists(changes, max_size=most), st.booleans(), cuts)


def bodies_of(*prefixes: str) -> list[Any]:
    """The vectors' messages whose names begin so, read."""
    return [
        message(name)
        for name, entry in ENTRIES.items()
        if name.startswith(prefixes) and entry["file"].endswith(".json") and not name.endswith("truncated")
    ]
