"""What a person types is read as they meant it, or they are told which word was not understood."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.cards import mask_card_numbers
from orchestrator.model import Money, Outcome, State
from orchestrator.search.readers import AROUND, KNOWN_NAMES
from orchestrator.search.sought import AmountSought, Search
from orchestrator.search.words import TYPED_CHARS_MAX, WAYS_MAX, WORDS_MAX, Read, read, without_card_numbers
from orchestrator.terminal_api import money

NOW = datetime(2026, 11, 21, 15, 30, tzinfo=UTC)
MIDNIGHT = datetime(2026, 11, 21, tzinfo=UTC)
DAY = timedelta(days=1)
ID = "01890a5d-ac96-774b-bcce-b302099a8057"
EUROS = frozenset({"EUR"})

PLAIN = st.text(
    st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_/."), min_size=1, max_size=80
)


def typed(line: str) -> Read:
    return read(line, now=NOW)


def first(line: str) -> Search:
    """The likeliest reading of a line in which everything is understood."""
    found = typed(line)
    assert found.trouble == ()
    return found.ways[0].search


@pytest.mark.parametrize(
    ("line", "search"),
    [
        ("", Search()),
        ("r-1042", Search(reference="r-1042")),
        ("r-10*", Search(reference_start="r-10")),
        ('"ORDER 12"', Search(reference="ORDER 12")),
        ('ref:"ORDER 12"', Search(reference="ORDER 12")),
        ("reference:unknown", Search(reference="unknown")),
        ("JW9K2X8H4TQBZ6P1", Search(psp_reference="JW9K2X8H4TQBZ6P1")),
        ("psp:jw9k2x8h4tqbz6p1", Search(psp_reference="JW9K2X8H4TQBZ6P1")),
        ("1111", Search(last4="1111")),
        ("last4:1111", Search(last4="1111")),
        ("****1111", Search(last4="1111")),
        ("card:…1111", Search(last4="1111")),
        ("V400m-324688170", Search(poi_id="V400m-324688170")),
        ("S1F2-000158213300585", Search(poi_id="S1F2-000158213300585")),
        ("terminal:324688170", Search(poi_id="324688170")),
        ("poi:Till-4", Search(poi_id="Till-4")),
        ("service:AbC1234567", Search(service_id="AbC1234567")),
        ("sale:basket-7", Search(sale_reference_id="basket-7")),
        ("BV0q001643892070000", Search(tender_reference="BV0q001643892070000")),
        (
            "BV0q001643892070000.LG3XQF5X4ZGT5V82",
            Search(tender_reference="BV0q001643892070000", psp_reference="LG3XQF5X4ZGT5V82"),
        ),
        (ID, Search(payment_id=UUID(ID))),
        (f"id:{ID.upper()}", Search(payment_id=UUID(ID))),
        ("unknown", Search(state=State.UNKNOWN)),
        ("state:Pending", Search(state=State.PENDING)),
        ("declined", Search(outcome=Outcome.DECLINED)),
        ("outcome:not_performed", Search(outcome=Outcome.NOT_PERFORMED)),
        ("charged", Search(charged="yes")),
        ("charged:no", Search(charged="no")),
        ("charged:unknown", Search(charged="unknown")),
        ("10.50 EUR", Search(amounts=(AmountSought(1050, EUROS),))),
        ("EUR 10,50", Search(amounts=(AmountSought(1050, EUROS),))),
        ("10.5eur", Search(amounts=(AmountSought(1050, EUROS),))),
        ("€12", Search(amounts=(AmountSought(1200, EUROS),))),
        ("12 JPY", Search(amounts=(AmountSought(12, frozenset({"JPY"})),))),
        ("1.234 KWD", Search(amounts=(AmountSought(1234, frozenset({"KWD"})),))),
        ("amount:1050", Search(amounts=(AmountSought(1050),))),
        ("amount:10.50 EUR", Search(amounts=(AmountSought(1050, EUROS),))),
        (
            "10.50",
            Search(amounts=(AmountSought(1050, money.TWO_DECIMALS), AmountSought(10500, money.THREE_DECIMALS))),
        ),
        ("on:2026-11-20", Search(created_from=MIDNIGHT - DAY, created_to=MIDNIGHT)),
        ("2026-11-20", Search(created_from=MIDNIGHT - DAY, created_to=MIDNIGHT)),
        ("today", Search(created_from=MIDNIGHT, created_to=MIDNIGHT + DAY)),
        ("from:yesterday to:yesterday", Search(created_from=MIDNIGHT - DAY, created_to=MIDNIGHT)),
        ("last:24h", Search(created_from=NOW - DAY)),
        ("last:90m", Search(created_from=NOW - timedelta(minutes=90))),
        ("since:2026-11-21T14:05", Search(created_from=MIDNIGHT.replace(hour=14, minute=5))),
        ("from:2026-11-21T15:05+01:00", Search(created_from=MIDNIGHT.replace(hour=14, minute=5))),
        (
            "at:2026-11-21T14:05",
            Search(
                created_from=MIDNIGHT.replace(hour=14, minute=5) - AROUND,
                created_to=MIDNIGHT.replace(hour=14, minute=5) + AROUND,
            ),
        ),
        (
            "r-1042 10.50 EUR last4:1111 terminal:V400m-324688170 state:unknown on:2026-11-20",
            Search(
                reference="r-1042",
                amounts=(AmountSought(1050, EUROS),),
                last4="1111",
                poi_id="V400m-324688170",
                state=State.UNKNOWN,
                created_from=MIDNIGHT - DAY,
                created_to=MIDNIGHT,
            ),
        ),
    ],
)
def test_words_are_read_as_they_are_meant(line: str, search: Search) -> None:
    assert first(line) == search


@pytest.mark.parametrize(
    ("line", "ways"),
    [
        ("r-1042", ["reference", "reference", "reference_start"]),
        ("324688170", ["reference", "poi_id", "reference_start"]),
        ("jw9k2x8h4tqbz6p1", ["reference", "psp_reference", "reference_start"]),
        ("1111", ["last4", "reference", "reference_start"]),
        ("JW9K2X8H4TQBZ6P1", ["psp_reference", "reference", "reference_start"]),
        ("AbC1234567", ["reference", "service_id", "reference_start"]),
        ("V400m-324688170", ["poi_id", "reference", "reference_start"]),
    ],
)
def test_a_word_that_may_be_several_things_is_tried_as_each(line: str, ways: list[str]) -> None:
    read_as = [[name for name in Search.__dataclass_fields__ if getattr(way.search, name)] for way in typed(line).ways]

    assert read_as == [[name] for name in ways]


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("foo:bar", "foo:bar"),
        ("25:05", "25:05"),
        ("14:05 15:05", "14:05"),
        ("31-02-2026", "31-02-2026"),
        ("charged:maybe", "charged:maybe"),
        ("state:gone", "state:gone"),
        ("outcome:gone", "outcome:gone"),
        ("last4:11", "last4:11"),
        ("amount:much", "amount:much"),
        ("10.505 EUR", "10.505"),
        ("on:someday", "on:someday"),
        ("at:9999-12-31", "at:9999-12-31"),
        ("last:1y", "last:1y"),
        ("id:7", "id:7"),
        ("psp:a-b", "psp:a-b"),
        ("service:toolongforone", "service:toolongforone"),
        ("terminal:ö", "terminal:ö"),
        ("tender:ö", "tender:ö"),
        ("sale:ö", "sale:ö"),
        ("ref:ö", "ref:ö"),
        ("ö", "ö"),
        ("amount:", "amount:"),
        ("last4:1111 last4:2222", "2222"),
    ],
)
def test_a_word_that_says_nothing_is_named(line: str, word: str) -> None:
    found = typed(line)

    assert word in " ".join(found.trouble)


@pytest.mark.parametrize(
    ("line", "search"),
    [
        ("JW9K 2X8H 4TQB Z6P1", Search(psp_reference="JW9K2X8H4TQBZ6P1")),
        (
            "10.50 EUR JW9K 2X8H 4TQB Z6P1",
            Search(psp_reference="JW9K2X8H4TQBZ6P1", amounts=(AmountSought(1050, EUROS),)),
        ),
        ("**** 1111", Search(last4="1111")),
        ("•••• 1111 XXXX 1111", Search(last4="1111")),
        ("20-11-2026", first("on:2026-11-20")),
        ("20/11/2026", first("on:2026-11-20")),
        ("on:20.11.2026", first("on:2026-11-20")),
        ("20-11-2026 14:05", first("at:2026-11-20T14:05")),
        ("14:05:33 2026-11-20", first("at:2026-11-20T14:05:33")),
        ("on:yesterday at:9:05", first("at:2026-11-20T09:05")),
        ("15:29", first("at:2026-11-21T15:29")),
        ("15:40", first("at:2026-11-21T15:40")),
        ("15:46", first("at:2026-11-20T15:46")),
    ],
)
def test_what_is_read_off_a_receipt_is_read_as_it_stands_there(line: str, search: Search) -> None:
    assert first(line) == search


def test_a_reference_is_looked_for_in_the_other_case_before_it_is_looked_for_as_a_beginning() -> None:
    ways = [way.search for way in typed("Sale-1").ways]

    assert ways == [Search(reference="Sale-1"), Search(reference="sale-1"), Search(reference_start="Sale-1")]


def test_what_is_understood_stands_beside_what_is_not() -> None:
    found = typed("1111 foo:bar")

    assert found.ways[0].search == Search(last4="1111")
    assert len(found.trouble) == 1


def test_the_fields_of_the_form_are_words_too() -> None:
    found = read("r-1", [("terminal", "V400m-1"), ("from", "2026-11-21"), ("charged", "no")], now=NOW)

    assert found.ways[0].search == Search(reference="r-1", poi_id="V400m-1", created_from=MIDNIGHT, charged="no")


def test_every_name_that_is_shown_is_known() -> None:
    unknown = [name for name in KNOWN_NAMES if "knows no" in " ".join(typed(f"{name}:?").trouble)]

    assert unknown == []


@pytest.mark.parametrize(
    ("line", "masked"),
    [
        ("4111 1111 1111 1111", "last4:1111"),
        ("r-1 4111111111111111 10.50", "r-1 last4:1111 10.50"),
        ("5500-0000-0000-0004", "last4:0004"),
        (ID, ID),
        ("BV0q001643892070000", "BV0q001643892070000"),
        ("6011000990139424009", "last4:4009"),
    ],
)
def test_a_whole_card_number_becomes_its_last_four(line: str, masked: str) -> None:
    assert without_card_numbers(line) == masked


# -- properties --------------------------------------------------------------------------------------------------------


@given(st.text(max_size=TYPED_CHARS_MAX + 50))
def test_whatever_is_typed_is_read_or_answered(line: str) -> None:
    found = typed(line)

    assert len(found.ways) <= WAYS_MAX
    assert found.ways or found.trouble
    assert all(len(way.said) <= WORDS_MAX for way in found.ways)


@given(PLAIN)
def test_a_reference_is_found_by_its_name_whatever_it_looks_like(reference: str) -> None:
    assert first(f"reference:{reference}\u0020") == (
        Search(reference_start=reference[:-1]) if reference.endswith("*") else Search(reference=reference)
    )


@given(PLAIN)
def test_what_is_typed_bare_is_tried_as_a_reference_unless_it_says_what_it_is(word: str) -> None:
    found = typed(word)
    says_itself = found.ways and (
        found.ways[0].search.amounts or found.ways[0].search.state or found.ways[0].search.outcome
    )
    dated = found.ways and found.ways[0].search.created_from is not None
    charged = found.ways and found.ways[0].search.charged is not None

    assert says_itself or dated or charged or found.trouble or word in [way.search.reference for way in found.ways]


@given(st.integers(1, 99_999_999), st.sampled_from(sorted(money.CURRENCIES)))
def test_an_amount_is_found_as_it_is_shown(minor: int, currency: str) -> None:
    shown = f"{money.to_major(Money(currency, minor)):f}"

    assert first(f"{shown} {currency}").amounts == (AmountSought(minor, frozenset({currency})),)


@given(st.integers(10**12, 10**19 - 1))
def test_no_card_number_is_left_in_what_is_searched_for(number: int) -> None:
    masked = without_card_numbers(f"r-1 {number}")

    assert mask_card_numbers(masked) == masked
