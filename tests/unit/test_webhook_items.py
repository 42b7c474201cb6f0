"""What is kept of a webhook, and what its event code means: every code of the reference, and nothing guessed."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import RemoteProtocolError
from orchestrator.evidence import BooksEntry
from orchestrator.model import Money
from orchestrator.refunds.evidence import RefundEntry
from orchestrator.webhooks.effects import EFFECTS, NOTHING, effect_of
from orchestrator.webhooks.items import Item, read_event, read_item, read_notification_items
from tests.protocol_vectors import ENTRIES, body

BODIES = [name for name in ENTRIES if name.startswith("webhooks/")]
DOCS = Path(__file__).parents[2] / "docs" / "webhooks.md"

#: Event codes of the protocol reference, section 2.5.
CODES = """
    AUTHORISATION AUTHORISATION_ADJUSTMENT CAPTURE CAPTURE_FAILED CANCELLATION CANCEL_OR_REFUND REFUND REFUND_FAILED
    REFUNDED_REVERSED REFUND_WITH_DATA VOID_PENDING_REFUND TECHNICAL_CANCEL EXPIRE NOTIFICATION_OF_CHARGEBACK CHARGEBACK
    CHARGEBACK_REVERSED SECOND_CHARGEBACK REPORT_AVAILABLE
