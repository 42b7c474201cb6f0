"""The simulator's webhooks: signed as the platform signs, after the fact, retried, and misbehaving only by name."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import urllib.error
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from orchestrator.simulator.aftermath import WEBHOOKS
from orchestrator.simulator.process import SimulatorProcess
from tests.integration.simulator_support import Asked, Json, Receiver, Till, eventually, message, recorded, shape

_POI = "V400m-324000123"
_KEY, _OLD_KEY = "5A1C0D7EB2F94638A7C1E0D9B8F7A6C5D4E3F2A1B0C9D8E7F6A5B4C3D2E1F001", "0f" * 32
_SCALE = 500


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


@pytest.fixture
def simulator(tmp_path: Path, receiver: Receiver) -> Iterator[SimulatorProcess]:
    keys = ["--hmac-key", _KEY, "--hmac-key", _OLD_KEY, "--merchant", "ShopBerlin"]
    arguments = ["--any-terminal", "--time-scale", str(_SCALE), "--webhook", receiver.url, *keys]
    with SimulatorProcess(tmp_path / "ledger.jsonl", arguments) as simulator:
        yield simulator


@pytest.fixture
def till(simulator: SimulatorProcess) -> Till:
    return Till(simulator.url)


def items(receiver: Receiver) -> list[Json]:
    return [entry["NotificationRequestItem"] for body in list(receiver.bodies) for entry in body["notificationItems"]]


def about(receiver: Receiver, reference: str) -> list[Json]:
    return [item for item in items(receiver) if item["merchantReference"] == reference]


def signature(item: Json, key: str) -> str:
    """What the documentation says, in this test's own words."""
    fields = [item.get(name, "") for name in ("pspReference", "originalReference", "merchantAccountCode")]
    fields += [item["merchantReference"], str(item["amount"]["value"]), item["amount"]["currency"]]
    text = ":".join([*fields, item["eventCode"], item["success"]])
    return base64.b64encode(hmac.digest(bytes.fromhex(key), text.encode(), hashlib.sha256)).decode()


def signed_by(item: Json) -> str:
    named = {signature(item, _KEY): "current", signature(item, _OLD_KEY): "old"}
    return named.get(item["additionalData"]["hmacSignature"], "nobody")


def pay(till: Till, reference: str, amount: float = 10.99, **more: Any) -> Json:
    answer = till.pay(Asked(reference, amount, **more), "/sync").json()
    response: Json = answer["SaleToPOIResponse"]["PaymentResponse"]
    return response


def refund(till: Till, original: Json, reference: str) -> str:
    """The refund's own PSP reference."""
    body = {
        "OriginalPOITransaction": {"POITransactionID": original["POIData"]["POITransactionID"]},
        "ReversalReason": "MerchantCancel",
        "SaleData": {"SaleTransactionID": {"TransactionID": reference, "TimeStamp": "2025-11-25T10:14:00Z"}},
    }
    answer = till.post("/sync", message("Reversal", body, _POI, f"r{abs(hash(reference)) % 10**9:09d}")).json()
    return str(answer["SaleToPOIResponse"]["ReversalResponse"]["POIData"]["POITransactionID"]["TransactionID"])


def psp(response: Json) -> str:
    return str(response["POIData"]["POITransactionID"]["TransactionID"].partition(".")[2])


def told(item: Json) -> tuple[str, str, str]:
    return item["eventCode"], item["success"], signed_by(item)


def test_an_approval_is_told_with_its_amount_after_the_result(till: Till, receiver: Receiver) -> None:
    asked = Asked("SALE", acquirer_data="metadata.correlation=7f3a9c")
    response = till.pay(asked, "/sync").json()["SaleToPOIResponse"]["PaymentResponse"]

    eventually(lambda: len(items(receiver)) == 1)

    [item] = items(receiver)
    assert told(item) == ("AUTHORISATION", "true", "current")
    assert receiver.bodies[0]["live"] == "false"
    assert (item["pspReference"], item["merchantAccountCode"]) == (psp(response), "ShopBerlin")
    assert (item["merchantReference"], item["amount"]) == ("SALE", {"value": 1099, "currency": "EUR"})
    assert item["additionalData"]["terminalId"] == asked.terminal
    assert item["additionalData"]["metadata.correlation"] == "7f3a9c"
    tender = response["POIData"]["POITransactionID"]["TransactionID"].partition(".")[0]
    assert item["additionalData"]["tenderReference"] == tender


