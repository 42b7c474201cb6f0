"""The simulator's refunds: what a request is answered, what becomes of the money, and what a status check repeats."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from orchestrator.simulator.aftermath import REFUNDS
from orchestrator.simulator.process import SimulatorProcess
from tests.integration.simulator_support import (
    SALE_ID,
    Asked,
    Json,
    Receiver,
    Till,
    about,
    eventually,
    message,
    recorded,
    shape,
)

_POI = "V400m-324000123"
_OTHER_POI = "V400m-324000124"
_SCALE = 500


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


@pytest.fixture
def simulator(tmp_path: Path, receiver: Receiver) -> Iterator[SimulatorProcess]:
    arguments = ["--terminal", _POI, "--terminal", _OTHER_POI, "--notify", receiver.url]
    with SimulatorProcess(tmp_path / "ledger.jsonl", [*arguments, "--time-scale", str(_SCALE)]) as simulator:
        yield simulator


@pytest.fixture
def till(simulator: SimulatorProcess) -> Till:
    return Till(simulator.url)


def paid(till: Till, reference: str = "SALE", amount: float = 10.99, **more: Any) -> Json:
    """The POITransactionID of an approved payment."""
    answer = till.pay(Asked(reference, amount, poi_id=_POI, **more), "/sync").json()
    response = answer["SaleToPOIResponse"]["PaymentResponse"]
    assert response["Response"]["Result"] in ("Success", "Partial")
    found: Json = response["POIData"]["POITransactionID"]
    return found


_numbers = iter(range(1, 10_000))


def reversal(
    original: Json, reference: str = "REFUND", amount: float | None = None, *, currency: str = "EUR", poi_id: str = _POI
) -> Json:
    body: Json = {
        "OriginalPOITransaction": {"POITransactionID": original},
        "ReversalReason": "MerchantCancel",
        "SaleData": {"SaleTransactionID": {"TransactionID": reference, "TimeStamp": "2025-11-25T10:14:00Z"}},
    }
    if amount is not None:
        body["ReversedAmount"] = amount
        body["SaleData"]["SaleToAcquirerData"] = f"currency={currency}"
    return message("Reversal", body, poi_id, f"r{next(_numbers):09d}")


def service_id(request: Json) -> str:
    return str(request["SaleToPOIRequest"]["MessageHeader"]["ServiceID"])


def refund(till: Till, request: Json) -> Json:
    answer: Json = till.post("/sync", request).json()["SaleToPOIResponse"]["ReversalResponse"]
    return answer


def checked(till: Till, request: Json) -> Json:
    """The TransactionStatusResponse for this reversal."""
    header = request["SaleToPOIRequest"]["MessageHeader"]
    reference = {"MessageCategory": "Reversal", "SaleID": SALE_ID, "ServiceID": header["ServiceID"]}
    body = {"ReceiptReprintFlag": True, "MessageReference": reference}
    asked = message("TransactionStatus", body, header["POIID"], f"s{next(_numbers):09d}")
    answer: Json = till.post("/sync", asked).json()["SaleToPOIResponse"]["TransactionStatusResponse"]
    return answer


def outcomes(simulator: SimulatorProcess, reference: str) -> list[str]:
    return [line["outcome"] for line in simulator.ledger("refund", reference=reference)]


def test_a_full_refund_is_received_then_done(till: Till, simulator: SimulatorProcess) -> None:
    original = paid(till)

    request = reversal(original, "WHOLE")
    response = refund(till, request)

    assert response["Response"] == {"Result": "Success", "AdditionalResponse": "store=ExampleStore&currency=EUR"}
    assert response["OriginalPOITransaction"] == {"POITransactionID": original}
    assert "ReversedAmount" not in response
    own = response["POIData"]["POITransactionID"]["TransactionID"]
    assert len(own) == 16
    assert own != original["TransactionID"].partition(".")[2]
    eventually(lambda: outcomes(simulator, "WHOLE") == ["done"])
    (requested,) = simulator.ledger("refund_requested")
    assert (requested["amount_minor"], requested["currency"], requested["psp_reference"]) == (1099, "EUR", own)
    assert requested["original_psp"] == original["TransactionID"].partition(".")[2]


def test_parts_are_refunded_over_any_terminal_until_nothing_is_left(till: Till, simulator: SimulatorProcess) -> None:
    original = paid(till)

    for reference, amount, poi_id in (("A", 4.5, _POI), ("B", 6.49, _OTHER_POI), ("C", 0.01, _POI)):
        response = refund(till, reversal(original, reference, amount, poi_id=poi_id))
        assert response["Response"]["Result"] == "Success"
        assert response["ReversedAmount"] == amount
        eventually(lambda reference=reference: bool(outcomes(simulator, reference)))  # type: ignore[misc]

    assert [outcomes(simulator, reference) for reference in "ABC"] == [["done"], ["done"], ["declined"]]


@pytest.mark.parametrize(("currency", "amount", "minor"), [("JPY", 1200, 1200), ("KWD", 1.234, 1234)])
def test_a_part_is_counted_in_the_decimals_of_its_currency(
    currency: str, amount: float, minor: int, till: Till, simulator: SimulatorProcess
) -> None:
    original = paid(till, amount=amount, currency=currency)

    response = refund(till, reversal(original, "PART", amount, currency=currency))

    assert response["ReversedAmount"] == amount
    assert simulator.ledger("refund_requested")[0]["amount_minor"] == minor


@pytest.mark.parametrize("member", ["TransactionID", "TimeStamp"])
def test_an_original_must_be_named_exactly(member: str, till: Till, simulator: SimulatorProcess) -> None:
    original = paid(till) | {member: "BV5k001764061234003.AAAAAAAAAAAAAAAA"}

    response = refund(till, reversal(original, "UNKNOWN"))

    assert response["Response"]["ErrorCondition"] == "NotFound"
    assert [line["error_condition"] for line in simulator.ledger("refund_refused")] == ["NotFound"]


def test_a_declined_payment_cannot_be_refunded(till: Till) -> None:
    answer = till.pay(Asked("SALE-decline", poi_id=_POI), "/sync").json()["SaleToPOIResponse"]["PaymentResponse"]

    response = refund(till, reversal(answer["POIData"]["POITransactionID"]))

    assert response["Response"]["ErrorCondition"] == "NotFound"


@pytest.mark.parametrize(
    "change",
    [{"ReversedAmount": -1}, {"ReversedAmount": "1"}, {"ReversedAmount": 1.001}, {"ReversalReason": ""},
     {"OriginalPOITransaction": {}}],
)  # fmt: skip
def test_a_malformed_request_is_refused_by_name(change: Json, till: Till, simulator: SimulatorProcess) -> None:
    request = reversal(paid(till), amount=1)
    request["SaleToPOIRequest"]["ReversalRequest"] |= change

    response = refund(till, request)["Response"]

    assert response["ErrorCondition"] == "MessageFormat"
    assert next(iter(change)).replace("OriginalPOITransaction", "POITransactionID") in response["AdditionalResponse"]
    assert simulator.ledger("refund_requested") == []


def test_a_part_names_its_currency_and_it_is_the_payments(till: Till) -> None:
    original = paid(till)
    without = reversal(original, amount=1)
    del without["SaleToPOIRequest"]["ReversalRequest"]["SaleData"]["SaleToAcquirerData"]

    assert refund(till, without)["Response"]["ErrorCondition"] == "MessageFormat"
    assert refund(till, reversal(original, amount=1, currency="USD"))["Response"]["ErrorCondition"] == "NotAllowed"


def test_a_repeated_service_id_is_refused_counted_and_refunds_once(till: Till, simulator: SimulatorProcess) -> None:
    request = reversal(paid(till), "ONCE")
    refund(till, request)

    again = refund(till, request)

    assert again["Response"]["ErrorCondition"] == "NotAllowed"
    assert [line["cause"] for line in simulator.ledger("refused")] == ["repeated"]
    eventually(lambda: bool(outcomes(simulator, "ONCE")))
    assert len(simulator.ledger("refund_requested")) == len(simulator.ledger("refund")) == 1
    assert checked(till, request)["Response"]["Result"] == "Success"


def test_a_refund_may_not_take_a_payments_service_id(till: Till, simulator: SimulatorProcess) -> None:
    asked = Asked("SALE", poi_id=_POI)
    original = till.pay(asked, "/sync").json()["SaleToPOIResponse"]["PaymentResponse"]["POIData"]["POITransactionID"]
    request = reversal(original)
    request["SaleToPOIRequest"]["MessageHeader"]["ServiceID"] = asked.service

    assert refund(till, request)["Response"]["ErrorCondition"] == "NotAllowed"
    assert simulator.ledger("refund_requested") == []


def test_a_status_check_repeats_what_the_request_was_answered(till: Till) -> None:
    request = reversal(paid(till), amount=4.5)
    first = refund(till, request)

    status = checked(till, request)

    assert status["MessageReference"]["MessageCategory"] == "Reversal"
    assert status["RepeatedMessageResponse"]["MessageHeader"]["MessageCategory"] == "Reversal"
    assert status["RepeatedMessageResponse"]["RepeatedResponseMessageBody"] == {"ReversalResponse": first}


def test_a_status_check_does_not_take_a_payment_for_a_refund(till: Till) -> None:
    asked = Asked("SALE", poi_id=_POI)
    till.pay(asked, "/sync")
    not_a_refund = asked.body()

    response = checked(till, not_a_refund)["Response"]

    assert response["ErrorCondition"] == "NotFound"
    assert "Category%3dReversal" in response["AdditionalResponse"]


def test_both_receipts_say_that_a_void_was_requested(till: Till) -> None:
    receipts = refund(till, reversal(paid(till), amount=4.5))["PaymentReceipt"]

    assert [receipt["DocumentQualifier"] for receipt in receipts] == ["CashierReceipt", "CustomerReceipt"]
    for receipt in receipts:
        lines = [parse_qs(line["Text"]) for line in receipt["OutputContent"]["OutputText"]]
        by_key = {line["key"][0]: line for line in lines}
        assert by_key["void"]["name"] == ["*VOID REQUESTED*"]
        assert by_key["totalAmount"]["value"] == ["€\N{NO-BREAK SPACE}4.50"]


@pytest.mark.parametrize("vector", ["reversal_received", "reversal_received_partial"])
def test_a_received_refund_has_the_recorded_shape(vector: str, till: Till) -> None:
    request = reversal(paid(till), amount=4.5 if "partial" in vector else None, currency="EUR")
    expected = recorded(f"responses/{vector}.json")["SaleToPOIResponse"]["ReversalResponse"]

    response = refund(till, request)

    assert shape(response) == shape(expected)
    for ours, theirs in zip(response["PaymentReceipt"], expected["PaymentReceipt"], strict=True):
        assert receipt_keys(ours) == receipt_keys(theirs)


@pytest.mark.parametrize("condition", ["not_found", "not_allowed"])
def test_a_refused_refund_is_answered_as_recorded(condition: str, till: Till) -> None:
    expected = recorded(f"responses/reversal_failed_{condition}.json")["SaleToPOIResponse"]["ReversalResponse"]

    response = refund(till, reversal(paid(till), f"R-refund-{condition.replace('_', '-')}"))

    assert response["Response"] == expected["Response"]
    assert shape(response) == shape(expected)


def test_a_refunds_status_has_the_recorded_shape(till: Till) -> None:
    request = reversal(paid(till))
    refund(till, request)

    expected = recorded("responses/status_success_reversal.json")["SaleToPOIResponse"]["TransactionStatusResponse"]
    assert shape(checked(till, request)) == shape(expected)


def test_an_unreferenced_refund_is_answered_in_the_recorded_shape(till: Till) -> None:
    request = recorded("requests/refund_unreferenced.json")

    answered = till.post("/sync", request).json()

    assert shape(answered) == shape(recorded("responses/refund_unreferenced_approved.json"))


@pytest.mark.parametrize("vector", ["reversal_full", "reversal_partial"])
def test_the_recorded_requests_are_understood(vector: str, till: Till) -> None:
    request = recorded(f"requests/{vector}.json")

    assert refund(till, request)["Response"]["ErrorCondition"] == "NotFound"

    request["SaleToPOIRequest"]["MessageHeader"]["ServiceID"] = "rev0000009"
    request["SaleToPOIRequest"]["ReversalRequest"]["OriginalPOITransaction"]["POITransactionID"] = paid(till)
    assert refund(till, request)["Response"]["Result"] == "Success"


def receipt_keys(receipt: Json) -> list[str]:
    return [parse_qs(line["Text"])["key"][0] for line in receipt["OutputContent"]["OutputText"]]


@pytest.mark.parametrize("scenario", ["approve", "decline", "signature-paper"])
def test_a_payments_receipts_have_the_recorded_lines(scenario: str, till: Till) -> None:
    vectors = {"decline": "payment_refused_balance", "signature-paper": "payment_approved_signature"}
    expected = recorded(f"responses/{vectors.get(scenario, 'payment_approved')}.json")
    answered = till.pay(Asked(f"SALE-{scenario}", poi_id=_POI), "/sync").json()

    for ours, theirs in zip(receipts_of(answered), receipts_of(expected), strict=True):
        assert receipt_keys(ours) == receipt_keys(theirs)
        assert ours["RequiredSignatureFlag"] == theirs["RequiredSignatureFlag"]


def receipts_of(answer: Json) -> list[Json]:
    found: list[Json] = answer["SaleToPOIResponse"]["PaymentResponse"]["PaymentReceipt"]
    return found


@pytest.mark.parametrize("wanted", [True, False])
def test_a_status_check_repeats_the_receipts_when_it_asks_for_them(wanted: bool, till: Till) -> None:
    asked = Asked("SALE", poi_id=_POI)
    first = receipts_of(till.pay(asked, "/sync").json())

    body = {"ReceiptReprintFlag": wanted} | about(asked)
    answered = till.post("/sync", message("TransactionStatus", body, _POI, "s000000001")).json()

    inner = answered["SaleToPOIResponse"]["TransactionStatusResponse"]["RepeatedMessageResponse"]
    repeated = inner["RepeatedResponseMessageBody"]["PaymentResponse"].get("PaymentReceipt")
    assert repeated == (first if wanted else None)


def result_of(till: Till, reference: str, **more: Any) -> tuple[Json, dict[str, str]]:
    """AmountsResp and AdditionalResponse of an approved payment of EUR 10.00."""
    answered = till.pay(Asked(reference, 10, poi_id=_POI, **more), "/sync").json()
    response = answered["SaleToPOIResponse"]["PaymentResponse"]
    additional = {name: values[0] for name, values in parse_qs(response["Response"]["AdditionalResponse"]).items()}
    return response["PaymentResult"]["AmountsResp"], additional


@pytest.mark.parametrize(
    ("scenario", "member", "amount", "key"),
    [
        ("tip", "TipAmount", 2, "posAmountGratuityValue"),
        ("cashback", "CashBackAmount", 5, "posAmountCashbackValue"),
        ("surcharge", "TotalFeesAmount", 0.2, "posAmountSurchargeValue"),
    ],
)
def test_what_comes_on_top_is_named_in_both_units(
    scenario: str, member: str, amount: float, key: str, till: Till, simulator: SimulatorProcess
) -> None:
    amounts, additional = result_of(till, f"SALE-{scenario}")

    assert amounts == {"AuthorizedAmount": 10 + amount, "Currency": "EUR", member: amount}
    assert additional[key] == str(round(amount * 100))
    assert additional["posAuthAmountValue"] == str(round(1000 + amount * 100))
    assert [line["amount_minor"] for line in simulator.ledger("charge")] == [round(1000 + amount * 100)]


def test_a_shopper_who_is_asked_for_a_tip_gives_one(till: Till) -> None:
    asked, _ = result_of(till, "SALE", acquirer_data="tenderOption=AskGratuity,ReceiptHandler")
    named, _ = result_of(till, "SALE-approve", acquirer_data="tenderOption=AskGratuity")

    assert (asked["AuthorizedAmount"], asked["TipAmount"]) == (11, 1)
    assert named == {"AuthorizedAmount": 10, "Currency": "EUR"}


def test_the_tills_own_tip_is_a_part_of_the_amount(till: Till) -> None:
    request = recorded("requests/payment_tip_in_request.json")
    wanted = request["SaleToPOIRequest"]["PaymentRequest"]["PaymentTransaction"]["AmountsReq"]

    response = till.post("/sync", request).json()["SaleToPOIResponse"]["PaymentResponse"]

    assert response["PaymentResult"]["AmountsResp"] == {
        "AuthorizedAmount": wanted["RequestedAmount"],
        "TipAmount": wanted["TipAmount"],
        "Currency": wanted["Currency"],
    }


def test_a_token_comes_when_it_is_asked_for_and_only_then(till: Till) -> None:
    request = Asked("SALE", poi_id=_POI, acquirer_data="shopperReference=cust-991").body()
    request["SaleToPOIRequest"]["PaymentRequest"]["SaleData"]["TokenRequestedType"] = "Customer"

    with_token = till.post("/sync", request).json()["SaleToPOIResponse"]["PaymentResponse"]
    _, without = result_of(till, "SALE-2", acquirer_data="shopperReference=cust-991")

    additional = parse_qs(with_token["Response"]["AdditionalResponse"])
    token = with_token["PaymentResult"]["PaymentInstrumentData"]["CardData"]["PaymentToken"]
    assert token["TokenRequestedType"] == "Customer"
    assert additional["tokenization.storedPaymentMethodReference"] == [token["TokenValue"]]
    assert additional["tokenization.shopperReference"] == ["cust-991"]
    assert not any(name.startswith("tokenization.") for name in without)


def test_a_busy_terminal_refuses_a_refund(till: Till, simulator: SimulatorProcess) -> None:
    original = paid(till)
    till.pay(Asked("NEXT-slow", poi_id=_POI))

    response = refund(till, reversal(original))

    assert response["Response"]["ErrorCondition"] == "Busy"
    assert simulator.ledger("refund_requested") == []


# What its request is answered, empty for a cut connection, and the outcomes that the ledger then holds.
EXPECTED: dict[str, tuple[str, list[str]]] = {
    "refund-done": ("Success", ["done"]),
    "refund-plain": ("Success", ["done"]),
    "refund-both": ("Success", ["done"]),
    "refund-lost": ("", ["done"]),
    "refund-never-taken": ("", []),
    "refund-slow": ("Success", ["done"]),
    "refund-not-found": ("NotFound", []),
    "refund-not-allowed": ("NotAllowed", []),
    "refund-busy": ("Busy", []),
    "refund-cancels": ("Success", ["cancelled"]),
    "refund-declined": ("Success", ["declined"]),
    "refund-fails": ("Success", ["done", "failed"]),
    "refund-reversed": ("Success", ["done", "reversed"]),
    "refund-voided": ("Success", ["voided"]),
}


def test_every_refund_scenario_has_its_claim() -> None:
    assert set(EXPECTED) == set(REFUNDS)


@pytest.mark.parametrize("name", EXPECTED)
@pytest.mark.parametrize("path", ["/sync", "/async"])
def test_a_refund_plays_the_scenario_of_its_own_reference(
    name: str, path: str, till: Till, simulator: SimulatorProcess, receiver: Receiver
) -> None:
    answered, ends = EXPECTED[name]
    request = reversal(paid(till), f"R-{name}")

    said = answer_to(till, path, request, receiver) if answered else cut_off(till, path, request)

    assert said == answered
    eventually(lambda: outcomes(simulator, f"R-{name}") == ends)
    word = checked(till, request)["Response"]
    if name == "refund-never-taken":
        assert word["ErrorCondition"] == "NotFound"
    else:
        assert word["Result"] == "Success"


def answer_to(till: Till, path: str, request: Json, receiver: Receiver) -> str:
    answer = till.post(path, request)
    if path == "/async":
        assert answer.text == "ok"
        eventually(lambda: any("ReversalResponse" in body.get("SaleToPOIResponse", {}) for body in receiver.bodies))
        (outer,) = (b for b in receiver.bodies if "ReversalResponse" in b.get("SaleToPOIResponse", {}))
    else:
        outer = answer.json()
    said = outer["SaleToPOIResponse"]["ReversalResponse"]["Response"]
    return str(said.get("ErrorCondition", said["Result"]))


def cut_off(till: Till, path: str, request: Json) -> str:
    with pytest.raises((ConnectionError, OSError)):
        till.post(path, request)
    return ""


def test_a_failed_refund_gives_its_amount_back_to_what_is_left(till: Till, simulator: SimulatorProcess) -> None:
    original = paid(till)
    refund(till, reversal(original, "ONE-refund-fails"))
    eventually(lambda: outcomes(simulator, "ONE-refund-fails") == ["done", "failed"])

    refund(till, reversal(original, "TWO"))

    eventually(lambda: outcomes(simulator, "TWO") == ["done"])


def test_an_unreferenced_refund_is_a_dialogue_that_pays_out(till: Till, simulator: SimulatorProcess) -> None:
    asked = Asked("PAYOUT", 10.99, poi_id=_POI, payment_type="Refund")

    response = till.pay(asked, "/sync").json()["SaleToPOIResponse"]["PaymentResponse"]

    assert response["Response"]["Result"] == "Success"
    assert response["PaymentResult"]["PaymentType"] == "Refund"
    assert "transactionType=REFUND" in response["Response"]["AdditionalResponse"]
    assert simulator.ledger("charge") == []
    assert [line["amount_minor"] for line in simulator.ledger("refund_requested")] == [1099]
    eventually(lambda: outcomes(simulator, "PAYOUT") == ["done"])


def test_what_a_paid_out_refund_paid_cannot_be_refunded(till: Till) -> None:
    answer = till.pay(Asked("PAYOUT", poi_id=_POI, payment_type="Refund"), "/sync").json()
    original = answer["SaleToPOIResponse"]["PaymentResponse"]["POIData"]["POITransactionID"]

    assert refund(till, reversal(original))["Response"]["ErrorCondition"] == "NotFound"


def test_a_declined_unreferenced_refund_pays_nothing(till: Till, simulator: SimulatorProcess) -> None:
    till.pay(Asked("PAYOUT-decline", poi_id=_POI, payment_type="Refund"), "/sync")

    assert simulator.ledger("refund_requested") == []
    assert len(simulator.ledger("no_charge")) == 1


def test_refunds_survive_a_restart(simulator: SimulatorProcess, receiver: Receiver, till: Till) -> None:
    original = paid(till)
    part = reversal(original, "PART", 4.5)
    first = refund(till, part)
    eventually(lambda: outcomes(simulator, "PART") == ["done"])
    pending = reversal(original, "PENDING-refund-voided", 1)
    refund(till, pending)

    simulator.kill()
    simulator.start()

    assert checked(till, part)["RepeatedMessageResponse"]["RepeatedResponseMessageBody"]["ReversalResponse"] == first
    assert refund(till, part)["Response"]["ErrorCondition"] == "NotAllowed"
    eventually(lambda: outcomes(simulator, "PENDING-refund-voided") == ["voided"])
    refund(till, reversal(original, "REST", 6.50))
    eventually(lambda: outcomes(simulator, "REST") == ["declined"])
    assert outcomes(simulator, "PART") == ["done"]
