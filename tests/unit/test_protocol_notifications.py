import base64
from typing import Any

import pytest

from orchestrator.errors import RemoteProtocolError
from orchestrator.evidence import Channel, RejectPushed
from orchestrator.model import Money
from orchestrator.terminal_api import strict_json, tag
from orchestrator.terminal_api.notifications import (
    NotTerminalMessage,
    PushedDisplay,
    PushedEvent,
    PushedOther,
    PushedReject,
    PushedResponse,
    read_notification,
)
from tests.protocol_vectors import ENTRIES, body, message, transaction, transaction_of

KEYS = [b"current" * 5, b"previous" * 5]
PUSHED = {name: entry for name, entry in ENTRIES.items() if entry["direction"] == "inbound" and "outcome" in entry}
PUSHED = {name: entry for name, entry in PUSHED.items() if name.startswith("notifications/")}


@pytest.mark.parametrize("name", [n for n, e in PUSHED.items() if e["outcome"].startswith("event:")])
def test_each_event_is_known_by_its_name(name: str) -> None:
    found = read_notification(body(name))

    assert isinstance(found, PushedEvent)
    assert f"event:{found.event}" == PUSHED[name]["outcome"]
    assert found.poi_id == "V400m-324000123"


@pytest.mark.parametrize("name", [n for n, e in PUSHED.items() if e["outcome"].startswith("display:")])
def test_each_display_text_is_known_by_its_event(name: str) -> None:
    found = read_notification(body(name))

    assert isinstance(found, PushedDisplay)
    assert f"display:{found.event}" == PUSHED[name]["outcome"]
    assert (found.poi_id, found.service_id) == ("V400m-324000123", "pay0000001")


def test_every_inbound_vector_is_one_of_these_kinds() -> None:
    kinds = {name: type(read_notification(body(name))) for name in PUSHED}

    assert PushedOther not in kinds.values()
    assert set(kinds.values()) == {PushedEvent, PushedDisplay, PushedReject, PushedResponse}


@pytest.mark.parametrize(
    ("name", "result", "condition"),
    [
        ("async_payment_response", "Success", None),
        ("async_payment_response_other_terminal", "Success", None),
        ("async_payment_refused", "Failure", "Refusal"),
    ],
)
def test_a_pushed_result_is_hearsay_without_our_tag(name: str, result: str, condition: str | None) -> None:
    tx = transaction_of(PUSHED[f"notifications/{name}"]["for_request"])
    pushed = read_notification(body(f"notifications/{name}"))

    assert isinstance(pushed, PushedResponse)
    found = pushed.result_for(tx, KEYS)
    assert found
    assert (found.channel, found.authentic) == (Channel.NOTIFICATION, False)
    assert (found.result, found.error_condition) == (result, condition)
    assert found.authorised == (tx.amount if result == "Success" else None)


def pushed_with(additional: str | None = None, **changes: Any) -> PushedResponse:
    whole = message("notifications/async_payment_response")
    answer = whole["SaleToPOIResponse"]
    if additional is not None:
        answer["PaymentResponse"]["Response"]["AdditionalResponse"] += additional
    answer["MessageHeader"] |= changes.get("header", {})
    answer["PaymentResponse"] |= changes.get("payment", {})
    found = read_notification(strict_json.dumps(whole))
    assert isinstance(found, PushedResponse)
    return found


@pytest.mark.parametrize("key", KEYS)
def test_a_pushed_result_with_our_tag_is_authentic(key: bytes) -> None:
    pushed = pushed_with(f"&metadata.counterfoil_tag={tag.sign(key, transaction())}")

    found = pushed.result_for(transaction(), KEYS)

    assert found
    assert found.authentic
    assert found.digest != (pushed_with().result_for(transaction(), KEYS) or found).digest


@pytest.mark.parametrize("text", ["", "x", "%00", "%f0%9f%92%b6", "A" * 43])
def test_a_forged_tag_makes_hearsay(text: str) -> None:
    found = pushed_with(f"&metadata.counterfoil_tag={text}").result_for(transaction(), KEYS)

    assert found
    assert not found.authentic


def test_a_tag_of_another_payment_makes_hearsay() -> None:
    other = transaction(amount=Money("EUR", 1))

    found = pushed_with(f"&metadata.counterfoil_tag={tag.sign(KEYS[0], other)}").result_for(transaction(), KEYS)

    assert found
    assert not found.authentic


@pytest.mark.parametrize(
    "changes",
    [
        {"poi_id": "V400m-9"},
        {"sale_id": "KASSA-08"},
        {"service_id": "pay0000002"},
        {"reference": "ORDER-2"},
        {"amount": Money("USD", 1099)},
    ],
)
def test_a_pushed_result_of_another_payment_is_not_ours(changes: dict[str, Any]) -> None:
    tx = transaction(**changes)
    pushed = pushed_with(f"&metadata.counterfoil_tag={tag.sign(KEYS[0], tx)}")

    assert pushed.result_for(tx, KEYS) is None


