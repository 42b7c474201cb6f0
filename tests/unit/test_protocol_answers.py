"""What each answer of the vectors, and each way to spoil one, is worth as evidence."""

import copy
import json
from collections.abc import Mapping
from typing import Any

import pytest

from orchestrator.classify import CONDITIONS
from orchestrator.evidence import (
    AbortSent,
    AnswerMissing,
    Channel,
    Evidence,
    Exchange,
    InProgressReported,
    NotFoundReported,
    RequestRejected,
    ResultReported,
)
from orchestrator.model import Money, Outcome, Transaction
from orchestrator.terminal_api import strict_json
from orchestrator.terminal_api.interpret import read_abort_answer, read_payment_answer, read_status_answer
from tests.protocol_vectors import ENTRIES, body, message, transaction, transaction_of

ANSWERS = {
    name: entry
    for name, entry in ENTRIES.items()
    if name.startswith(("responses/", "gateway/")) and entry.get("outcome") is not None
}
ABORTS = {"responses/abort_reply_ok", "responses/abort_reply_empty"}
# Answers to requests of another category: as answers to a payment or a status check of ours they prove nothing.
FOREIGN = {name for name in ANSWERS if name.startswith(("responses/reversal", "responses/diagnosis"))} | {
    "responses/status_success_reversal"
}
STATUS = {name for name in ANSWERS if name.startswith("responses/status")} - FOREIGN
PAYMENTS = set(ANSWERS) - ABORTS - FOREIGN - STATUS

# The vocabulary of the vectors is finer than our evidence where we do the same: believe nothing, ask for the status.
ASKED_ABOUT = {"mismatch": "unknown", "undelivered": "unknown"}
# Too Many Requests can come from anything on the way, so that it is no proof that nothing was carried out.
STRICTER_THAN_THE_VECTORS = {"gateway/too_many_requests": "unknown"}
# These two answer a request for another amount and reference than the one that they are listed for.
ANSWER_ANOTHER_SALE = {"responses/payment_approved_base64", "responses/payment_approved_base64_flat"}


def tx_of(name: str) -> Transaction:
    asked = ANSWERS[name].get("for_request", "requests/payment_basic")
    if name == "responses/status_success_partial":
        asked = "requests/payment_partial_tip_form"
    tx = transaction() if "/transaction_status" in asked else transaction_of(asked)
    if name in ANSWER_ANOTHER_SALE:
        tx = tx.evolve(reference="ORDER-20251125-0001", amount=Money("EUR", 1099))
    return tx


def read(name: str) -> Evidence | None:
    status = ANSWERS[name]["http_status"]
    if name in STATUS:
        return read_status_answer(status, body(name), tx_of(name), status_service_id="sta0000001")
    return read_payment_answer(status, body(name), tx_of(name), expects_result=ANSWERS[name]["outcome"] != "accepted")


def word_for(evidence: Evidence | None) -> str:
    match evidence:
        case None:
            return "accepted"
        case ResultReported(result="Success"):
            return "approved"
        case ResultReported(result="Partial"):
            return "partially_approved"
        case ResultReported():
            outcome = CONDITIONS.get(evidence.error_condition or "")
            return "not_started" if outcome is Outcome.NOT_PERFORMED else str(outcome or "unknown")
        case InProgressReported():
            return "in_progress"
        case NotFoundReported():
            return "not_found"
        case RequestRejected():
            return "not_started"
        case _:
            return "unknown"


@pytest.mark.parametrize("name", sorted(PAYMENTS | STATUS))
def test_each_answer_is_evidence_for_what_the_vectors_demand(name: str) -> None:
    demanded = ANSWERS[name]["outcome"]

    expected = STRICTER_THAN_THE_VECTORS.get(name) or ASKED_ABOUT.get(demanded, demanded)
    assert word_for(read(name)) == expected


