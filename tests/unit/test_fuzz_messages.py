"""Every reader of what a cloud or a terminal sends, on real messages that were spoiled: evidence, or its own error.

The oracle reads the same bytes with the standard library and by rules of its own: whom a positive result must name, how
much it must say, and what evidence may hold at all.
"""

import dataclasses
import json
import re
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from decimal import Decimal
from functools import partial
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.cards import mask_card_numbers
from orchestrator.errors import LocalProtocolError, RemoteProtocolError
from orchestrator.evidence import AbortSent, Evidence, ResultReported, to_detail
from orchestrator.model import Money, Transaction
from orchestrator.refunds.evidence import RefundReported
from orchestrator.terminal_api import inventory, protection, receipts, shown, strict_json
from orchestrator.terminal_api.additional import read_additional
from orchestrator.terminal_api.interpret import read_abort_answer, read_payment_answer, read_status_answer
from orchestrator.terminal_api.notifications import (
    PushedDisplay,
    PushedEvent,
    PushedReject,
    PushedResponse,
    read_notification,
)
from orchestrator.terminal_api.reversals import read_refund_answer, read_refund_status
from tests.mangling import (
    CARD_NUMBERS,
    at,
    bodies_of,
    changed,
    changes,
    places,
    replaced,
    single_changes,
    spoiled,
    without,
    written,
)
from tests.protocol_vectors import load, transaction, transaction_of
from tests.protocol_vectors import message as vector

T = TypeVar("T")
TX = transaction()
REFUND = transaction(service_id="rev0000001", reference="REFUND-0003", amount=Money("EUR", 450))
PAYOUT = transaction_of("requests/refund_unreferenced")
STATUS_SERVICE = "sta0000001"
SILENCE = AbortSent(answer="none")
POSITIVE = {"Success", "Partial"}

#: Names of transactions: of digits alone they may look like a card's number by chance, and are needed as they are.
IDENTIFIERS = {
    "psp_reference", "tender_reference", "poi_transaction_id", "digest", "poi_id", "sale_id", "service_id",
}  # fmt: skip
TEXT_CHARS_MAX = 300
DETAIL_CHARS_MAX = 6_000  # of one journal line: some twenty fields, of which a few can be as long as a field may be

fuzzed = settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow], deadline=None)


# -- messages that are about our transaction ---------------------------------------------------------------------------


def about(tx: Transaction, message: Any, service_id: str) -> Any:
    """The message as if it answered this request, so that few changes stand between it and belief."""
    content = message.get("SaleToPOIResponse") if isinstance(message, dict) else None
    if not isinstance(content, dict):
        return message
    ours = {"POIID": tx.poi_id, "SaleID": tx.sale_id, "ServiceID": tx.service_id}
    content = {**content, "MessageHeader": {**content.get("MessageHeader", {}), **ours, "ServiceID": service_id}}
    status = content.get("TransactionStatusResponse")
    if isinstance(status, dict):
        named = {name: {**status[name], **ours} for name in ("MessageReference",) if name in status}
        content["TransactionStatusResponse"] = status = {**status, **named}
        repeated = status.get("RepeatedMessageResponse")
        if isinstance(repeated, dict) and "MessageHeader" in repeated:
            status["RepeatedMessageResponse"] = {**repeated, "MessageHeader": {**repeated["MessageHeader"], **ours}}
    return {"SaleToPOIResponse": content}


def answers(tx: Transaction, service_id: str, *prefixes: str) -> st.SearchStrategy[bytes]:
    found = bodies_of(*prefixes)
    return spoiled([*found, *(about(tx, message, service_id) for message in found)]) | st.binary(max_size=40)


payments = answers(TX, TX.service_id, "responses/payment", "gateway/")
checks = answers(TX, STATUS_SERVICE, "responses/status", "gateway/")
refund_answers = answers(REFUND, REFUND.service_id, "responses/reversal", "responses/refund", "responses/payment_appr")
refund_checks = answers(REFUND, STATUS_SERVICE, "responses/status_success", "responses/status_not_found")
pushed = answers(TX, TX.service_id, "notifications/", "responses/payment")
statuses = st.sampled_from([200] * 8 + [400, 401, 404, 422, 429, 500])