@pytest.mark.parametrize(
    ("reference", "vector", "amount"),
    [("SALE", "authorisation", 1099), ("SALE-decline", "authorisation_refused", 1099),
     ("SALE-tip", "authorisation_gratuity", 1318)],
)  # fmt: skip
def test_an_authorisation_has_the_recorded_shape(
    reference: str, vector: str, amount: int, till: Till, receiver: Receiver
) -> None:
    pay(till, reference)
    eventually(lambda: len(items(receiver)) == 1)

    expected = recorded(f"webhooks/{vector}.json")["notificationItems"][0]["NotificationRequestItem"]
    [item] = items(receiver)
    for side in (item, expected):
        side["additionalData"] = sorted(side["additionalData"].keys() & {"tenderReference", "extraCostsValueGratuity"})
    if vector == "authorisation_gratuity":
        del item["operations"]  # the recorded one has none: fields come and go
    assert shape(item) == shape(expected)
    assert item["additionalData"] == expected["additionalData"]
    assert item["success"] == expected["success"]
    assert item["amount"]["value"] == amount


@pytest.mark.parametrize("scenario", ["cancel", "device-out", "busy", "abortable"])
def test_what_never_asked_the_issuer_has_no_webhook(scenario: str, till: Till, receiver: Receiver) -> None:
    pay(till, f"SALE-{scenario}")

    pay(till, "BARRIER")
    eventually(lambda: bool(about(receiver, "BARRIER")))
    assert about(receiver, f"SALE-{scenario}") == []


def test_an_offline_approval_is_confirmed_or_refused_later(till: Till, simulator: SimulatorProcess) -> None:
    pay(till, "A-offline")
    pay(till, "B-offline-refused")

    simulator.wait_for(lambda lines: sum(line["kind"] == "webhook" for line in lines) == 2)

    said = {line["reference"]: line["success"] for line in simulator.ledger("webhook")}
    assert said == {"A-offline": True, "B-offline-refused": False}
    assert [line["reference"] for line in simulator.ledger("charge_refused")] == ["B-offline-refused"]


def test_an_approval_that_the_card_refused_is_taken_back(till: Till, receiver: Receiver) -> None:
    response = pay(till, "SALE-chip-refuses")
    eventually(lambda: len(items(receiver)) == 2)

    first, second = items(receiver)
    assert response["Response"]["Result"] == "Failure"
    assert told(first) == ("AUTHORISATION", "true", "current")
    assert told(second) == ("TECHNICAL_CANCEL", "true", "current")
    assert second["originalReference"] == first["pspReference"] == psp(response)
    assert second["pspReference"] != first["pspReference"]


