"""Refunds on the wire, by the reference's vectors: what is sent, and what an answer is worth."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.evidence import (
    AnswerMissing,
    Channel,
    Evidence,
    Exchange,
    InProgressReported,
    NotFoundReported,
    RequestRejected,
)
from orchestrator.model import Money
from orchestrator.refunds.evidence import RefundReported
from orchestrator.terminal_api import reversals
from orchestrator.terminal_api.reversals import PAYMENT, REVERSAL
from tests.protocol_vectors import body, message, transaction

reverse = partial(
    reversals.reversal_request,
    original_id="BV5k001764061234003.QX7TPL4M2ZCN8V65",
    original_at="2025-11-25T09:00:34.123Z",
)
FULL = transaction(reference="REFUND-0002", service_id="rev0000001")
PARTIAL = transaction(reference="REFUND-0003", service_id="rev0000002", amount=Money("EUR", 450))
PAYOUT = transaction(reference="REFUND-0001", service_id="ref0000001")


def read(sent: bytes) -> Any:
    return json.loads(sent, parse_float=Decimal)


def answered(name: str, tx: Any = FULL, category: str = REVERSAL, status: int = 200) -> Evidence:
    return reversals.read_refund_answer(status, body(name), tx, category=category)


def asked(name: str, tx: Any = FULL, category: str = REVERSAL, service_id: str = "sta0000002") -> Evidence:
    return reversals.read_refund_status(200, body(name), tx, category=category, status_service_id=service_id)


# --- requests ---------------------------------------------------------------------------------------------------------


def test_a_whole_refund_names_no_amount() -> None:
    sent = reverse(FULL, at=datetime(2025, 11, 25, 10, 12, tzinfo=UTC), whole=True)

    assert read(sent) == message("requests/reversal_full")


def test_a_partial_refund_names_its_amount_in_major_units_and_its_currency_beside_it() -> None:
    sent = reverse(PARTIAL, at=datetime(2025, 11, 25, 10, 14, tzinfo=UTC))

    assert read(sent) == message("requests/reversal_partial")


def test_a_refund_without_a_payment_is_a_payment_of_the_type_refund() -> None:
    sent = reversals.payout_request(PAYOUT, at=datetime(2025, 11, 25, 9, 0, 30, tzinfo=UTC))

    assert read(sent) == message("requests/refund_unreferenced")


def test_a_status_request_asks_for_the_message_of_the_refunds_own_category() -> None:
    sent = reversals.status_request(FULL, category=REVERSAL, service_id="sta0000002")

    assert read(sent) == message("requests/transaction_status_reversal")


# --- answers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "tx"), [("responses/reversal_received", FULL), ("responses/reversal_received_partial", PARTIAL)]
)
def test_a_received_reversal_says_so_and_names_the_modification(name: str, tx: Any) -> None:
    found = answered(name, tx)

    assert isinstance(found, RefundReported)
    assert (found.result, found.error_condition, found.psp_reference) == ("Success", None, "W6BT9RRD3M2XQK41")
    assert found.channel is Channel.CONNECTION
    assert found.amount is None, "its amount's unit is unclear, and it is no evidence"


@pytest.mark.parametrize(
    ("name", "condition"),
    [("responses/reversal_failed_not_found", "NotFound"), ("responses/reversal_failed_not_allowed", "NotAllowed")],
)
def test_a_failed_reversal_names_its_condition_and_no_modification(name: str, condition: str) -> None:
    found = answered(name)

    assert isinstance(found, RefundReported)
    assert (found.result, found.error_condition, found.psp_reference) == ("Failure", condition, None)


def test_a_payout_says_how_much_was_paid_out() -> None:
    found = answered("responses/refund_unreferenced_approved", PAYOUT, PAYMENT)

    assert isinstance(found, RefundReported)
    assert (found.result, found.amount, found.psp_reference) == ("Success", Money("EUR", 1099), "QX7TPL4M2ZCN8V65")


def test_a_status_answer_is_judged_by_the_reversal_that_it_repeats() -> None:
    found = asked("responses/status_success_reversal")

    assert isinstance(found, RefundReported)
    assert (found.result, found.channel, found.psp_reference) == ("Success", Channel.STATUS, "W6BT9RRD3M2XQK41")


@pytest.mark.parametrize(
    ("name", "kind"),
    [("responses/status_not_found", NotFoundReported), ("responses/status_in_progress", InProgressReported)],
)
def test_a_terminal_that_does_not_know_it_or_still_runs_it_is_told_apart(name: str, kind: type[Evidence]) -> None:
    found = asked(name, transaction(service_id="pay0000001"), PAYMENT, "sta0000001")

    assert isinstance(found, kind)


@pytest.mark.parametrize(
    ("name", "tx", "category"),
    [
        ("responses/reversal_received", PARTIAL, REVERSAL),  # another ServiceID
        ("responses/reversal_received", FULL.evolve(poi_id="V400m-000000001"), REVERSAL),
        ("responses/reversal_received", FULL.evolve(sale_id="KASSA-08"), REVERSAL),
        ("responses/reversal_received", FULL, PAYMENT),
        ("responses/payment_approved", FULL, REVERSAL),
        ("responses/payment_approved", transaction(), REVERSAL),
        ("gateway/async_ok", FULL, REVERSAL),
        ("gateway/ok_but_empty", FULL, REVERSAL),
        ("gateway/ok_but_truncated", FULL, REVERSAL),
    ],
)
def test_what_is_not_the_answer_to_this_refund_is_a_missing_one(name: str, tx: Any, category: str) -> None:
    assert isinstance(answered(name, tx, category), AnswerMissing)


def test_a_charge_is_no_payout() -> None:
    """A terminal that charged where it should have paid out: nobody may take that for a refund."""
    found = answered("responses/payment_approved", transaction(), PAYMENT)

    assert isinstance(found, AnswerMissing)
    assert found.why == "not-a-refund"


def test_a_status_answer_about_another_message_is_a_missing_one() -> None:
    assert isinstance(asked("responses/status_success_approved", transaction(), REVERSAL, "sta0000001"), AnswerMissing)
    assert isinstance(asked("responses/status_success_reversal", PARTIAL), AnswerMissing)


def test_a_refusal_of_the_platform_is_one() -> None:
    found = answered("gateway/unauthorized_problem", status=401)

    assert isinstance(found, RequestRejected)
    assert found.exchange is Exchange.PAYMENT


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.data())
def test_no_mangled_answer_raises_or_says_more_than_the_whole_one(data: st.DataObject) -> None:
    names = [
        "responses/reversal_received",
        "responses/refund_unreferenced_approved",
        "responses/status_success_reversal",
    ]
    whole = bytearray(body(data.draw(st.sampled_from(names))))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(whole) - 1))
        whole[at : at + data.draw(st.integers(0, 40))] = data.draw(st.binary(max_size=8))
    mangled = bytes(whole)

    for tx, category in ((FULL, REVERSAL), (PAYOUT, PAYMENT)):
        found = reversals.read_refund_answer(200, mangled, tx, category=category)
        assert isinstance(found, RefundReported | AnswerMissing | RequestRejected)
        reversals.read_refund_status(200, mangled, tx, category=category, status_service_id="sta0000002")