@pytest.mark.parametrize("name", sorted(FOREIGN))
def test_an_answer_of_another_category_proves_nothing_about_a_payment(name: str) -> None:
    header = message(name)["SaleToPOIResponse"]["MessageHeader"]
    tx = transaction(service_id=header["ServiceID"])

    payment = read_payment_answer(200, body(name), tx, expects_result=True)
    status = read_status_answer(200, body(name), transaction(), status_service_id=header["ServiceID"])

    assert isinstance(payment, AnswerMissing)
    assert isinstance(status, AnswerMissing)


@pytest.mark.parametrize(("name", "answer"), [("abort_reply_ok", "ok"), ("abort_reply_empty", "empty")])
def test_an_abort_is_answered_by_nothing_that_counts(name: str, answer: str) -> None:
    assert read_abort_answer(200, body(f"responses/{name}")) == AbortSent(answer=answer)


@pytest.mark.parametrize(
    ("status", "text", "answer"), [(502, b"<html>", "http-502"), (200, b'"ok"', "ok"), (200, b"<html>", "other")]
)
def test_an_abort_keeps_what_it_was_answered(status: int, text: bytes, answer: str) -> None:
    assert read_abort_answer(status, text) == AbortSent(answer=answer)


# -- what a result holds -----------------------------------------------------------------------------------------------


def test_an_approval_names_everything_that_we_keep() -> None:
    found = read("responses/payment_approved")

    assert found == ResultReported(
        channel=Channel.CONNECTION,
        authentic=True,
        result="Success",
        authorised=Money("EUR", 1099),
        psp_reference="QX7TPL4M2ZCN8V65",
        tender_reference="BV5k001764061234003",
        poi_transaction_id="BV5k001764061234003.QX7TPL4M2ZCN8V65",
        poi_transaction_at="2025-11-25T09:00:34.123Z",
        online=True,
        auth_code="123456",
        card_brand="mc",
        card_last4="9999",
        card_entry_mode="Contactless",
        card_funding="CREDIT",
        digest=found.digest if found else None,
    )


@pytest.mark.parametrize(
    ("name", "authorised", "extra_minor"),
    [
        ("payment_approved_tip", Money("EUR", 1319), 220),
        ("payment_approved_jpy", Money("JPY", 1200), 0),
        ("payment_approved_kwd", Money("KWD", 1255), 0),
        ("payment_approved_dcc", Money("EUR", 1099), 0),
        ("payment_partial", Money("USD", 2500), 0),
        ("payment_approved_metadata_echo", Money("USD", 4200), 0),
        ("payment_approved_base64", Money("EUR", 1099), 0),
    ],
)
def test_the_authorised_amount_is_the_merchants_in_minor_units(name: str, authorised: Money, extra_minor: int) -> None:
    found = read(f"responses/{name}")

    assert isinstance(found, ResultReported)
    assert (found.authorised, found.extra_minor) == (authorised, extra_minor)


@pytest.mark.parametrize(
    ("name", "condition", "reason"),
    [
        ("payment_refused_balance", "Refusal", "210 Not enough balance"),
        ("payment_cancelled_shopper", "Cancel", "108 Shopper cancelled tx"),
        ("payment_cancelled_plain_text", "Cancel", "101 Shopper cancelled app selection"),
        ("payment_communication_timeout", "Communication timeout", None),
        ("payment_unknown_condition", "SomethingNew", "Not known yet"),
    ],
)
def test_a_failure_is_passed_on_verbatim(name: str, condition: str, reason: str | None) -> None:
    found = read(f"responses/{name}")

    assert isinstance(found, ResultReported)
    assert (found.result, found.error_condition, found.authorised) == ("Failure", condition, None)
    assert reason is None or found.refusal_reason == reason


def test_a_payment_that_never_reached_the_platform_has_no_psp_reference() -> None:
    found = read("responses/payment_cancelled_shopper")

    assert isinstance(found, ResultReported)
    assert (found.tender_reference, found.psp_reference) == ("BV5k001764061234003", None)