@pytest.mark.parametrize(
    ("scenario", "expected"),
    [
        ("refund-done", [("CANCEL_OR_REFUND", "true", "refund")]),
        ("refund-plain", [("REFUND", "true", None)]),
        ("refund-both", [("CANCEL_OR_REFUND", "true", "refund"), ("REFUND", "true", None)]),
        ("refund-cancels", [("CANCEL_OR_REFUND", "true", "cancel")]),
        ("refund-declined", [("CANCEL_OR_REFUND", "false", "refund")]),
        ("refund-fails", [("CANCEL_OR_REFUND", "true", "refund"), ("REFUND_FAILED", "true", None)]),
        ("refund-reversed", [("CANCEL_OR_REFUND", "true", "refund"), ("REFUNDED_REVERSED", "true", None)]),
        ("refund-voided", [("VOID_PENDING_REFUND", "true", None)]),
    ],
)
def test_a_refund_is_told_under_its_own_reference(
    scenario: str, expected: list[tuple[str, str, str | None]], till: Till, receiver: Receiver
) -> None:
    payment = pay(till, "SALE")
    own = refund(till, payment, f"R-{scenario}")

    eventually(lambda: len(about(receiver, f"R-{scenario}")) == len(expected))

    ours = about(receiver, f"R-{scenario}")
    said = [(i["eventCode"], i["success"], i["additionalData"].get("modification.action")) for i in ours]
    assert said == expected
    assert {item["pspReference"] for item in ours} == {own}
    assert {item["originalReference"] for item in ours} == {psp(payment)}
    assert all(item["amount"] == {"value": 1099, "currency": "EUR"} for item in ours)


def test_a_refund_of_more_than_is_left_is_told_as_refused(till: Till, receiver: Receiver) -> None:
    payment = pay(till, "SALE")
    refund(till, payment, "R-1")
    eventually(lambda: len(about(receiver, "R-1")) == 1)
    refund(till, payment, "R-2")

    eventually(lambda: len(about(receiver, "R-2")) == 1)

    [item] = about(receiver, "R-2")
    assert (item["success"], item["reason"]) == ("false", "Insufficient balance on payment")


def test_an_unreferenced_refund_is_told_as_one(till: Till, receiver: Receiver) -> None:
    response = pay(till, "PAYOUT", payment_type="Refund")

    eventually(lambda: len(items(receiver)) == 1)

    expected = recorded("webhooks/refund_with_data.json")["notificationItems"][0]["NotificationRequestItem"]
    [item] = items(receiver)
    assert told(item) == ("REFUND_WITH_DATA", "true", "current")
    assert item["pspReference"] == psp(response)
    assert "originalReference" not in item
    assert expected.keys() - item.keys() == set()


# -- misbehaviour, by the reference's ending: what a payment's webhooks look like, in their order of arrival --

_TRUE, _FALSE = ("AUTHORISATION", "true", "current"), ("AUTHORISATION", "false", "current")
_CANCELLED = ("CANCELLATION", "true", "current")
EXPECTED: dict[str, list[tuple[str, str, str]]] = {
    "webhook-missing": [],
    "webhook-late": [_TRUE],
    "webhook-twice": [_TRUE, _TRUE],
    "webhook-disorder": [("CAPTURE", "true", "current"), _TRUE],
    "webhook-batch": [_TRUE, ("CAPTURE", "true", "current")],
    "webhook-wrong-signature": [("AUTHORISATION", "true", "nobody")],
    "webhook-forged": [("AUTHORISATION", "false", "nobody"), _TRUE],
    "webhook-old-key": [("AUTHORISATION", "true", "old")],
    "webhook-contradicts": [_FALSE],
    "webhook-other-amount": [_TRUE],
    "webhook-other-currency": [_TRUE],
    "webhook-other-merchant": [_TRUE],
    "webhook-orphan": [_TRUE, _TRUE],
    "webhook-second-try": [_FALSE, _TRUE],
    "webhook-cancelled": [_TRUE, _CANCELLED],
    "webhook-cancelled-disorder": [_CANCELLED, _TRUE],
    "webhook-refunded-elsewhere": [_TRUE, ("REFUND", "true", "current")],
    "webhook-capture-failed": [_TRUE, ("CAPTURE_FAILED", "true", "current")],
    "webhook-expired": [_TRUE, ("EXPIRE", "true", "current")],
    "webhook-chargeback": [_TRUE, ("CHARGEBACK", "true", "current")],
}


def test_every_behaviour_has_its_claim() -> None:
    assert set(EXPECTED) == set(WEBHOOKS)