""".split()


def items(name: str) -> list[Item]:
    live, found = read_notification_items(body(name))
    return [read_item(item, live) for item in found]


def an_item(**changes: Any) -> Item:
    whole = {
        "eventCode": "AUTHORISATION",
        "success": "true",
        "eventDate": "2025-11-25T10:00:40+01:00",
        "merchantAccountCode": "HarbourBakery",
        "pspReference": "QX7TPL4M2ZCN8V65",
        "merchantReference": "ORDER-1",
        "amount": {"value": 1099, "currency": "EUR"},
        **changes,
    }
    return read_item({name: value for name, value in whole.items() if value is not ...}, live=False)


# -- what is kept ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BODIES)
def test_each_composed_body_is_read_for_what_its_outcome_says(name: str) -> None:
    found = items(name)

    wanted = ENTRIES[name]["outcome"]
    if wanted == "webhook:batch":
        assert [item.event_code for item in found] == ["AUTHORISATION", "CAPTURE"]
    else:
        assert [f"webhook:{item.event_code}:{json.dumps(item.success)}" for item in found] == [wanted]
    assert {item.merchant_account for item in found} == {"ExampleMerchantPOS"}
    assert {item.live for item in found} == {False}
    assert not any(item.unreadable for item in found)


def test_an_authorisation_is_kept_without_its_card_data() -> None:
    (item,) = items("webhooks/authorisation")

    assert item.amount == Money("EUR", 1099)
    assert item.happened_at == "2025-11-25T09:00:40.000000Z"
    assert item.psp_reference == item.payment_psp_reference == "QX7TPL4M2ZCN8V65"
    assert (item.terminal_id, item.tender_reference) == ("V400m-324000123", "BV5k001764061234003")
    for dropped in ("123456", "9999", "2028", "H167852639363479", "CLESS"):
        assert dropped not in repr(item)


def test_a_modification_is_about_the_payment_that_it_names() -> None:
    (item,) = items("webhooks/cancel_or_refund_cancel")

    assert (item.psp_reference, item.payment_psp_reference) == ("W6BT9RRD3M2XQK41", "QX7TPL4M2ZCN8V65")
    assert item.action == "cancel"


def test_a_report_is_kept_with_its_name_and_place() -> None:
    (item,) = items("webhooks/report_available")

    assert item.psp_reference == "settlement_detail_report_batch_12.csv"
    assert (item.reason or "").startswith("https://ca-test.adyen.com/reports/download/")


def test_a_refusal_says_why_and_never_a_card_number() -> None:
    assert an_item(success="false", reason="210 Not enough balance").reason == "210 Not enough balance"
    assert "4111111111111111" not in (an_item(success="false", reason="4111111111111111").reason or "")


@pytest.mark.parametrize(
    ("change", "amount"),
    [
        ({"amount": {"value": "1099", "currency": "EUR"}}, Money("EUR", 1099)),
        ({"amount": {"value": 0, "currency": "EUR"}}, Money("EUR", 0)),
        ({"amount": ...}, None),
        ({"amount": None}, None),
    ],
)
def test_an_amount_may_be_text_or_missing(change: dict[str, Any], amount: Money | None) -> None:
    item = an_item(**change)

    assert item.amount == amount
    assert not item.unreadable


@pytest.mark.parametrize(
    "change",
    [
        {"amount": {"value": -1, "currency": "EUR"}},
        {"amount": {"value": "1e3", "currency": "EUR"}},
        {"amount": {"value": True, "currency": "EUR"}},
        {"amount": {"value": 1, "currency": "XXX"}},
        {"amount": {"value": 1, "currency": ["EUR"]}},
        {"amount": {"value": 1}},
        {"amount": {"currency": "EUR"}},
        {"amount": 1099},
        {"success": ...},
        {"success": "yes"},
        {"success": 1},
        {"eventCode": ...},
        {"merchantAccountCode": ""},
    ],
)
def test_what_cannot_be_read_whole_has_no_effect(change: dict[str, Any]) -> None:
    item = an_item(**change)

    assert item.unreadable
    assert effect_of(item) is None


@pytest.mark.parametrize("date", [..., "", "yesterday", "2025-11-25T10:00:40", 7, "9999-99-99T00:00:00Z"])
def test_an_event_without_a_certain_time_has_none(date: Any) -> None:
    assert an_item(eventDate=date).happened_at is None


def test_the_digest_covers_what_is_signed_and_nothing_that_is_not() -> None:
    first = an_item()
    changes: list[dict[str, Any]] = [
        {"pspReference": "OTHER"},
        {"merchantReference": "ORDER-2"},
        {"success": "false"},
        {"eventCode": "CAPTURE"},
        {"amount": {"value": 1098, "currency": "EUR"}},
    ]

    assert an_item(additionalData={"terminalId": "V400m-1"}).digest == first.digest
    assert an_item(eventDate="2025-11-25T10:00:41+01:00").digest == first.digest
    assert len({first.digest, *(an_item(**change).digest for change in changes)}) == len(changes) + 1


@pytest.mark.parametrize(
    "text", [b"", b"x", b"[]", b"{}", b'{"notificationItems": []}', b'{"notificationItems": [{}]}', b'{"a":1,"a":2}']
)
def test_a_body_without_items_is_refused(text: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        read_notification_items(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)
NAMES = "eventCode success eventDate merchantAccountCode pspReference amount additionalData reason".split()


@given(st.dictionaries(st.sampled_from(NAMES), JSON))
def test_no_item_is_a_crash(whole: dict[str, Any]) -> None:
    effect_of(read_item(whole, live=None))


# -- the newer kind ----------------------------------------------------------------------------------------------------


def test_an_event_of_the_newer_kind_is_known_by_its_type() -> None:
    event = read_event(
        b'{"type": "terminalSettings.modified", "environment": "test", "createdAt": "2025-11-25T10:00:40+01:00",'
        b' "data": {"merchantId": "HarbourBakery", "user": "S", "uniqueTerminalId": "V400m-1"}}'
    )

    assert (event.event_code, event.merchant_account) == ("terminalSettings.modified", "HarbourBakery")
    assert (event.live, event.happened_at) == (False, "2025-11-25T09:00:40.000000Z")
    assert event.terminal_id == "V400m-1"
    assert effect_of(event) is None


@pytest.mark.parametrize("text", [b"", b"\xff", b"[]", b'{"type": 1, "a": {"b": [1]}}', b"null"])
def test_a_signed_body_that_cannot_be_read_is_an_event_all_the_same(text: bytes) -> None:
    assert read_event(text).digest != read_event(text + b" ").digest


# -- what it means -----------------------------------------------------------------------------------------------------


def test_every_code_of_the_reference_has_a_meaning_for_success_and_failure_and_no_other_has() -> None:
    assert {code for code, _ in EFFECTS} == set(CODES)
    assert set(EFFECTS) == {(code, success) for code in CODES for success in (True, False)}


@pytest.mark.parametrize(
    ("code", "success", "payment", "refund"),
    [
        ("AUTHORISATION", True, BooksEntry.AUTHORISED, None),
        ("AUTHORISATION", False, BooksEntry.REFUSED, None),
        ("CANCELLATION", True, BooksEntry.CANCELLED, RefundEntry.CANCELLED),
        ("TECHNICAL_CANCEL", True, BooksEntry.CANCELLED, RefundEntry.CANCELLED),
        ("CANCEL_OR_REFUND", True, BooksEntry.REFUNDED_ELSEWHERE, RefundEntry.REFUNDED),
        ("CANCEL_OR_REFUND", False, None, RefundEntry.DECLINED),
        ("REFUND", True, BooksEntry.REFUNDED_ELSEWHERE, RefundEntry.REFUNDED),
        ("REFUND", False, None, RefundEntry.DECLINED),
        ("REFUND_WITH_DATA", True, None, RefundEntry.REFUNDED),
        ("REFUND_FAILED", True, BooksEntry.DIFFERENCE, RefundEntry.FAILED),
        ("REFUNDED_REVERSED", True, BooksEntry.DIFFERENCE, RefundEntry.REVERSED),
        ("VOID_PENDING_REFUND", True, BooksEntry.DIFFERENCE, RefundEntry.VOIDED),
        ("CAPTURE", True, None, None),
        ("CAPTURE", False, BooksEntry.DIFFERENCE, None),
        ("CAPTURE_FAILED", True, BooksEntry.DIFFERENCE, None),
        ("EXPIRE", True, BooksEntry.DIFFERENCE, None),
        ("CHARGEBACK", True, BooksEntry.DIFFERENCE, None),
        ("CHARGEBACK_REVERSED", True, BooksEntry.DIFFERENCE, None),
        ("REPORT_AVAILABLE", True, None, None),
    ],
)
def test_each_code_means_what_the_cells_demand(
    code: str, success: bool, payment: BooksEntry | None, refund: RefundEntry | None
) -> None:
    effect = effect_of(an_item(eventCode=code, success=json.dumps(success)))

    assert effect is not None
    assert (effect.payment, effect.refund) == (payment, refund)


def test_every_difference_has_a_name() -> None:
    for effect in EFFECTS.values():
        loud = effect.payment in {BooksEntry.DIFFERENCE, BooksEntry.REFUNDED_ELSEWHERE}
        assert not loud or effect.differs


def test_a_cancel_or_refund_that_was_a_cancel_takes_the_payment_back() -> None:
    item = an_item(eventCode="CANCEL_OR_REFUND", additionalData={"modification.action": "cancel"})
    effect = effect_of(item)

    assert effect
    assert (effect.payment, effect.refund) == (BooksEntry.CANCELLED, RefundEntry.CANCELLED)


def test_an_unknown_code_is_not_guessed() -> None:
    assert effect_of(an_item(eventCode="SOME_FUTURE_EVENT")) is None


@pytest.mark.parametrize("amount", [..., None, {"value": 0, "currency": "EUR"}])
def test_an_authorisation_of_no_amount_is_not_guessed(amount: Any) -> None:
    assert effect_of(an_item(amount=amount)) is None
    assert effect_of(an_item(amount=amount, eventCode="CAPTURE")) is NOTHING


def test_the_documentation_lists_every_code() -> None:
    assert not [code for code in CODES if f"`{code}`" not in DOCS.read_text()]
