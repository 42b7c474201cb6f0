"""Differences: found again they are the same, and a closed one opens only when the facts change."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest

from orchestrator.model import Money
from orchestrator.store import schema
from orchestrator.store.differences import DifferenceFilter, DifferenceStore, Side
from orchestrator.store.words import DifferenceKind, DifferenceState
from tests.integration.store_support import Shop, shop_in

pytestmark = pytest.mark.integration

TEN = Side(state="authorised", amount=Money("EUR", 1000))
NINE = Side(state="authorised", amount=Money("EUR", 900))


@pytest.fixture(scope="module")
def shop(postgres_url: str) -> Iterator[Shop]:
    with shop_in(postgres_url) as opened:
        yield opened


@pytest.fixture
def differences(shop: Shop) -> DifferenceStore:
    return DifferenceStore(shop.database)


@pytest.fixture
def merchant() -> str:
    return f"Merchant{uuid4().hex[:12]}"


def opened(differences: DifferenceStore, merchant: str, **changes: Any) -> bool:
    fields: dict[str, Any] = {
        "merchant_account": merchant,
        "kind": DifferenceKind.AMOUNT_DIFFERS,
        "source": "webhook:AUTHORISATION",
        "psp_reference": "QX7TPL4M2ZCN8V65",
        "ours": TEN,
        "theirs": NINE,
    }
    return differences.open(**(fields | changes))


def of(differences: DifferenceStore, merchant: str) -> list[dict[str, Any]]:
    return differences.many(DifferenceFilter(merchant_account=merchant), 0, 100)


def test_the_schema_is_what_the_tables_say(shop: Shop) -> None:
    assert schema.differences(shop.url) is None


def test_the_same_difference_is_opened_once(differences: DifferenceStore, merchant: str) -> None:
    assert opened(differences, merchant)
    assert not opened(differences, merchant, source="report:Settled")

    (found,) = of(differences, merchant)
    assert (found["state"], found["kind"], found["source"]) == ("open", "amount_differs", "webhook:AUTHORISATION")
    assert found["theirs"] == {"state": "authorised", "amount": {"currency": "EUR", "value": 900}}


def test_another_kind_payment_or_reference_is_another_difference(
    differences: DifferenceStore, shop: Shop, merchant: str
) -> None:
    payment = shop.pay(shop.terminal())
    for changes in (
        {},
        {"kind": DifferenceKind.STATE_DIFFERS},
        {"payment_id": payment},
        {"refund_id": uuid4()},
        {"psp_reference": "AAAAAAAAAAAAAAAA"},
        {"psp_reference": None, "reference": "QX7TPL4M2ZCN8V65"},
        {"merchant_account": f"{merchant}B"},
    ):
        assert opened(differences, merchant, **changes)


def test_what_a_person_closed_stays_closed_until_the_books_say_something_else(
    differences: DifferenceStore, merchant: str
) -> None:
    opened(differences, merchant)
    (found,) = of(differences, merchant)
    closed = differences.change(found["id"], DifferenceState.CLOSED, by="Ann", note="a tip, seen on the receipt")
    assert closed
    assert (closed["state"], closed["changed_by"], closed["note"]) == ("closed", "Ann", "a tip, seen on the receipt")

    assert not opened(differences, merchant)
    assert not opened(differences, merchant, theirs=Side(state="Authorised", amount=NINE.amount))
    assert of(differences, merchant)[0]["state"] == "closed"

    assert opened(differences, merchant, theirs=TEN)
    (again,) = of(differences, merchant)
    assert (again["state"], again["changed_by"], again["note"]) == ("open", None, None)
    assert [entry["state"] for entry in again["history"]] == ["closed", "open"]
    assert again["history"][0]["by"] == "Ann"


def test_a_chargeback_that_went_on_opens_again_whoever_tells_and_however_it_is_spelled(
    differences: DifferenceStore, merchant: str
) -> None:
    def told(state: str) -> bool:
        return opened(
            differences, merchant, kind=DifferenceKind.CHARGEBACK, theirs=Side(state=state, amount=NINE.amount)
        )

    assert told("CHARGEBACK")
    assert not told("Chargeback")
    assert told("ChargebackReversed")
    assert not told("CHARGEBACK_REVERSED")


def test_another_merchants_difference_is_neither_read_nor_changed(differences: DifferenceStore, merchant: str) -> None:
    opened(differences, merchant)
    found: UUID = of(differences, merchant)[0]["id"]

    assert differences.one(found, "Another") is None
    assert differences.change(found, DifferenceState.CLOSED, by="Eve", note="mine", merchant_account="Another") is None
    assert of(differences, merchant)[0]["state"] == "open"


def test_lists_are_narrowed(differences: DifferenceStore, merchant: str) -> None:
    opened(differences, merchant)
    opened(differences, merchant, kind=DifferenceKind.ORPHAN)
    first, second = of(differences, merchant)
    differences.change(first["id"], DifferenceState.EXPLAINED, by="Ann", note="known")

    def listed(**narrowed: Any) -> list[UUID]:
        return [row["id"] for row in differences.every(DifferenceFilter(merchant_account=merchant, **narrowed))]

    assert listed(state=DifferenceState.OPEN) == [second["id"]]
    assert listed(kind=DifferenceKind.AMOUNT_DIFFERS) == [first["id"]]
    assert listed(run_id=uuid4()) == []


def test_a_reference_that_looks_like_a_card_number_is_not_kept(differences: DifferenceStore, merchant: str) -> None:
    opened(differences, merchant, reference="order 4111111111111111")

    assert "4111111111111111" not in str(of(differences, merchant))