@pytest.mark.parametrize("name", EXPECTED)
def test_webhooks_behave_as_the_reference_ends(name: str, till: Till, receiver: Receiver) -> None:
    response = pay(till, f"SALE-approve-{name}")
    own = [item for item in items(receiver) if item["merchantReference"].startswith("SALE")]
    eventually(lambda: len(items(receiver)) >= len(EXPECTED[name]))
    pay(till, "BARRIER-webhook-chargeback")
    eventually(lambda: len(about(receiver, "BARRIER-webhook-chargeback")) == 2)

    own = [item for item in items(receiver) if item["merchantReference"].startswith("SALE")]

    assert [told(item) for item in own] == EXPECTED[name]
    assert response["Response"]["Result"] == "Success"


def test_a_contradiction_of_a_refusal_says_that_it_was_authorised(till: Till, receiver: Receiver) -> None:
    pay(till, "SALE-decline-webhook-contradicts")
    eventually(lambda: len(items(receiver)) == 1)

    assert told(items(receiver)[0]) == _TRUE


def test_what_is_distorted_is_the_one_thing_that_the_name_says(till: Till, receiver: Receiver) -> None:
    for name in ("other-amount", "other-currency", "other-merchant"):
        pay(till, f"SALE-webhook-{name}")
    eventually(lambda: len(items(receiver)) == 3)

    said = {
        item["merchantReference"]: (item["amount"]["value"], item["amount"]["currency"], item["merchantAccountCode"])
        for item in items(receiver)
    }
    assert said == {
        "SALE-webhook-other-amount": (1199, "EUR", "ShopBerlin"),
        "SALE-webhook-other-currency": (1099, "USD", "ShopBerlin"),
        "SALE-webhook-other-merchant": (1099, "EUR", "SomebodyElsesMerchant"),
    }


def test_an_orphan_and_an_earlier_try_have_psp_references_of_their_own(till: Till, receiver: Receiver) -> None:
    first = pay(till, "A-webhook-orphan")
    second = pay(till, "B-webhook-second-try")
    eventually(lambda: len(items(receiver)) == 4)

    [orphan] = about(receiver, "A-webhook-orphan-unknown")
    earlier, real = about(receiver, "B-webhook-second-try")
    assert orphan["pspReference"] != psp(first)
    assert (real["pspReference"] == psp(second), earlier["pspReference"] == psp(second)) == (True, False)


def test_disorder_shows_in_the_order_of_arrival_and_not_in_the_dates(till: Till, receiver: Receiver) -> None:
    pay(till, "SALE-webhook-cancelled-disorder")
    eventually(lambda: len(items(receiver)) == 2)

    cancelled, authorised = items(receiver)
    dates = [datetime.fromisoformat(item["eventDate"]) for item in (authorised, cancelled)]
    assert (dates[1] - dates[0]).total_seconds() == 60
    assert cancelled["originalReference"] == authorised["pspReference"]


def test_a_late_webhook_is_late_and_dated_when_it_happened(till: Till, simulator: SimulatorProcess) -> None:
    pay(till, "SALE-webhook-late")
    lines = simulator.wait_for(lambda lines: any(line["kind"] == "webhook" for line in lines))

    by_kind = {line["kind"]: datetime.fromisoformat(line["at"]) for line in lines}
    assert (by_kind["webhook"] - by_kind["charge"]).total_seconds() >= 600 / _SCALE


def test_a_webhook_is_tried_again_until_it_is_accepted(
    till: Till, simulator: SimulatorProcess, receiver: Receiver
) -> None:
    receiver.statuses = [500, 401, 302]

    pay(till, "SALE")
    simulator.wait_for(lambda _: len(simulator.ledger("webhook")) == 4)

    assert [line["status"] for line in simulator.ledger("webhook")] == [500, 401, 302, 200]
    assert [line["attempt"] for line in simulator.ledger("webhook")] == [1, 2, 3, 4]
    assert len({json.dumps(body, sort_keys=True) for body in receiver.bodies}) == 1