def test_a_busy_terminal_names_what_it_is_busy_with() -> None:
    named, bare = read("responses/payment_busy"), read("responses/payment_busy_bare")

    assert isinstance(named, ResultReported)
    assert isinstance(bare, ResultReported)
    assert (named.busy_with, bare.busy_with) == ("oth0000009", None)


def test_only_a_busy_terminal_is_busy_with_something() -> None:
    refused = {"PaymentResponse.Response": {"Result": "Failure", "ErrorCondition": "Refusal"}}
    refused["PaymentResponse.Response"]["AdditionalResponse"] = "serviceId=oth0000009"

    found = approval(refused)

    assert isinstance(found, ResultReported)
    assert found.busy_with is None


def test_a_status_check_reports_the_nested_result_by_its_own_channel() -> None:
    found = read("responses/status_success_refused")

    assert isinstance(found, ResultReported)
    assert (found.channel, found.authentic, found.error_condition) == (Channel.STATUS, True, "Refusal")


def test_a_running_payment_tells_where_it_is() -> None:
    plain, detailed = read("responses/status_in_progress"), read("responses/status_in_progress_detailed")

    assert isinstance(plain, InProgressReported)
    assert isinstance(detailed, InProgressReported)
    assert (plain.detail, detailed.detail) == (None, "WAIT_FOR_PIN")


def test_a_terminal_that_knows_nothing_names_the_last_request_that_it_saw() -> None:
    found = read("responses/status_not_found")

    assert isinstance(found, NotFoundReported)
    assert found.last_service_id == "oth0000009"


# -- HTTP --------------------------------------------------------------------------------------------------------------

PROBLEM = b'{"status": %d, "errorCode": "00_1", "title": "no"}'


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("text", [b"", b"<html>", PROBLEM % 401])
def test_a_wrong_key_is_a_rejection_whatever_the_body(status: int, text: bytes) -> None:
    found = read_payment_answer(status, text, transaction(), expects_result=False)

    assert isinstance(found, RequestRejected)
    assert (found.exchange, found.refusal) == (Exchange.PAYMENT, f"http-{status}")


@pytest.mark.parametrize("status", [400, 404, 422])
def test_other_rejections_must_bear_the_platforms_shape(status: int) -> None:
    found = read_payment_answer(status, PROBLEM % status, transaction(), expects_result=False)

    assert isinstance(found, RequestRejected)
    assert found.refusal == f"http-{status}:00_1"


@pytest.mark.parametrize("status", [400, 404, 422])
@pytest.mark.parametrize(
    "text",
    [
        b"", b"<html>not found</html>", b"{}", b"[]", b'"00_1"', b'{"status": 404, "title": "No"}', PROBLEM % 500,
        b'{"errorCode": "00_1"}', b'{"status": 400, "errorCode": null}', b'{"status": 404, "errorCode": "a b"}',
    ],
)  # fmt: skip
def test_what_a_proxy_could_have_said_is_no_rejection(status: int, text: bytes) -> None:
    found = read_payment_answer(status, text, transaction(), expects_result=False)

    assert isinstance(found, AnswerMissing)
    assert found.why == f"http-{status}"


@pytest.mark.parametrize("status", [100, 201, 202, 204, 302, 307, 402, 405, 408, 409, 425, 429, 500, 503, 504])
def test_every_other_status_leaves_everything_open(status: int) -> None:
    approved = body("responses/payment_approved")

    for text in (b"", b"ok", approved, PROBLEM % status):
        found = read_payment_answer(status, text, transaction(), expects_result=False)
        asked = read_status_answer(status, text, transaction(), status_service_id="sta0000001")
        assert isinstance(found, AnswerMissing)
        assert isinstance(asked, AnswerMissing)
        assert (found.why, asked.exchange) == (f"http-{status}", Exchange.STATUS)