def test_an_approval_whose_amount_cannot_be_read_makes_us_ask() -> None:
    additional = f"metadata.counterfoil_tag={tag.sign(KEYS[0], transaction())}"
    response = {"Result": "Success", "AdditionalResponse": additional}
    pushed = pushed_with(payment={"PaymentResult": {}, "Response": response})

    found = pushed.result_for(transaction(), KEYS)

    assert found
    assert (found.authentic, found.result, found.authorised) == (False, "Success", None)


def test_a_pushed_reject_names_the_refused_payment() -> None:
    found = read_notification(body("notifications/reject_pushed"))

    assert found == PushedReject(
        poi_id="V400m-324000123",
        sale_id="KASSA-07",
        service_id="pay0000001",
        category="Payment",
        text="Did not receive a response from the POI.",
    )
    evidence = found.evidence_for(transaction())
    assert isinstance(evidence, RejectPushed)
    assert evidence.why == "did-not-receive-a-response-from-the-poi"
    assert found.evidence_for(transaction(service_id="pay0000002")) is None


def reject_without(*names: str, category: str = "Payment") -> PushedReject:
    whole = message("notifications/reject_pushed")
    for name in names:
        whole["SaleToPOIRequest"]["MessageHeader"][name] = "N/A"
    event = whole["SaleToPOIRequest"]["EventNotification"]
    event["RejectedMessage"] = base64.b64encode(
        body("requests/abort" if category == "Abort" else "requests/payment_basic")
    ).decode()
    found = read_notification(strict_json.dumps(whole))
    assert isinstance(found, PushedReject)
    return found


def test_a_silent_header_is_made_up_for_by_the_refused_request() -> None:
    found = reject_without("POIID", "SaleID", "ServiceID")

    assert (found.poi_id, found.sale_id, found.service_id) == ("V400m-324000123", "KASSA-07", "pay0000001")
    assert found.evidence_for(transaction())


def test_a_refused_abort_says_nothing_about_the_payment() -> None:
    found = reject_without("ServiceID", category="Abort")

    assert found.category == "Abort"
    assert found.evidence_for(transaction(service_id=found.service_id)) is None


@pytest.mark.parametrize("rejected", [None, "", "%%%", "é", "AAAA", "eyJ9", 5, [], "e30="])
def test_an_unreadable_refused_request_is_no_error(rejected: object) -> None:
    whole = message("notifications/reject_pushed")
    whole["SaleToPOIRequest"]["EventNotification"]["RejectedMessage"] = rejected

    found = read_notification(strict_json.dumps(whole))

    assert isinstance(found, PushedReject)
    assert (found.service_id, found.category) == ("pay0000001", None)


def test_placeholders_name_nobody() -> None:
    found = read_notification(body("notifications/null_sale_id"))

    assert (found.sale_id, found.service_id) == (None, None)


def test_of_an_events_details_only_harmless_ones_are_kept() -> None:
    barcode = read_notification(body("notifications/scan_barcode_result"))
    shutdown = read_notification(body("notifications/shutdown"))

    assert isinstance(barcode, PushedEvent)
    assert isinstance(shutdown, PushedEvent)
    assert barcode.details == {"reference_id": "12"}
    assert shutdown.details == {"newstate": "IDLE", "oldstate": "START"}


def test_one_display_output_may_stand_without_a_list() -> None:
    whole = message("notifications/display_pin_entered")
    display = whole["SaleToPOIRequest"]["DisplayRequest"]
    display["DisplayOutput"] = display["DisplayOutput"][0]

    found = read_notification(strict_json.dumps(whole))

    assert isinstance(found, PushedDisplay)
    assert found.event == "PIN_ENTERED"


@pytest.mark.parametrize(
    "name",
    [
        "responses/reversal_received",
        "responses/status_success_approved",
        "requests/payment_basic",
        "notifications/display_response_reply",
    ],
)
def test_a_message_that_we_have_no_use_for_is_acknowledged(name: str) -> None:
    assert isinstance(read_notification(body(name)), PushedOther)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b"[]", "no-single-wrapper"),
        (b"{}", "no-single-wrapper"),
        (b'{"SaleToPOIResponse":1}', "no-single-wrapper"),
        (b'{"SaleToPOIResponse":{},"SaleToPOIRequest":{}}', "no-single-wrapper"),
        (b'{"SaleToPOIResponse":{}}', "no-header"),
        (b'{"SaleToPOIRequest":{"MessageHeader":{},"NexoBlob":"4111111111111111"}}', "encrypted"),
    ],
)
def test_what_is_no_message_is_refused_without_quoting_it(text: bytes, problem: str) -> None:
    with pytest.raises(NotTerminalMessage) as refused:
        read_notification(text)

    assert refused.value.problem == problem
    assert isinstance(refused.value, RemoteProtocolError)
    assert "4111" not in str(refused.value)


def test_a_notification_shows_no_card_data() -> None:
    assert "9999" not in repr(read_notification(body("notifications/async_payment_response")))
