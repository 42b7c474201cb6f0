from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.model import Money
from orchestrator.terminal_api import money
from orchestrator.terminal_api.money import InvalidAmount
from tests.protocol_vectors import load

TABLE = load("currency-amounts.json")


def test_the_currency_table_is_the_platforms() -> None:
    assert set(TABLE["zero_decimals"]) == money.ZERO_DECIMALS
    assert set(TABLE["three_decimals"]) == money.THREE_DECIMALS
    assert {code: money.decimals(code) for code in TABLE["differs_from_iso"]} == TABLE["differs_from_iso"]


def test_each_currency_is_listed_once() -> None:
    parts = (money.ZERO_DECIMALS, money.TWO_DECIMALS, money.THREE_DECIMALS)

    assert sum(map(len, parts)) == len(money.CURRENCIES)
    assert all(len(code) == 3 and code.isascii() and code.isupper() for code in money.CURRENCIES)


@pytest.mark.parametrize("vector", TABLE["vectors"], ids=lambda v: f"{v['major']}-{v['currency']}")
def test_each_amount_of_the_vectors_is_read_as_they_say(vector: dict[str, object]) -> None:
    major, currency = str(vector["major"]), str(vector["currency"])

    assert money.decimals(currency) == vector["decimals"]
    for value in (major, Decimal(major)):
        if vector["representable"]:
            found = money.from_major(value, currency)
            assert found == Money(currency, int(str(vector["minor"])))
            assert money.to_major(found) == Decimal(major)
        else:
            with pytest.raises(InvalidAmount):
                money.from_major(value, currency)


@pytest.mark.parametrize("value", [11, Decimal(11), Decimal("11.0"), Decimal("11.00"), "11", "11.0", "11.00"])
def test_the_same_amount_has_many_spellings(value: object) -> None:
    assert money.from_major(value, "EUR") == Money("EUR", 1100)


@pytest.mark.parametrize(
    "value",
    [
        None, True, 10.99, [], {}, "", " 1", "1 ", "+1", "1,5", "0x1", "1_000", "٣", "NaN", "Infinity", Decimal("NaN"),
        Decimal("Infinity"), -1, "-0.01", Decimal(-1), "100000000", 10**30, Decimal("1E+900000"),
        Decimal("1E-900000"), "1E999", "0.001", Decimal("10." + "9" * 27 + "1"),
    ],
)  # fmt: skip
def test_what_is_no_amount_is_refused(value: object) -> None:
    with pytest.raises(InvalidAmount):
        money.from_major(value, "EUR")


@pytest.mark.parametrize("currency", ["", "eur", "XXX", "EURO", "€"])
def test_a_currency_that_the_platform_does_not_list_is_refused(currency: str) -> None:
    with pytest.raises(InvalidAmount):
        money.decimals(currency)


@pytest.mark.parametrize("minor", [-1, 10_000_000_000])
def test_an_amount_outside_the_protocols_range_is_not_sent(minor: int) -> None:
    with pytest.raises(InvalidAmount):
        money.to_major(Money("EUR", minor))


@given(st.integers(0, 9_999_999_999), st.sampled_from(sorted(money.CURRENCIES)))
def test_minor_and_major_units_convert_without_loss(minor: int, currency: str) -> None:
    if minor > money.MAX_MAJOR.scaleb(money.decimals(currency)):
        minor //= 1000
    amount = Money(currency, minor)

    assert money.from_major(money.to_major(amount), currency) == amount


@pytest.mark.parametrize(
    ("value", "minor"),
    [("1099", 1099), ("0", 0), ("-1", None), ("1.0", None), (1099, None), ("9" * 16, None), ("٣", None)],
)
def test_minor_units_are_read_from_digits_alone(value: object, minor: int | None) -> None:
    assert money.read_minor(value) == minor