@pytest.mark.parametrize("text", [b"ok", b'"ok"', b" ok\n", b'{"Result":"ok"}'])
def test_ok_is_no_evidence_on_async_and_no_answer_elsewhere(text: bytes) -> None:
    held_open = read_payment_answer(200, text, transaction(), expects_result=True)
    asked = read_status_answer(200, text, transaction(), status_service_id="sta0000001")

    assert read_payment_answer(200, text, transaction(), expects_result=False) is None
    assert isinstance(held_open, AnswerMissing)
    assert isinstance(asked, AnswerMissing)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"", "empty-200"),
        (b" \n", "empty-200"),
        (b"OK", "bad-json-not-json"),
        (b"<html></html>", "bad-json-not-json"),
        (b"[]", "foreign-json"),
        (b"null", "foreign-json"),
        (b"{}", "foreign-json"),
        (b'{"Result":"ok","x":1}', "foreign-json"),
        (b'{"SaleToPOIResponse":[]}', "foreign-json"),
        (b'{"SaleToPOIResponse":{}}', "wrong-echo"),
        (b'{"SaleToPOIRequest":{}}', "foreign-json"),
        (b'{"SaleToPOIResponse":{},"SaleToPOIRequest":{}}', "foreign-json"),
    ],
)
def test_an_answer_that_is_none_says_why(text: bytes, why: str) -> None:
    for expects_result in (True, False):
        found = read_payment_answer(200, text, transaction(), expects_result=expects_result)
        assert isinstance(found, AnswerMissing)
        assert found.why == why


# -- Reject events -----------------------------------------------------------------------------------------------------


def reject(text: str, **header: str) -> bytes:
    event = {"EventToNotify": "Reject", "EventDetails": f"message={text}"}
    return json.dumps({"SaleToPOIRequest": {"MessageHeader": header, "EventNotification": event}}).encode()


def test_a_reject_of_bad_input_is_the_same_refusal_for_payment_and_status() -> None:
    text = reject("Input+is+not+a+JSONObject", POIID="N/A", SaleID="N/A")

    payment = read_payment_answer(200, text, transaction(), expects_result=False)
    status = read_status_answer(200, text, transaction(), status_service_id="sta0000001")

    assert isinstance(payment, RequestRejected)
    assert isinstance(status, RequestRejected)
    assert payment.refusal == status.refusal == "reject:Input is not a JSONObject"
    assert (payment.exchange, status.exchange) == (Exchange.PAYMENT, Exchange.STATUS)


@pytest.mark.parametrize("header", [{"POIID": "V400m-999"}, {"ServiceID": "zzz0000000"}])
def test_a_reject_of_somebody_elses_request_is_not_ours(header: dict[str, str]) -> None:
    found = read_payment_answer(200, reject("Input+is+not+a+JSONObject", **header), transaction(), expects_result=False)

    assert isinstance(found, AnswerMissing)
    assert found.why == "wrong-echo"


def test_an_event_that_is_no_reject_is_no_answer() -> None:
    found = read_payment_answer(200, body("notifications/completed"), transaction(), expects_result=False)

    assert isinstance(found, AnswerMissing)
    assert found.why == "foreign-json"


# -- spoiled answers ---------------------------------------------------------------------------------------------------


def changed(name: str, changes: Mapping[str, Any]) -> bytes:
    """The vector with members set, or removed where the value is None; a path's parts are divided by dots."""
    answer = copy.deepcopy(message(name)["SaleToPOIResponse"])
    for path, value in changes.items():
        *parents, last = path.split(".")
        place = answer
        for parent in parents:
            place = place.setdefault(parent, {})
        if value is None:
            place.pop(last, None)
        else:
            place[last] = value
    return strict_json.dumps({"SaleToPOIResponse": answer})


def payment_answer(**changes: Any) -> Evidence | None:
    paths = {path.replace("__", "."): value for path, value in changes.items()}
    return read_payment_answer(200, changed("responses/payment_approved", paths), transaction(), expects_result=False)