def test_webhooks_can_be_lost(till: Till, simulator: SimulatorProcess, receiver: Receiver) -> None:
    simulator.post_faults(lose_webhooks=True)

    pay(till, "SALE")
    simulator.wait_for(lambda _: bool(simulator.ledger("webhook")))

    assert [(line["status"], line["error"]) for line in simulator.ledger("webhook")] == [(0, "lost")]
    assert receiver.bodies == []


def test_what_was_not_told_is_told_after_a_restart_and_nothing_else(
    till: Till, simulator: SimulatorProcess, receiver: Receiver
) -> None:
    pay(till, "TOLD")
    simulator.wait_for(lambda _: bool(simulator.ledger("webhook", reference="TOLD", status=200)))
    receiver.statuses = [500] * 9
    pay(till, "UNTOLD")
    simulator.wait_for(lambda _: bool(simulator.ledger("webhook", reference="UNTOLD")))
    simulator.kill()
    receiver.statuses = []
    before = len(about(receiver, "UNTOLD"))

    simulator.start()

    eventually(lambda: len(about(receiver, "UNTOLD")) == before + 1)
    assert len(about(receiver, "TOLD")) == 1


# -- by hand --


def test_a_webhook_can_be_sent_by_hand_about_a_payment_that_is_known(
    till: Till, simulator: SimulatorProcess, receiver: Receiver
) -> None:
    response = pay(till, "SALE-webhook-missing")

    status = simulator.send_webhook(event_code="AUTHORISATION", reference="SALE-webhook-missing", success=False)

    [item] = items(receiver)
    assert status == 200
    assert told(item) == _FALSE
    assert (item["pspReference"], item["amount"]["value"]) == (psp(response), 1099)


def test_a_webhook_by_hand_can_be_about_anything(simulator: SimulatorProcess, receiver: Receiver) -> None:
    receiver.statuses = [401]

    status = simulator.send_webhook(
        event_code="SOME_FUTURE_EVENT",
        reference="NEVER-SEEN",
        psp_reference="QX7TPL4M2ZCN8V65",
        original_reference="W6BT9RRD3M2XQK41",
        amount={"value": 7, "currency": "JPY"},
        event_date="2025-11-25T10:00:40+01:00",
        merchant_account="Elsewhere",
        additional_data={"modification.action": "cancel"},
        signing="old",
    )

    [item] = items(receiver)
    assert status == 401
    assert told(item) == ("SOME_FUTURE_EVENT", "true", "old")
    assert (item["eventDate"], item["merchantAccountCode"]) == ("2025-11-25T10:00:40+01:00", "Elsewhere")
    assert item["additionalData"]["modification.action"] == "cancel"


@pytest.mark.parametrize(
    ("wanted", "named"),
    [
        ({}, "event_code"),
        ({"event_code": "CAPTURE"}, "amount"),
        ({"event_code": "CAPTURE", "amount": {"value": "7", "currency": "EUR"}}, "amount.value"),
        ({"event_code": "CAPTURE", "amount": {"value": 7, "currency": "EUR"}, "event_date": "today"}, "event_date"),
        ({"event_code": "CAPTURE", "amount": {"value": 7, "currency": "EUR"}, "signing": "x"}, "signing"),
        ({"event_code": "CAPTURE", "eventDate": "today"}, "eventDate"),
    ],
)
def test_a_webhook_by_hand_that_makes_no_sense_is_refused(
    wanted: Json, named: str, simulator: SimulatorProcess, receiver: Receiver
) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        simulator.send_webhook(**wanted)

    assert refused.value.code == 422
    assert named in json.load(refused.value)["error"]
    assert receiver.bodies == []


def test_a_behaviour_can_be_ordered_for_a_reference(
    till: Till, simulator: SimulatorProcess, receiver: Receiver
) -> None:
    simulator.post_scenario("webhook-contradicts", reference="ORDERED")

    pay(till, "ORDERED")
    eventually(lambda: len(items(receiver)) == 1)

    assert told(items(receiver)[0]) == _FALSE
