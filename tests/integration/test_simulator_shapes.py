"""The simulator's messages have the shape of the recorded ones: the same member names, the same types."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from urllib.parse import unquote_plus

import pytest

from orchestrator.simulator.process import SimulatorProcess
from tests.integration.simulator_support import Asked, Json, Receiver, Till, eventually, message, recorded, shape


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


@pytest.fixture(scope="module")
def till(tmp_path_factory: pytest.TempPathFactory, receiver: Receiver) -> Iterator[Till]:
    terminals = ["--terminal", "V400m-324000123", "--terminal", "S1F2-000158240000042", "--any-terminal"]
    ledger = tmp_path_factory.mktemp("shapes") / "ledger.jsonl"
    arguments = [
        *terminals,
        "--time-scale",
        "200",
        "--notify",
        receiver.url,
        "--display",
        "--merchant",
        "ExampleMerchantPOS",
    ]
    with SimulatorProcess(ledger, arguments) as simulator:
        yield Till(simulator.url)


def additional_keys(message_: Json) -> set[str]:
    [wrapped] = [body for name, body in message_["SaleToPOIResponse"].items() if name != "MessageHeader"]
    return {part.partition("=")[0] for part in wrapped["Response"]["AdditionalResponse"].split("&")}


@pytest.mark.parametrize(
    ("scenario", "vector"),
    [
        ("approve", "payment_approved"),
        ("tip", "payment_approved_tip"),
        ("partial", "payment_partial"),
        ("dcc", "payment_approved_dcc"),
        ("signature-screen", "payment_approved_signature"),
        ("decline", "payment_refused_balance"),
        ("wrong-pin", "payment_refused_wrong_pin"),
        ("cancel", "payment_cancelled_shopper"),
        ("busy", "payment_busy"),
        ("busy-bare", "payment_busy_bare"),
        ("timeout", "payment_communication_timeout"),
    ],
)
def test_a_payment_response_has_the_recorded_shape(scenario: str, vector: str, till: Till) -> None:
    expected = recorded(f"responses/{vector}.json")

    answered = till.pay(Asked(f"SHAPE-{scenario}"), "/sync").json()

    assert shape(answered) == shape(expected)
    if scenario in ("approve", "tip", "partial", "busy"):
        assert additional_keys(answered) == additional_keys(expected)


def test_an_aborted_payment_has_the_recorded_shape(till: Till, receiver: Receiver) -> None:
    asked = Asked("SHAPE-abortable")
    till.pay(asked)
    till.abort(asked)
    eventually(lambda: len(receiver.responses(asked)) == 1)

    body = recorded("responses/payment_aborted.json")["SaleToPOIResponse"]["PaymentResponse"]

    assert shape(receiver.responses(asked)[0]) == shape(body)


def test_a_pushed_response_is_the_recorded_message(till: Till, receiver: Receiver) -> None:
    asked = Asked("PUSHED-approve")
    till.pay(asked)
    eventually(lambda: len(receiver.responses(asked)) == 1)

    [pushed] = [b for b in receiver.bodies if _service_id(b) == asked.service and "SaleToPOIResponse" in b]

    assert shape(pushed) == shape(recorded("notifications/async_payment_response.json"))


def test_a_display_notification_has_the_recorded_shape(till: Till, receiver: Receiver) -> None:
    asked = Asked("SHOWN-approve")
    till.pay(asked)
    eventually(lambda: sorted(receiver.displays(asked)) == ["TENDER_CREATED", "TENDER_FINAL"])

    shown = [b for b in receiver.bodies if _service_id(b) == asked.service and "SaleToPOIRequest" in b]

    assert shape(shown[0]) == shape(recorded("notifications/display_tender_created.json"))


def _service_id(body: Json) -> str:
    return str(next(iter(body.values()))["MessageHeader"]["ServiceID"])


@pytest.mark.parametrize(
    ("scenario", "vector"),
    [
        ("approve", "status_success_approved"),
        ("decline", "status_success_refused"),
        ("partial", "status_success_partial"),
        ("withheld", "status_unreachable"),
        ("forgets", "status_not_found"),
        ("abortable", "status_in_progress"),
    ],
)
def test_a_status_answer_has_the_recorded_shape(scenario: str, vector: str, till: Till) -> None:
    poi_id = f"S1E-{vector}"
    till.pay(Asked("BEFORE-approve", poi_id=poi_id), "/sync")
    asked = Asked(f"SHAPE-{scenario}", poi_id=poi_id)
    held = scenario in ("approve", "decline", "partial")
    till.pay(asked, "/sync" if held else "/async")

    answered = till.status(asked).json()

    assert shape(answered) == shape(recorded(f"responses/{vector}.json"))
    if scenario == "forgets":
        text = answered["SaleToPOIResponse"]["TransactionStatusResponse"]["Response"]["AdditionalResponse"]
        assert "last such Request has SaleID=KASSA-07 ServiceID=p" in unquote_plus(text)
        assert asked.service not in text


def test_rejections_have_the_recorded_shape_and_texts(till: Till) -> None:
    asked = Asked("SHAPE-reject")
    cases = {
        "reject_no_response_from_poi": till.pay(asked),
        "reject_not_connected": till.pay(Asked("SHAPE-reject-not-connected")),
        "reject_not_json": till.post("/async", b'{"SaleToPOIRequest":'),
        "reject_empty_input": till.post("/async", b""),
    }

    for name, answer in cases.items():
        expected = recorded(f"gateway/{name}.json")
        assert shape(answer.json()) == shape(expected)
        details = [body["SaleToPOIRequest"]["EventNotification"]["EventDetails"] for body in (answer.json(), expected)]
        assert details[0] == details[1]
    rejected = cases["reject_no_response_from_poi"].json()["SaleToPOIRequest"]["EventNotification"]["RejectedMessage"]
    assert json.loads(base64.b64decode(rejected)) == asked.body()


def test_the_device_api_answers_as_recorded(till: Till) -> None:
    base = "/v1/merchants/ExampleMerchantPOS"
    listing = till.call("GET", f"{base}/connectedDevices").json()
    legacy = till.post("/connectedTerminals", {"merchantAccount": "ExampleMerchantPOS"}).json()
    online = till.call("GET", f"{base}/devices/V400m-324000123/status").json()
    foreign = till.call("GET", "/v1/merchants/SomebodyElse/connectedDevices")
    mismatch = till.pay(Asked("MISMATCH"), f"{base}/devices/V400m-324000123/async")

    assert recorded("gateway/connected_devices.json")["uniqueDeviceIds"] == listing["uniqueDeviceIds"][:2]
    assert recorded("gateway/connected_terminals_legacy.json")["uniqueTerminalIds"] == legacy["uniqueTerminalIds"][:2]
    assert online == recorded("gateway/device_online.json")
    assert (foreign.status, shape(foreign.json())) == (403, shape(recorded("gateway/forbidden_problem.json")))
    assert (mismatch.status, shape(mismatch.json())) == (422, shape(recorded("gateway/unprocessable_problem.json")))


def test_a_diagnosis_has_the_recorded_shape(till: Till) -> None:
    request = message("Diagnosis", {"HostDiagnosisFlag": True}, "V400m-324000123", "dia0000001")

    answered = till.post("/sync", request).json()

    assert shape(answered) == shape(recorded("responses/diagnosis_ok.json"))


def test_a_malformed_payment_is_named_as_recorded(till: Till) -> None:
    asked = Asked("NO-CURRENCY")
    body = asked.body()
    del body["SaleToPOIRequest"]["PaymentRequest"]["PaymentTransaction"]["AmountsReq"]["Currency"]

    answered = till.post("/sync", body).json()

    expected = recorded("responses/payment_message_format.json")["SaleToPOIResponse"]["PaymentResponse"]
    assert answered["SaleToPOIResponse"]["PaymentResponse"] == expected


@pytest.mark.parametrize("path", ["payment_basic", "payment_jpy", "payment_kwd", "payment_acquirer_data_base64"])
def test_every_recorded_payment_request_is_taken_and_echoed(path: str, till: Till) -> None:
    request = recorded(f"requests/{path}.json")
    asked = request["SaleToPOIRequest"]
    asked["MessageHeader"]["POIID"] = f"S1E-{path}"

    answered = till.post("/sync", request).json()["SaleToPOIResponse"]

    body, wanted = answered["PaymentResponse"], asked["PaymentRequest"]
    echoed, sent = body["SaleData"]["SaleTransactionID"], wanted["SaleData"]["SaleTransactionID"]
    amounts = wanted["PaymentTransaction"]["AmountsReq"]
    assert answered["MessageHeader"] == asked["MessageHeader"] | {"MessageType": "Response"}
    assert echoed == {"TransactionID": sent["TransactionID"], "TimeStamp": "2025-11-25T09:00:30.000Z"}
    assert body["PaymentResult"]["AmountsResp"] == {
        "AuthorizedAmount": amounts["RequestedAmount"],
        "Currency": amounts["Currency"],
    }
    assert body["Response"]["Result"] == "Success"


def test_additional_data_comes_back_in_the_encoding_that_was_sent(till: Till) -> None:
    request = recorded("requests/payment_acquirer_data_base64.json")
    request["SaleToPOIRequest"]["MessageHeader"]["POIID"] = "S1E-base64"

    answered = till.post("/sync", request).json()["SaleToPOIResponse"]["PaymentResponse"]["Response"]
    decoded = json.loads(base64.b64decode(answered["AdditionalResponse"], validate=True))

    vector = recorded("responses/payment_approved_base64.json")["SaleToPOIResponse"]["PaymentResponse"]["Response"]
    expected = json.loads(base64.b64decode(vector["AdditionalResponse"]))
    token = {name for name in decoded["additionalData"] if name.startswith(("tokenization.", "recurring."))}
    assert set(decoded["additionalData"]) - token == set(expected["additionalData"]) | {"metadata.correlation"}
    assert decoded["additionalData"]["tokenization.shopperReference"] == "cust-991"
    assert decoded["additionalData"]["metadata.correlation"] == "7f3a9d"
    assert decoded["additionalData"]["posAuthAmountValue"] == "2500"