# -- the oracle --------------------------------------------------------------------------------------------------------


def dig(value: Any, *path: str) -> Any:
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def texts_in(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Every text that a value holds, with the name of its field."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        for each in dataclasses.fields(value):
            if each.repr:
                yield from texts_in(getattr(value, each.name), each.name)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from texts_in(item, str(key))
    elif isinstance(value, list | tuple | set | frozenset):
        for item in value:
            yield from texts_in(item, name)
    elif isinstance(value, str):
        yield name, value


def assert_keeps_little(value: Any, *, identifiers: AbstractSet[str] = IDENTIFIERS) -> None:
    """Short texts that any database takes, and no card number in any but a transaction's name."""
    for name, text in texts_in(value):
        assert len(text) <= TEXT_CHARS_MAX, name
        assert not re.search("[\x00-\x1f\x7f\ud800-\udfff]", text), name
        if name not in identifiers:
            assert mask_card_numbers(text) == text, name
            assert not any(number in text for number in CARD_NUMBERS), name


def assert_evidence(found: Evidence) -> None:
    assert found.digest or type(found).__name__ == "AbortSent"
    assert_keeps_little(found)
    assert len(json.dumps(to_detail(found), default=str)) <= DETAIL_CHARS_MAX


def assert_names(tx: Transaction, header: Any, service_id: str, category: str) -> None:
    assert dig(header, "POIID") == tx.poi_id
    assert dig(header, "SaleID") == tx.sale_id
    assert dig(header, "ServiceID") == service_id
    assert (dig(header, "MessageCategory"), dig(header, "MessageType")) == (category, "Response")


def assert_names_nobody_else(tx: Transaction, header: Any) -> None:
    for name, ours in (("POIID", tx.poi_id), ("SaleID", tx.sale_id), ("ServiceID", tx.service_id)):
        named = dig(header, name)
        assert not isinstance(named, str) or named in {"", ours}


def assert_paid(tx: Transaction, response: Any, authorised: Money | None) -> None:
    """The response says so of this sale, in this currency, and exactly this much."""
    assert dig(response, "Response", "Result") in POSITIVE
    reference = dig(response, "SaleData", "SaleTransactionID", "TransactionID")
    assert not isinstance(reference, str) or reference in {"", tx.reference}
    assert authorised is not None
    assert authorised.minor >= 0
    assert authorised.currency == tx.amount.currency
    amounts = dig(response, "PaymentResult", "AmountsResp")
    currency = dig(amounts, "Currency")
    assert not isinstance(currency, str) or currency in {"", tx.amount.currency}
    additional = read_additional(dig(response, "Response", "AdditionalResponse"))
    stated = hundredths(dig(amounts, "AuthorizedAmount"))
    assert str(authorised.minor) == (additional.get("posAuthAmountValue") if stated is None else str(stated))


def hundredths(stated: Any) -> int | None:
    """An amount of two decimals in minor units, where it is one: a number, or the plain text of one."""
    if isinstance(stated, bool) or not isinstance(stated, int | str | Decimal):
        return None
    if isinstance(stated, str) and not re.fullmatch(r"[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]{1,3})?", stated):
        return None
    minor = Decimal(stated) * 100
    return int(minor) if 0 <= minor < 10**12 and minor == int(minor) else None


def outcome_of(call: Callable[[], T], declared: type[Exception]) -> tuple[T | None, Exception | None]:
    """What comes of a call: its answer, or the one kind of error that it may raise."""
    try:
        return call(), None
    except declared as error:
        return None, error


def loaded(body: bytes) -> Any:
    return json.loads(body, parse_float=Decimal)


# -- what is answered to a request of ours -----------------------------------------------------------------------------


def check_payment(status: int, body: bytes, *, expects_result: bool = True) -> Evidence | None:
    found = read_payment_answer(status, body, TX, expects_result=expects_result)
    if found is None:
        assert not expects_result
        return None
    assert_evidence(found)
    if isinstance(found, ResultReported) and found.result in POSITIVE:
        content = loaded(body)["SaleToPOIResponse"]
        assert_names(TX, content["MessageHeader"], TX.service_id, "Payment")
        assert_paid(TX, content["PaymentResponse"], found.authorised)
    return found


def check_status(status: int, body: bytes) -> Evidence:
    found = read_status_answer(status, body, TX, status_service_id=STATUS_SERVICE)
    assert_evidence(found)
    if isinstance(found, ResultReported) and found.result in POSITIVE:
        content = loaded(body)["SaleToPOIResponse"]
        response = content["TransactionStatusResponse"]
        repeated = response["RepeatedMessageResponse"]
        assert dig(response, "Response", "Result") == "Success"
        assert_names(TX, content["MessageHeader"], STATUS_SERVICE, "TransactionStatus")
        assert_names_nobody_else(TX, dig(response, "MessageReference"))
        assert_names_nobody_else(TX, dig(repeated, "MessageHeader"))
        assert_paid(TX, repeated["RepeatedResponseMessageBody"]["PaymentResponse"], found.authorised)
    return found


def check_refund(status: int, body: bytes, category: str, tx: Transaction = REFUND) -> Evidence:
    found = read_refund_answer(status, body, tx, category=category)
    assert_evidence(found)
    if isinstance(found, RefundReported) and found.result in POSITIVE:
        content = loaded(body)["SaleToPOIResponse"]
        assert_names(tx, content["MessageHeader"], tx.service_id, category)
        if category == "Payment":
            assert_paid(tx, content["PaymentResponse"], found.amount)
    return found


def check_refund_status(status: int, body: bytes, category: str) -> Evidence:
    found = read_refund_status(status, body, REFUND, category=category, status_service_id=STATUS_SERVICE)
    assert_evidence(found)
    if isinstance(found, RefundReported) and found.result in POSITIVE:
        content = loaded(body)["SaleToPOIResponse"]
        assert_names(REFUND, content["MessageHeader"], STATUS_SERVICE, "TransactionStatus")
        response = content["TransactionStatusResponse"]
        assert_names_nobody_else(REFUND, dig(response, "MessageReference"))
        assert_names_nobody_else(REFUND, dig(response, "RepeatedMessageResponse", "MessageHeader"))
    return found


@fuzzed
@given(statuses, payments, st.booleans())
def test_a_spoiled_answer_to_a_payment_charges_nobody_else(status: int, body: bytes, expects_result: bool) -> None:
    check_payment(status, body, expects_result=expects_result)


@fuzzed
@given(statuses, checks)
def test_a_spoiled_answer_to_a_status_check_charges_nobody_else(status: int, body: bytes) -> None:
    check_status(status, body)
    assert_evidence(read_abort_answer(status, body))


@fuzzed
@given(statuses, refund_answers, st.sampled_from(["Reversal", "Payment"]))
def test_a_spoiled_answer_to_a_refund_pays_nobody_else(status: int, body: bytes, category: str) -> None:
    check_refund(status, body, category)


@fuzzed
@given(statuses, refund_checks, st.sampled_from(["Reversal", "Payment"]))
def test_a_spoiled_answer_about_a_refund_pays_nobody_else(status: int, body: bytes, category: str) -> None:
    check_refund_status(status, body, category)


#: A positive answer of each kind, and who reads it.
APPROVALS: Mapping[str, tuple[Transaction, str, Callable[[bytes], Evidence | None]]] = {
    "responses/payment_approved": (TX, TX.service_id, partial(check_payment, 200)),
    "responses/payment_approved_base64_flat": (TX, TX.service_id, partial(check_payment, 200)),
    "responses/status_success_approved": (TX, STATUS_SERVICE, partial(check_status, 200)),
    "responses/reversal_received": (REFUND, REFUND.service_id, partial(check_refund, 200, category="Reversal")),
    "responses/status_success_reversal": (
        REFUND,
        STATUS_SERVICE,
        partial(check_refund_status, 200, category="Reversal"),
    ),
    "responses/refund_unreferenced_approved": (
        PAYOUT,
        PAYOUT.service_id,
        partial(check_refund, 200, category="Payment", tx=PAYOUT),
    ),
}


@pytest.mark.parametrize("name", APPROVALS)
def test_each_single_change_of_an_approval_leaves_one_of_the_same_sale_or_none(name: str) -> None:
    tx, service_id, check = APPROVALS[name]
    message = about(tx, without(vector(name), "PaymentReceipt"), service_id)
    positive = getattr(check(written(message, ascii_only=True)), "result", None)
    assert positive == "Success", "the unspoiled one is believed, or this test shows nothing"

    for what, body in single_changes(message):
        found = check(body)
        assert what != "twice" or not isinstance(found, ResultReported | RefundReported) or b"[" in body


def with_a_card_number(message: Any) -> Iterator[bytes]:
    """The message with a card number in place of each of its texts in turn, but for headers and receipts."""
    for path in places(message):
        if isinstance(at(message, path), str) and not {"MessageHeader", "PaymentReceipt"} & set(path):
            yield written(replaced(message, path, lambda _: CARD_NUMBERS[0]), ascii_only=True)


def test_a_card_number_in_place_of_any_one_text_is_kept_nowhere() -> None:
    tried = 0
    for message in bodies_of("responses/payment", "gateway/"):
        for body in with_a_card_number(about(TX, message, TX.service_id)):
            for status in (200, 400):
                assert_evidence(read_payment_answer(status, body, TX, expects_result=True) or SILENCE)
                tried += 1
    for message in bodies_of("responses/status"):
        for body in with_a_card_number(about(TX, message, STATUS_SERVICE)):
            assert_evidence(read_status_answer(200, body, TX, status_service_id=STATUS_SERVICE))
            tried += 1
    for message in bodies_of("responses/reversal"):
        for body in with_a_card_number(about(REFUND, message, REFUND.service_id)):
            assert_evidence(read_refund_answer(200, body, REFUND, category="Reversal"))
            tried += 1
    assert tried > 1_000


# -- what is pushed ----------------------------------------------------------------------------------------------------


@fuzzed
@given(pushed)
def test_a_spoiled_notification_is_read_or_refused_and_proves_nothing(body: bytes) -> None:
    found, refused = outcome_of(lambda: read_notification(body), RemoteProtocolError)

    assert_keeps_little(str(refused))
    if isinstance(found, PushedResponse):
        result = found.result_for(TX, [b"key"])
        if result is not None:
            assert_evidence(result)
            assert not result.authentic, "nobody has our key"
            assert_names(TX, loaded(body)["SaleToPOIResponse"]["MessageHeader"], TX.service_id, "Payment")
    if isinstance(found, PushedReject) and (rejected := found.evidence_for(TX)):
        assert_evidence(rejected)
    if isinstance(found, PushedEvent):
        kept = shown.safe_details(found.details)
        said = shown.said_by(shown.name_of(found.event), kept)
        assert_keeps_little({"event": shown.name_of(found.event), "text": said.text, **kept})
    if isinstance(found, PushedDisplay):
        event = shown.name_of(found.event or "")
        kept = shown.display_details(tender_reference=found.tender_reference, at=found.at)
        assert_keeps_little({"event": event, "text": shown.display_text(event), **kept})


# -- sealed ------------------------------------------------------------------------------------------------------------

KEY = protection.SharedKey("KeyLane3", 3, "Vector-Test#2025a")
RING = protection.KeyRing((KEY,))
CLEAR = [about(TX, each, TX.service_id) for each in bodies_of("responses/", "notifications/", "requests/")]
SEALED = [strict_json.loads(protection.seal(strict_json.dumps(message), KEY)) for message in CLEAR]
REJECTED = [each["body"] for each in load("nexo-reject.json")["vectors"]]


@settings(fuzzed, max_examples=400)
@given(spoiled([*SEALED, *CLEAR, *REJECTED]) | st.binary(max_size=60), st.sampled_from(["answer", "message", "pushed"]))
def test_what_is_opened_was_sealed_so_or_says_nothing(body: bytes, how: str) -> None:
    """Opened bytes are those of one genuine message; what was clear says nothing good, and needs no key."""
    opening: dict[str, Callable[[], bytes]] = {
        "answer": lambda: protection.open_answer(body, RING),
        "message": lambda: strict_json.dumps(protection.open_message(body, RING)),
        "pushed": lambda: protection.open_pushed(body, lambda _poi_id: RING),
    }

    opened, refused = outcome_of(opening[how], protection.ProtectionError)

    if refused is not None:
        assert str(refused).removeprefix("the message was not accepted: ") in protection.Problem.__args__  # type: ignore[attr-defined]
    elif opened is not None and b"NexoBlob" in body and opened != body:
        assert strict_json.loads(opened) in CLEAR
    elif opened is not None and how != "pushed":
        found = read_payment_answer(200, opened, TX, expects_result=True)
        assert not isinstance(found, ResultReported) or found.result not in POSITIVE


@settings(fuzzed, max_examples=100)
@given(st.sampled_from(CLEAR), st.lists(changes, min_size=1, max_size=4))
def test_whatever_was_sealed_with_our_key_is_opened_or_refused(message: Any, done: list[Any]) -> None:
    """A terminal with the key may seal nonsense too."""
    for change in done:
        message = changed(message, change, CLEAR)
    inside = written(message, ascii_only=True)
    sealed, not_ours = outcome_of(lambda: protection.seal(inside, KEY), LocalProtocolError)
    if not_ours is not None:
        return

    opened, refused = outcome_of(lambda: protection.open_answer(sealed or b"", RING), protection.ProtectionError)

    assert "decrypt-failed" not in str(refused), "it is genuine"
    if opened == sealed:  # its header, once written, was no JSON that we read
        assert outcome_of(lambda: strict_json.loads(sealed or b""), strict_json.MalformedJson)[1]
    else:
        assert (opened == inside) is (refused is None)


# -- for people --------------------------------------------------------------------------------------------------------


@fuzzed
@given(statuses, spoiled(bodies_of("gateway/connected", "gateway/device", "gateway/reject", "responses/diagnosis")))
def test_a_spoiled_inventory_says_what_it_says_or_nothing(status: int, body: bytes) -> None:
    names = inventory.read_listing(status, body)
    health = inventory.read_diagnosis(status, body, poi_id="V400m-324000123", service_id="dia0000001")

    assert names is None or all(isinstance(name, str) for name in names)
    assert isinstance(health.condition, inventory.Condition)
    assert_keeps_little(health)


def receipts_in(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for name, item in value.items():
            if name == "PaymentReceipt":
                yield item
            yield from receipts_in(item)
    elif isinstance(value, list):
        for item in value:
            yield from receipts_in(item)


RECEIPTS = [found for message in bodies_of("responses/") for found in receipts_in(message)]


@fuzzed
@given(spoiled(RECEIPTS, most=6), st.integers(10, 60))
def test_a_spoiled_receipt_is_printed_within_its_paper_and_holds_no_card_number(body: bytes, width: int) -> None:
    try:
        raw = strict_json.loads(body)
    except strict_json.MalformedJson:
        return

    found = receipts.read_receipts(raw)

    assert len(found) <= receipts.MAX_RECEIPTS
    assert_keeps_little([{**line, "value": ""} if line["key"] in receipts._NAMES_OF_TRANSACTIONS else line
                         for each in found for line in each["lines"]], identifiers={"key"})  # fmt: skip
    page = receipts.as_html(found, "Receipt")
    assert "<script" not in page
    for each in found:
        assert all(receipts._columns(line) <= width for line in receipts.as_text(each, width).splitlines())