@pytest.mark.parametrize("member", ["POIID", "SaleID", "ServiceID", "MessageCategory", "MessageType"])
@pytest.mark.parametrize("value", [None, "", "other", 7, [], {}])
def test_an_answer_must_echo_our_whole_header(member: str, value: object) -> None:
    for name, read_answer in (
        ("responses/payment_approved", lambda b: read_payment_answer(200, b, transaction(), expects_result=False)),
        (
            "responses/status_success_approved",
            lambda b: read_status_answer(200, b, transaction(), status_service_id="sta0000001"),
        ),
    ):
        found = read_answer(changed(name, {f"MessageHeader.{member}": value}))
        assert isinstance(found, AnswerMissing)
        assert found.why == "wrong-echo"


@pytest.mark.parametrize("content", [None, [], "text", {}])
def test_a_right_header_over_a_wrong_content_is_no_answer(content: object) -> None:
    payment = changed("responses/payment_approved", {"PaymentResponse": content})
    status = changed("responses/status_success_approved", {"TransactionStatusResponse": content})

    assert isinstance(read_payment_answer(200, payment, transaction(), expects_result=True), AnswerMissing)
    assert isinstance(read_status_answer(200, status, transaction(), status_service_id="sta0000001"), AnswerMissing)


def test_another_sales_reference_is_not_our_answer() -> None:
    found = payment_answer(PaymentResponse__SaleData__SaleTransactionID__TransactionID="ORDER-2")

    assert isinstance(found, AnswerMissing)
    assert found.why == "wrong-echo"


def test_a_result_without_a_reference_is_ours_by_its_header() -> None:
    assert isinstance(payment_answer(PaymentResponse__SaleData=None), ResultReported)


AMOUNTS = "PaymentResponse.PaymentResult.AmountsResp"
ADDITIONAL = "PaymentResponse.Response.AdditionalResponse"


def approval(changes: Mapping[str, Any]) -> Evidence | None:
    return read_payment_answer(200, changed("responses/payment_approved", changes), transaction(), expects_result=True)


@pytest.mark.parametrize(
    "changes", [{f"{AMOUNTS}.Currency": "USD"}, {AMOUNTS: None, ADDITIONAL: "posAuthAmountCurrency=USD"}]
)
def test_another_currency_is_not_our_answer(changes: Mapping[str, Any]) -> None:
    found = approval(changes)

    assert isinstance(found, AnswerMissing)
    assert found.why == "other-currency"


@pytest.mark.parametrize("value", ["10.99", "1.099E1"])
def test_an_amount_may_be_text(value: str) -> None:
    found = approval({f"{AMOUNTS}.AuthorizedAmount": value, ADDITIONAL: None})

    assert isinstance(found, ResultReported)
    assert found.authorised == Money("EUR", 1099)


@pytest.mark.parametrize("value", [None, "", "ten", "10.999", -1, [], {}, True])
def test_an_unreadable_amount_is_taken_from_the_minor_units_beside_it(value: object) -> None:
    found = approval({f"{AMOUNTS}.AuthorizedAmount": value})

    assert isinstance(found, ResultReported)
    assert found.authorised == Money("EUR", 1099)


@pytest.mark.parametrize("result", ["Success", "Partial"])
@pytest.mark.parametrize("additional", [None, "", "posAuthAmountValue=x", "posAuthAmountValue=-1"])
def test_an_approval_of_an_unreadable_amount_must_be_asked_about(result: str, additional: str | None) -> None:
    found = approval({AMOUNTS: None, ADDITIONAL: additional, "PaymentResponse.Response.Result": result})

    assert isinstance(found, AnswerMissing)
    assert found.why == "amount-missing"


def test_minor_units_of_another_currency_are_not_the_authorised_amount() -> None:
    shoppers = "posAuthAmountCurrency=USD&posAuthAmountValue=1200"

    found = approval({f"{AMOUNTS}.AuthorizedAmount": None, ADDITIONAL: shoppers})

    assert isinstance(found, AnswerMissing)
    assert found.why == "amount-missing"


