"""One reader for each word that says what it is: ``amount:``, ``last4:``, ``on:`` and the others."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from orchestrator.model import Money, Outcome, State
from orchestrator.search.receipts import iso_day
from orchestrator.search.sought import CHARGED_WORDS, AmountSought
from orchestrator.terminal_api import money

#: ``at:`` is what a receipt says: printed after the payment began, by a clock that may be wrong.
AROUND: Final = timedelta(minutes=15)

PLAIN_AMOUNT: Final = re.compile(r"[0-9]{1,12}(?:[.,][0-9]{1,3})?", re.ASCII)
PSP_REFERENCE: Final = re.compile(r"[A-Z0-9]{16}")
#: A model with a digit in its name, and a serial number: S1F2-000158213300585, V400m-324688170.
POIID: Final = re.compile(r"(?=[A-Za-z]*[0-9])[A-Za-z0-9]{2,16}-[0-9]{6,15}", re.ASCII)
#: As receipts have it; a letter in front tells it from a card number.
TENDER: Final = re.compile(r"((?=[0-9]{0,3}[A-Za-z])[A-Za-z0-9]{4}[0-9]{15})(?:\.([A-Z0-9]{16}))?", re.ASCII)
SERVICE_ID: Final = re.compile(r"[A-Za-z0-9]{10}", re.ASCII)
ID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE | re.ASCII)
LAST4: Final = re.compile(r"(?:[*•·….xX]+)?([0-9]{4})", re.ASCII)
REFERENCE: Final = re.compile(r"[ -9;-\[\]-~]{1,80}")  # as `intake` takes them
DECIMAL: Final = re.compile(r"[€£$]?[0-9]{1,12}[.,][0-9]{1,3}(?: ?[A-Za-z]{3})?[€£$]?", re.ASCII)
WHOLE_OF_CURRENCY: Final = re.compile(r"[€£][0-9]{1,12}|[0-9]{1,12} ?(?:[A-Za-z]{3}|[€£])", re.ASCII)


class Unreadable(Exception):
    """A word says nothing to us; the sentence says why, and what would."""


@dataclass(frozen=True, slots=True)
class Way:
    """What one word may mean: the fields that it sets, and how that is said."""

    said: str
    sets: Mapping[str, Any] = field(hash=False)


NEVER: Final = datetime(1, 1, 1, tzinfo=UTC)  # where a reader does not look at the clock
SIGNS: Final = {"€": "EUR", "£": "GBP"}


def read_payment_id(value: str, _: datetime) -> Way:
    if not ID.fullmatch(value):
        raise Unreadable("a payment's id looks like 01890a5d-ac96-774b-bcce-b302099a8057.")
    return Way(f"the payment {value.lower()}", {"payment_id": UUID(value)})


def read_psp_reference(value: str, _: datetime) -> Way:
    if not (value.isascii() and value.isalnum() and len(value) <= 64):
        raise Unreadable("a PSP reference has capitals and digits alone, mostly 16 of them.")
    return Way(f"PSP reference {value.upper()}", {"psp_reference": value.upper()})


def read_tender(value: str, _: datetime) -> Way:
    whole = TENDER.fullmatch(value)
    if whole and whole[2]:  # as a receipt and a result have it: with the PSP reference behind a dot
        return Way(f"tender reference {whole[1]}", {"tender_reference": whole[1], "psp_reference": whole[2]})
    if not (value.isascii() and value.isprintable() and len(value) <= 64):
        raise Unreadable("a tender reference looks like BV0q001643892070000.")
    return Way(f"tender reference {value}", {"tender_reference": value})


def read_service_id(value: str, _: datetime) -> Way:
    if not re.fullmatch(r"[A-Za-z0-9]{1,10}", value, re.ASCII):
        raise Unreadable("a ServiceID has up to 10 letters and digits.")
    return Way(f"ServiceID {value}", {"service_id": value})


def read_reference(value: str, _: datetime) -> Way:
    start = value.removesuffix("*") if len(value) > 1 else value
    if not REFERENCE.fullmatch(start):
        raise Unreadable("a reference has 1 to 80 printable ASCII characters, none of them : or \\.")
    if start != value:
        return Way(f"a reference that begins with {start}", {"reference_start": start})
    return Way(f"reference {value}", {"reference": value})


def read_sale(value: str, _: datetime) -> Way:
    if not (value.isascii() and value.isprintable() and len(value) <= 80):
        raise Unreadable("a sale has up to 80 printable ASCII characters.")
    return Way(f"sale {value}", {"sale_reference_id": value})


def read_last4(value: str, _: datetime) -> Way:
    found = LAST4.fullmatch(value)
    if found is None:
        raise Unreadable("type the last four digits of the card, such as last4:1111.")
    return Way(f"a card that ends in {found[1]}", {"last4": found[1]})


def read_terminal(value: str, _: datetime) -> Way:
    if not (value.isascii() and value.isprintable() and len(value) <= 64):
        raise Unreadable("a terminal looks like V400m-324688170.")
    return Way(f"terminal {value}", {"poi_id": value})


def read_amount(value: str, _: datetime) -> Way:
    text = value.replace(" ", "").strip("$")
    currency: str | None = None
    for sign, name in SIGNS.items():
        if sign in text:
            text, currency = text.replace(sign, "", 1), name
    if len(text) > 3 and text[-3:].isalpha():
        text, currency = text[:-3], text[-3:].upper()
    elif len(text) > 3 and text[:3].isalpha():
        text, currency = text[3:], text[:3].upper()
    if not PLAIN_AMOUNT.fullmatch(text):
        raise Unreadable("write an amount like 10.50, 10.50 EUR, or 1050 for minor units.")
    major = text.replace(",", ".")
    if currency is not None:
        sought: tuple[AmountSought, ...] = (_of_currency(major, currency),)
        return Way(f"amount {major} {currency}", {"amounts": sought})
    if major.isdigit():
        minor = int(major)
        return Way(f"amount of {minor} minor units", {"amounts": (AmountSought(minor),)})
    sought = tuple(_of_every_currency(major))
    if not sought:
        raise Unreadable("no currency has an amount like that.")
    return Way(f"amount {major} in any currency", {"amounts": sought})


def _of_currency(major: str, currency: str) -> AmountSought:
    try:
        return AmountSought(money.from_major(major, currency).minor, frozenset({currency}))
    except money.InvalidAmount as error:
        why = {"unknown-currency": f"{currency} is no currency that we know."}
        raise Unreadable(why.get(error.problem, f"{currency} has no amount {major}.")) from None


def _of_every_currency(major: str) -> Iterator[AmountSought]:
    """The same digits are other minor units where a currency has other decimals."""
    for currencies in (money.TWO_DECIMALS, money.THREE_DECIMALS, money.ZERO_DECIMALS):
        try:
            found: Money = money.from_major(major, min(currencies))
        except money.InvalidAmount:
            continue
        yield AmountSought(found.minor, currencies)


def read_state(value: str, _: datetime) -> Way:
    if value.lower() not in set(State):
        raise Unreadable(f"a state is one of {', '.join(State)}.")
    return read_state_word(value.lower())


def read_outcome(value: str, _: datetime) -> Way:
    if value.lower() not in set(Outcome):
        raise Unreadable(f"an outcome is one of {', '.join(Outcome)}.")
    return read_state_word(value.lower())


def read_charged(value: str, _: datetime) -> Way:
    word = {"true": "yes", "false": "no", "null": "unknown"}.get(value.lower(), value.lower())
    if word not in CHARGED_WORDS:
        raise Unreadable("charged is yes, no or unknown.")
    return Way({"yes": "charged", "no": "not charged"}.get(word, "not known whether charged"), {"charged": word})


def read_state_word(word: str) -> Way:
    if word in {"charged", "uncharged"}:
        return read_charged("yes" if word == "charged" else "no", NEVER)
    if word in set(State):
        return Way(f"state {word}", {"state": State(word)})
    return Way(f"outcome {word.replace('_', ' ')}", {"outcome": Outcome(word)})


# -- times, all in UTC -------------------------------------------------------------------------------------------------

_DAY: Final = timedelta(days=1)
_SPAN: Final = re.compile(r"([0-9]{1,4})(m|h|d)", re.ASCII)
_UNITS: Final = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": _DAY}
_WHEN: Final = "write a time like 2026-11-20 or 2026-11-20T14:05, in UTC; today and yesterday will do."


def _instant(value: str, now: datetime) -> tuple[datetime, timedelta | None]:
    """An instant, and how long the day is when a whole day was meant."""
    midnight = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    days = {"today": midnight, "yesterday": midnight - _DAY}
    if value.lower() in days:
        return days[value.lower()], _DAY
    value = iso_day(value)
    try:
        found = datetime.fromisoformat(value.upper())
        found = found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
        _ = found + 2 * _DAY, found - 2 * _DAY  # the ends of the calendar are nobody's day
    except (ValueError, OverflowError):
        raise Unreadable(_WHEN) from None
    return found, _DAY if re.fullmatch(r"[0-9]{4}-?[0-9]{2}-?[0-9]{2}", value) else None


def read_on(value: str, now: datetime) -> Way:
    start, day = _instant(value, now)
    if day is None:
        return _at(value, now)
    return Way(f"on {start:%Y-%m-%d}, UTC", {"created_from": start, "created_to": start + day})


def _at(value: str, now: datetime) -> Way:
    instant, day = _instant(value, now)
    if day is not None:
        return read_on(value, now)
    said = f"within {AROUND.seconds // 60} minutes of {instant:%Y-%m-%d %H:%M} UTC"
    return Way(said, {"created_from": instant - AROUND, "created_to": instant + AROUND})


def _from(value: str, now: datetime) -> Way:
    instant, _ = _instant(value, now)
    return Way(f"from {instant:%Y-%m-%d %H:%M} UTC", {"created_from": instant})


def _to(value: str, now: datetime) -> Way:
    instant, day = _instant(value, now)
    end = instant + (day or timedelta())
    return Way(f"before {end:%Y-%m-%d %H:%M} UTC", {"created_to": end})


def _last(value: str, now: datetime) -> Way:
    span = _SPAN.fullmatch(value.lower())
    if span is None:
        raise Unreadable("write a span like 90m, 24h or 7d.")
    return Way(f"in the last {value.lower()}", {"created_from": now - int(span[1]) * _UNITS[span[2]]})


READERS: Final[dict[str, Callable[[str, datetime], Way]]] = {
    **dict.fromkeys(("reference", "ref", "order"), read_reference),
    **dict.fromkeys(("psp", "psp_reference", "pspreference"), read_psp_reference),
    **dict.fromkeys(("terminal", "poi", "poi_id", "poiid"), read_terminal),
    **dict.fromkeys(("service", "service_id", "serviceid"), read_service_id),
    **dict.fromkeys(("last4", "card"), read_last4),
    **dict.fromkeys(("tender", "tender_reference"), read_tender),
    **dict.fromkeys(("sale", "sale_reference_id"), read_sale),
    **dict.fromkeys(("id", "payment", "payment_id"), read_payment_id),
    "amount": read_amount,
    "state": read_state,
    "outcome": read_outcome,
    "charged": read_charged,
    "on": read_on,
    "at": _at,
    **dict.fromkeys(("from", "since"), _from),
    **dict.fromkeys(("to", "until"), _to),
    "last": _last,
}
#: The names that are shown; each has its short forms.
KNOWN_NAMES: Final = (
    "reference", "psp", "terminal", "service", "amount", "last4", "tender", "sale", "id", "state", "outcome", "charged",
    "on", "at", "from", "to", "last",
)  # fmt: skip
