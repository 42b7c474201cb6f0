"""A typed line, read: ``r-1042 10.50 last4:1111 terminal:V400m-324688170 state:unknown on:2026-11-20``, in any order.

A word with a name says what it is; one without is guessed by its looks, and where it can be read in several ways the
ways are tried in turn. What cannot be read is said, by the word. A whole card number is never searched for: its last
four are (``without_card_numbers``).
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice, product
from typing import Final

from orchestrator.cards import DIGIT_RUN, mask_card_numbers
from orchestrator.model import Outcome, State
from orchestrator.search import readers, receipts
from orchestrator.search.readers import NEVER, Unreadable, Way
from orchestrator.search.sought import Search
from orchestrator.terminal_api import money

#: Longer than any list of words that a person types; a reference alone has up to 80 characters.
TYPED_CHARS_MAX: Final = 400
#: Each word narrows; a dozen leaves nothing to find.
WORDS_MAX: Final = 12
#: Ways in which one line of words is tried, one after the other until one finds something; each is a search.
WAYS_MAX: Final = 5


@dataclass(frozen=True, slots=True)
class Reading:
    """One way to read what was typed: the search, and how each word was taken."""

    search: Search
    said: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Read:
    """Everything that typed words may mean, the likeliest way first; ``trouble`` says what could not be read."""

    ways: tuple[Reading, ...]
    trouble: tuple[str, ...] = ()


def read(typed: str, named: Iterable[tuple[str, str]] = (), *, now: datetime) -> Read:
    """Read what was typed into the box, and the fields of the form beside it (``named``: a word's name, its value)."""
    words: list[list[Way]] = []
    trouble: list[str] = []
    if len(typed) > TYPED_CHARS_MAX:
        return Read((), (f"That is longer than {TYPED_CHARS_MAX} characters; type less of it.",))
    tokens = receipts.put_together(_tokens(typed), now)
    if len(tokens) > WORDS_MAX:
        trouble.append(f"Only the first {WORDS_MAX} words were read.")
    for token in tokens[:WORDS_MAX]:
        try:
            words.append(_ways(token, now))
        except Unreadable as error:
            trouble.append(str(error))
    for name, value in named:
        try:
            words.append([_named(name, value.strip(), f"{name}:{value.strip()}"[:80], now)])
        except Unreadable as error:
            trouble.append(str(error))
    ways, clashes = _combined(words)
    return Read(ways, (*trouble, *clashes))


def without_card_numbers(typed: str) -> str:
    """The same words with the last four of each card number in its place; the text itself when it holds none."""

    def last_four(match: re.Match[str]) -> str:
        tender = readers.TENDER.fullmatch(match.group())
        return match.group() if tender else _MASKED.sub(r"last4:\1", mask_card_numbers(match.group()))

    return _LONG_NUMBERS.sub(last_four, typed)


# -- from words to ways ------------------------------------------------------------------------------------------------

_TOKEN: Final = re.compile(r'([a-z0-9_]+:\s*)?(?:"([^"]*)"?|(\S+))', re.IGNORECASE)
#: A tender reference is no card number, whatever its digits add up to.
_LONG_NUMBERS: Final = re.compile(
    rf"(?<![A-Za-z0-9])(?:{readers.TENDER.pattern})(?![A-Za-z0-9])|{DIGIT_RUN.pattern}", re.ASCII
)
#: What `mask_card_numbers` leaves of a card number.
_MASKED: Final = re.compile(r"\*{9,}([0-9]{4})")
_CURRENCY: Final = re.compile(r"[A-Za-z]{3}")


def _tokens(typed: str) -> list[str]:
    """Words as typed; quotes hold one together that has spaces. An amount and the currency beside it are one word."""
    found: list[str] = []
    for match in _TOKEN.finditer(typed):
        name, quoted, bare = match.groups()
        value = bare if quoted is None else quoted
        if value.strip():
            found.append((name or "").strip() + value.strip())
    return list(_with_currencies(found))


def _with_currencies(tokens: list[str]) -> Iterator[str]:
    waiting: str | None = None
    for token in tokens:
        if waiting is not None and _is_amount(waiting) and _is_currency(token):
            yield f"{waiting} {token}"
            waiting = None
        elif waiting is not None and _is_currency(waiting) and _is_amount(token) and ":" not in token:
            yield f"{token} {waiting}"
            waiting = None
        else:
            if waiting is not None:
                yield waiting
            waiting = token
    if waiting is not None:
        yield waiting


def _is_amount(token: str) -> bool:
    name, colon, value = token.partition(":")
    return bool(readers.PLAIN_AMOUNT.fullmatch(value if colon and name.lower() == "amount" else token))


def _is_currency(token: str) -> bool:
    return bool(_CURRENCY.fullmatch(token)) and token.upper() in money.CURRENCIES


def _ways(token: str, now: datetime) -> list[Way]:
    name, colon, value = token.partition(":")
    if colon and re.fullmatch(r"[0-9]{1,2}", name):
        raise Unreadable(f"“{token}” is no time that could be read; write 14:05, or at:2026-11-20T14:05, in UTC.")
    if colon:
        return [_named(name, value.strip(), token, now)]
    return _guessed(token, now)


def _named(name: str, value: str, token: str, now: datetime) -> Way:
    """Read a word that says what it is."""
    reader = readers.READERS.get(name.lower().replace("-", "_"))
    if reader is None:
        known = ", ".join(f"{word}:" for word in readers.KNOWN_NAMES)
        raise Unreadable(f"“{token}”: the search knows no “{name}:”; it knows {known}.")
    if not value:
        raise Unreadable(f"“{token}” says nothing after its colon.")
    try:
        return reader(value, now)
    except Unreadable as error:
        raise Unreadable(f"“{token}”: {error}") from None


#: What the looks of a word say of it, the likeliest first; a reference may look like anything.
_LOOKS: Final = (
    (readers.ID, readers.read_payment_id),
    (readers.PSP_REFERENCE, readers.read_psp_reference),
    (readers.POIID, readers.read_terminal),
    (readers.TENDER, readers.read_tender),
    (readers.LAST4, readers.read_last4),
    (readers.REFERENCE, readers.read_reference),
    (readers.SERVICE_ID, readers.read_service_id),
)
_DAY: Final = re.compile(
    r"today|yesterday|[0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]{1,2}([-/.])[0-9]{1,2}\1[0-9]{4}", re.IGNORECASE | re.ASCII
)
#: What may be no reference as it stands: the serial number of a terminal, a PSP reference in small letters.
_SERIAL: Final = re.compile(r"[0-9]{6,15}", re.ASCII)
_SMALL_PSP: Final = re.compile(r"(?=[0-9]*[A-Za-z])(?=[A-Za-z]*[0-9])[A-Za-z0-9]{16}", re.ASCII)
_STATE_WORDS: Final = frozenset({*State, *Outcome, "charged", "uncharged"})


def _guessed(token: str, now: datetime) -> list[Way]:
    """Every way to read a word without a name, the likeliest first."""
    if token.lower() in _STATE_WORDS:
        return [readers.read_state_word(token.lower())]
    if readers.DECIMAL.fullmatch(token) or (readers.WHOLE_OF_CURRENCY.fullmatch(token) and _names_currency(token)):
        return [readers.read_amount(token, NEVER)]
    if _DAY.fullmatch(token):
        return [_named("on", token, token, now)]
    if token.endswith("*") and len(token) > 1:
        return [readers.read_reference(token, NEVER)]
    found = [reader(token, NEVER) for looks, reader in _LOOKS if looks.fullmatch(token)]
    if not found:
        raise Unreadable(f"“{token}” cannot be a reference: those are of 80 printable ASCII characters at most.")
    if readers.REFERENCE.fullmatch(token):
        found += _less_likely(token, plain=len(found) == 1)
        found.append(readers.read_reference(token + "*", NEVER))
    return found


def _less_likely(token: str, *, plain: bool) -> Iterator[Way]:
    """What else a word may mean that looks like a reference: letters in another case, a serial number."""
    if _SERIAL.fullmatch(token):
        yield readers.read_terminal(token, NEVER)
    elif _SMALL_PSP.fullmatch(token) and not readers.PSP_REFERENCE.fullmatch(token):
        yield readers.read_psp_reference(token, NEVER)
    elif plain and (other := token.lower() if token != token.lower() else token.upper()) != token:
        yield readers.read_reference(other, NEVER)


def _names_currency(token: str) -> bool:
    return token[0] in readers.SIGNS or token[-1] in readers.SIGNS or token[-3:].upper() in money.CURRENCIES


# -- from ways to searches ---------------------------------------------------------------------------------------------

_ENDS: Final[dict[str, Callable[..., datetime]]] = {"created_from": max, "created_to": min}


def _combined(words: list[list[Way]]) -> tuple[tuple[Reading, ...], tuple[str, ...]]:
    """Every way to read all words together, the likeliest first; ways in which two of them clash are none."""
    ways: list[Reading] = []
    clash = ""
    for choice in islice(product(*words), WAYS_MAX * 4):
        search, said = Search(), []
        for way in choice:
            together = _narrowed(search, way)
            if together is None:
                clash = f"Two words ask for different things, and nothing can be both: see “{way.said}”."
                break
            search = together
            said.append(way.said)
        else:
            ways.append(Reading(search, tuple(said)))
    if not ways:
        return (), (clash,) if clash else ()
    return tuple(ways[:WAYS_MAX]), ()


def _narrowed(search: Search, way: Way) -> Search | None:
    """Narrow further; None where a word contradicts one before it."""
    for name, value in way.sets.items():
        known = getattr(search, name)
        if name in _ENDS:
            value = value if known is None else _ENDS[name](known, value)  # noqa: PLW2901  -- the narrower of both
        elif known not in {None, ()} and known != value:
            return None
        search = replace(search, **{name: value})
    return search