def test_tip_cashback_and_surcharge_are_named_apart() -> None:
    found = approval(
        {
            f"{AMOUNTS}.TipAmount": "1",
            ADDITIONAL: "posAmountGratuityValue=999&posAmountCashbackValue=20&posAmountSurchargeValue=3",
        }
    )

    assert isinstance(found, ResultReported)
    assert found.extra_minor == 123


@pytest.mark.parametrize(
    ("online", "additional", "expected"),
    [
        (True, "offline=false", True),
        ("true", None, True),
        (False, None, False),
        ("false", None, False),
        (True, "offline=true", False),
        (None, None, None),
        ("perhaps", None, None),
    ],
)
def test_an_approval_is_offline_as_soon_as_one_place_says_so(
    online: object, additional: str | None, expected: bool | None
) -> None:
    found = approval({"PaymentResponse.PaymentResult.OnlineFlag": online, ADDITIONAL: additional})

    assert isinstance(found, ResultReported)
    assert found.online is expected


@pytest.mark.parametrize("result", [None, "", [], {}, True])
def test_a_response_without_a_result_is_no_answer(result: object) -> None:
    found = approval({"PaymentResponse.Response.Result": result})

    assert isinstance(found, AnswerMissing)
    assert found.why == "no-result"


def test_a_result_that_nobody_has_heard_of_is_passed_on() -> None:
    found = approval({"PaymentResponse.Response.Result": "Perhaps", AMOUNTS: None, ADDITIONAL: None})

    assert isinstance(found, ResultReported)
    assert (found.result, found.authorised) == ("Perhaps", None)


@pytest.mark.parametrize("number", ["4111111111112222", "4111 1111 1111 2222", "4111-1111-1111-2222"])
def test_no_card_number_gets_into_evidence(number: str) -> None:
    found = approval(
        {
            "PaymentResponse.PaymentResult.PaymentInstrumentData.CardData.MaskedPan": number,
            ADDITIONAL: f"cardSummary={number}&refusalReason=210 no {number}",
            "PaymentResponse.Response.Result": "Failure",
        }
    )

    assert isinstance(found, ResultReported)
    assert found.refusal_reason == "210 no …"
    assert "4111" not in repr(found)


# -- status checks -----------------------------------------------------------------------------------------------------

NESTED = "TransactionStatusResponse.RepeatedMessageResponse"


def status_answer(name: str, changes: Mapping[str, Any]) -> Evidence:
    return read_status_answer(200, changed(name, changes), transaction(), status_service_id="sta0000001")


@pytest.mark.parametrize("place", ["TransactionStatusResponse.MessageReference", f"{NESTED}.MessageHeader"])
@pytest.mark.parametrize(
    "member",
    [("ServiceID", "zzz0000000"), ("SaleID", "KASSA-08"), ("MessageCategory", "Reversal"), ("POIID", "V400m-9")],
)
def test_a_status_answer_about_another_transaction_is_not_ours(place: str, member: tuple[str, str]) -> None:
    name, value = member

    found = status_answer("responses/status_success_approved", {f"{place}.{name}": value})

    assert isinstance(found, AnswerMissing)
    assert found.why == "other-transaction"


@pytest.mark.parametrize("name", ["status_in_progress", "status_not_found"])
def test_a_status_answer_that_names_another_transaction_teaches_nothing(name: str) -> None:
    reference = {"TransactionStatusResponse.MessageReference": {"ServiceID": "zzz0000000"}}

    assert isinstance(status_answer(f"responses/{name}", reference), AnswerMissing)


@pytest.mark.parametrize("place", ["TransactionStatusResponse.MessageReference", f"{NESTED}.MessageHeader"])
def test_what_a_status_answer_leaves_out_is_not_held_against_it(place: str) -> None:
    assert isinstance(status_answer("responses/status_success_approved", {place: None}), ResultReported)


