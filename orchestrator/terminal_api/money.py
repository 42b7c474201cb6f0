"""Major units on the wire, minor units inside, by the platform's currency table.

The table deviates from ISO 4217 for CLP, CVE, IDR and ISK. Source: the platform's currency list,
https://docs.adyen.com/development-resources/currency-codes, and ``Currency.php`` of its official PHP library.
"""

import re
from decimal import Decimal
from typing import Any

from orchestrator.errors import ProtocolError
from orchestrator.model import Money

_ZERO = "CVE DJF GNF IDR JPY KMF KRW PYG RWF UGX VND VUV XAF XOF XPF"
_THREE = "BHD IQD JOD KWD LYD OMR TND"
_TWO = """
    AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF CLP CNY
    COP CRC CUP CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF ILS INR IRR ISK JMD
    KES KGS KHR KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR
    NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT
    TOP TRY TTD TWD TZS UAH USD UYU UZS VES WST XCD YER ZAR ZMW
"""
ZERO_DECIMALS = frozenset(_ZERO.split())
THREE_DECIMALS = frozenset(_THREE.split())
TWO_DECIMALS = frozenset(_TWO.split())
CURRENCIES = ZERO_DECIMALS | THREE_DECIMALS | TWO_DECIMALS

MAX_MAJOR = Decimal("99999999.999999")  # the schema's range of an amount (TerminalAPI-v1)
_PLAIN_NUMBER = re.compile(r"[0-9]{1,20}(?:\.[0-9]{1,20})?(?:[eE][+-]?[0-9]{1,3})?", re.ASCII)
_MINOR_NUMBER = re.compile(r"[0-9]{1,15}", re.ASCII)
_MAX_DIGITS = 28  # what Decimal keeps exactly by default


class InvalidAmount(ProtocolError):
    """The amount cannot be expressed in this currency."""

    def __init__(self, problem: str) -> None:
        """Name the ``problem`` by a slug."""
        super().__init__(f"not an amount: {problem}")
        self.problem = problem


def decimals(currency: str) -> int:
    """Return how many decimals the platform gives this currency. Raises InvalidAmount for one that it does not list."""
    if currency in TWO_DECIMALS:
        return 2
    if currency in ZERO_DECIMALS:
        return 0
    if currency in THREE_DECIMALS:
        return 3
    raise InvalidAmount("unknown-currency")


def to_major(money: Money) -> Decimal:
    """Return the amount in major units, exactly."""
    places = decimals(money.currency)
    if not 0 <= money.minor <= MAX_MAJOR.scaleb(places):
        raise InvalidAmount("out-of-range")
    return Decimal(money.minor).scaleb(-places)


def in_words(currency: str, minor: int) -> str:
    """1,050.00 EUR, for people; minor units where it is no amount of the platform's."""
    try:
        return f"{to_major(Money(currency, minor)):,f} {currency}"
    except InvalidAmount:
        return f"{minor} minor units of {currency}"


def from_major(value: object, currency: str) -> Money:
    """Read an amount in major units: an int, a Decimal, or their text; 11, 11.0 and "11.00" are the same."""
    places = decimals(currency)
    major = _exact(value)
    if not 0 <= major <= MAX_MAJOR:
        raise InvalidAmount("out-of-range")
    if len(major.as_tuple().digits) > _MAX_DIGITS:
        raise InvalidAmount("too-many-decimals")
    minor = major.scaleb(places)
    if minor != minor.to_integral_value():
        raise InvalidAmount("too-many-decimals")
    return Money(currency, int(minor))


def _exact(value: object) -> Decimal:
    if isinstance(value, bool):
        raise InvalidAmount("not-a-number")
    if isinstance(value, int):
        return Decimal(value)
    if isinstance(value, Decimal) and value.is_finite():
        return value
    if isinstance(value, str) and _PLAIN_NUMBER.fullmatch(value):
        return Decimal(value)
    raise InvalidAmount("not-a-number")


def read_minor(value: Any) -> int | None:
    """Read an integer of minor units as AdditionalResponse has it; None when it is none."""
    if isinstance(value, str) and _MINOR_NUMBER.fullmatch(value):
        return int(value)
    return None