def test_the_outer_success_alone_proves_nothing() -> None:
    found = status_answer("responses/status_success_approved", {NESTED: None})

    assert isinstance(found, AnswerMissing)
    assert found.why == "no-inner-response"


@pytest.mark.parametrize(("running", "kind"), [("pay0000001", InProgressReported), ("oth0000009", AnswerMissing)])
def test_a_terminal_that_is_busy_with_this_very_payment_is_performing_it(running: str, kind: type[Evidence]) -> None:
    additional = {"TransactionStatusResponse.Response.AdditionalResponse": f"message=Busy&serviceId={running}"}

    assert isinstance(status_answer("responses/status_busy", additional), kind)


@pytest.mark.parametrize("name", ["status_in_progress", "status_not_found", "status_success_approved"])
def test_two_checks_are_two_facts_and_one_check_is_one(name: str) -> None:
    digests = [
        read_status_answer(
            200,
            changed(f"responses/{name}", {"MessageHeader.ServiceID": service_id}),
            transaction(),
            status_service_id=service_id,
        ).digest
        for service_id in ("sta0000001", "sta0000002", "sta0000001")
    ]

    assert digests[0] == digests[2] != digests[1]


@pytest.mark.parametrize(("first", "second"), [((502, b""), (503, b"")), ((401, b""), (403, b""))])
def test_a_failure_is_one_fact_per_payment_and_cause(first: tuple[int, bytes], second: tuple[int, bytes]) -> None:
    def digest(answer: tuple[int, bytes], service_id: str) -> str | None:
        found = read_payment_answer(*answer, transaction(service_id=service_id), expects_result=False)
        return found.digest if found else None

    facts = [digest(first, "pay0000001"), digest(second, "pay0000001"), digest(first, "pay0000002")]

    assert len(set(facts)) == 3
    assert digest(first, "pay0000001") == facts[0]


def test_the_same_result_told_twice_is_one_fact_per_channel() -> None:
    first, again = read("responses/status_success_approved"), read("responses/status_success_no_inner_header")
    direct, other = read("responses/payment_approved"), approval({f"{AMOUNTS}.AuthorizedAmount": "10.98"})

    digests = [found.digest for found in (first, again, direct, other) if found]
    assert len(digests) == 4
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


@pytest.mark.parametrize(
    ("text", "last"),
    [
        ("Message not found. Category=Payment, last such Request has SaleID=A B ServiceID=abc", "abc"),
        ("last such Request has SaleID=A ServiceID=pay0000001", "pay0000001"),
        ("Message not found.", None),
        ("last such Request has SaleID=A ServiceID=", None),
        ("last such Request has SaleID=A ServiceID=12345678901", None),
    ],
)
def test_the_last_request_is_read_from_the_terminals_words(text: str, last: str | None) -> None:
    encoded = text.replace("=", "%3d").replace(" ", "%20")

    found = status_answer(
        "responses/status_not_found",
        {"TransactionStatusResponse.Response.AdditionalResponse": f"message={encoded}"},
    )

    assert isinstance(found, NotFoundReported)
    assert found.last_service_id == last


def test_a_reference_is_cut_to_what_a_row_holds() -> None:
    found = approval({"PaymentResponse.POIData.POITransactionID.TransactionID": "t" * 100 + "." + "P" * 100})

    assert isinstance(found, ResultReported)
    assert (found.tender_reference, found.psp_reference) == ("t" * 64, "P" * 64)


def test_a_card_number_where_a_brand_belongs_is_not_kept() -> None:
    brand = "PaymentResponse.PaymentResult.PaymentInstrumentData.CardData.PaymentBrand"

    found = approval({brand: "visa 4111 1111 1111 1111"})

    assert isinstance(found, ResultReported)
    assert found.card_brand == "visa …"
