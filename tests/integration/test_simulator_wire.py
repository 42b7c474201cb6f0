"""The cloud's rules: keys, channels, one dialogue at a time, repeated requests, deliveries, faults."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from orchestrator.simulator.process import SimulatorProcess
from tests.integration.simulator_support import Asked, Receiver, Till, eventually, status_word

_POI = "V400m-324000123"
_KEY = "test-key"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


@pytest.fixture
def simulator(tmp_path: Path, receiver: Receiver) -> Iterator[SimulatorProcess]:
    arguments = ["--terminal", _POI, "--api-key", _KEY, "--time-scale", "200", "--notify", receiver.url]
    with SimulatorProcess(
        tmp_path / "ledger.jsonl", [*arguments, "--username", "adyen", "--password", "s3cret"]
    ) as simulator:
        yield simulator


@pytest.fixture
def till(simulator: SimulatorProcess) -> Till:
    return Till(simulator.url, _KEY)


def test_a_wrong_key_is_refused_in_the_words_of_each_api(simulator: SimulatorProcess) -> None:
    asked = Asked("WRONG-KEY", poi_id=_POI)
    stranger = Till(simulator.url, "wrong")

    legacy = stranger.pay(asked)
    device = stranger.pay(asked, f"/v1/merchants/ExampleMerchantPOS/devices/{_POI}/async")

    assert (legacy.status, legacy.content_type) == (401, "text/html")
    assert (device.status, device.json()["errorCode"]) == (401, "00_401")
    assert simulator.ledger("request") == []


def test_a_pushed_result_carries_basic_auth(till: Till, receiver: Receiver) -> None:
    till.pay(Asked("PUSHED", poi_id=_POI))

    eventually(lambda: len(receiver.authorizations) == 1)

    assert receiver.authorizations == ["Basic YWR5ZW46czNjcmV0"]


def test_both_apis_acknowledge_in_their_own_way(till: Till) -> None:
    legacy = till.pay(Asked("LEGACY", poi_id=_POI))
    device = till.pay(Asked("DEVICE", poi_id=_POI), f"/v1/merchants/ExampleMerchantPOS/devices/{_POI}/async")

    assert (legacy.text, device.text) == ("ok", '"ok"')


def test_the_device_api_answers_a_held_payment(till: Till, simulator: SimulatorProcess, receiver: Receiver) -> None:
    asked = Asked("DEVICE-SYNC", poi_id=_POI)

    answered = till.pay(asked, f"/v1/merchants/ExampleMerchantPOS/devices/{_POI}/sync").json()

    assert answered["SaleToPOIResponse"]["PaymentResponse"]["Response"]["Result"] == "Success"
    assert [line["what"] for line in simulator.ledger("answer", service_id=asked.service)] == ["PaymentResponse"]
    assert receiver.bodies == []


def test_an_unknown_terminal_is_not_connected(till: Till, simulator: SimulatorProcess) -> None:
    asked = Asked("NOWHERE", poi_id="V400m-000000000")

    legacy = till.pay(asked).json()["SaleToPOIRequest"]["EventNotification"]
    device = till.pay(asked, f"/v1/merchants/ExampleMerchantPOS/devices/{asked.poi_id}/sync").json()

    assert "may+not+have+the+websocket+connected" in legacy["EventDetails"]
    assert device["SaleToPOIResponse"]["PaymentResponse"]["Response"]["ErrorCondition"] == "UnreachableHost"
    assert [line["taken"] for line in simulator.ledger("request")] == [False, False]


def test_a_second_payment_meets_a_busy_terminal_and_hears_of_the_first(
    till: Till, simulator: SimulatorProcess, receiver: Receiver
) -> None:
    first, second = Asked("FIRST-abortable", poi_id=_POI), Asked("SECOND", poi_id=_POI)
    till.pay(first)

    till.pay(second)
    eventually(lambda: len(receiver.responses(second)) == 1)

    [pushed] = receiver.responses(second)
    assert pushed["Response"]["ErrorCondition"] == "Busy"
    assert pushed["Response"]["AdditionalResponse"].endswith(f"serviceId={first.service}")
    assert [line["blocker"] for line in simulator.ledger("busy")] == [first.service]
    assert simulator.ledger("prompt", service_id=second.service) == []
    assert status_word(till.status(second)) == "Repeated Failure Busy"
    assert status_word(till.status(first)) == "InProgress"


def test_a_repeated_service_id_is_refused_and_charged_once(
    till: Till, simulator: SimulatorProcess, receiver: Receiver
) -> None:
    asked = Asked("REPEATED", poi_id=_POI)
    till.pay(asked)
    eventually(lambda: len(receiver.responses(asked)) == 1)

    again = till.pay(asked, "/sync").json()["SaleToPOIResponse"]["PaymentResponse"]["Response"]

    assert (again["Result"], again["ErrorCondition"]) == ("Failure", "NotAllowed")
    assert len(simulator.ledger("request", service_id=asked.service)) == 2
    assert len(simulator.ledger("charge", service_id=asked.service)) == 1
    assert len(simulator.ledger("refused", service_id=asked.service)) == 1
    assert status_word(till.status(asked)) == "Repeated Success"


def test_a_repeated_service_id_is_refused_while_the_first_is_still_under_way(
    till: Till, simulator: SimulatorProcess
) -> None:
    asked = Asked("UNDER-WAY-starts-late", poi_id=_POI)
    till.pay(asked)
    till.pay(asked)

    simulator.wait_for(lambda _: bool(simulator.ledger("charge")))

    assert len(simulator.ledger("charge")) == len(simulator.ledger("prompt")) == 1
    assert len(simulator.ledger("refused")) == 1


def test_a_status_asked_by_async_is_pushed(till: Till, receiver: Receiver) -> None:
    asked = Asked("ASKED", poi_id=_POI)
    till.pay(asked, "/sync")

    assert till.status(asked, "/async").text == "ok"
    eventually(lambda: len(receiver.bodies) == 1)

    assert "TransactionStatusResponse" in receiver.bodies[0]["SaleToPOIResponse"]


@pytest.mark.parametrize(("statuses", "attempts"), [([503], 2), ([500] * 9, 4), ([401], 1), ([404], 1), ([], 1)])
def test_a_result_is_pushed_again_on_5xx_only_and_at_most_three_times(
    statuses: list[int], attempts: int, till: Till, simulator: SimulatorProcess, receiver: Receiver
) -> None:
    receiver.statuses = list(statuses)
    asked, after = Asked("RETRIED", poi_id=_POI), Asked("AFTERWARDS", poi_id=_POI)
    till.pay(asked)
    simulator.wait_for(lambda _: len(simulator.ledger("notification", service_id=asked.service)) >= attempts)
    receiver.statuses = []
    till.pay(after)
    eventually(lambda: len(receiver.responses(after)) == 1)

    tried = simulator.ledger("notification", service_id=asked.service)

    assert [line["attempt"] for line in tried] == list(range(1, attempts + 1))
    assert len(receiver.responses(asked)) == attempts


def test_a_result_is_pushed_again_when_nobody_listens(tmp_path: Path) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}/"
        arguments = ["--any-terminal", "--time-scale", "1000", "--notify", url]
        with SimulatorProcess(tmp_path / "ledger.jsonl", arguments) as simulator:
            Till(simulator.url).pay(Asked("UNHEARD"))

            simulator.wait_for(lambda _: len(simulator.ledger("notification")) == 4)

            assert {line["error"] for line in simulator.ledger("notification")} == {"ConnectionRefusedError"}


@pytest.mark.parametrize(
    ("amount", "condition", "text"),
    [
        (11.23, "Refusal", "message=DECLINED"),
        (11.24, "Refusal", "210%20Not%20enough%20balance"),
        (11.25, "Refusal", "199%20Card%20blocked"),
        (11.26, "Refusal", "228%20Card%20expired"),
        (11.27, "Refusal", "214%20Declined%20online"),
        (11.28, "InvalidCard", "message=INVALID_CARD"),
        (11.34, "WrongPIN", "129%20Invalid%20online%20PIN"),
        (11.35, "Refusal", "128%20Online%20PIN%20tries%20exceeded"),
        (11.36, "Refusal", "207%20Issuer%20unavailable"),
        (11.37, "Refusal", "211%20Withdrawal%20amount%20exceeded"),
        (11.39, "Refusal", "210%20Not%20enough%20balance"),
    ],
)
def test_the_documented_test_amounts_force_their_refusals(
    amount: float, condition: str, text: str, till: Till, simulator: SimulatorProcess
) -> None:
    response = till.pay(Asked("AMOUNT", amount, poi_id=_POI), "/sync").json()["SaleToPOIResponse"]["PaymentResponse"]

    assert response["Response"]["ErrorCondition"] == condition
    assert text in response["Response"]["AdditionalResponse"]
    assert simulator.ledger("charge") == []


def test_too_little_balance_is_a_partial_approval_where_that_is_allowed(till: Till) -> None:
    asked = Asked("PARTLY", 11.39, poi_id=_POI, acquirer_data="tenderOption=AllowPartialAuthorisation,ReceiptHandler")

    response = till.pay(asked, "/sync").json()["SaleToPOIResponse"]["PaymentResponse"]

    assert response["Response"]["Result"] == "Partial"
    assert response["PaymentResult"]["AmountsResp"]["AuthorizedAmount"] == 6.83


def test_a_payment_type_that_is_not_offered_charges_nothing(till: Till, simulator: SimulatorProcess) -> None:
    asked = Asked("INSTALMENT", poi_id=_POI, payment_type="Instalment")

    response = till.pay(asked, "/sync").json()["SaleToPOIResponse"]["PaymentResponse"]["Response"]

    assert response["ErrorCondition"] == "NotAllowed"
    assert simulator.ledger("charge") == simulator.ledger("prompt") == []


def test_a_scenario_can_be_ordered_for_a_reference_or_a_terminal(till: Till, simulator: SimulatorProcess) -> None:
    simulator.post_scenario("decline", reference="ORDERED")
    by_reference = till.pay(Asked("ORDERED", poi_id=_POI), "/sync").json()
    simulator.post_scenario("cancel", terminal=_POI)
    by_terminal = till.pay(Asked("ANY", poi_id=_POI), "/sync").json()
    simulator.post_scenario("", terminal=_POI)
    afterwards = till.pay(Asked("OTHER", poi_id=_POI), "/sync").json()

    said = [
        answered["SaleToPOIResponse"]["PaymentResponse"]["Response"].get("ErrorCondition")
        for answered in (by_reference, by_terminal, afterwards)
    ]
    assert said == ["Refusal", "Cancel", None]
    assert till.post("/scenario", {"reference": "X", "scenario": "no-such"}).status == 422


def test_a_silent_held_payment_ends_in_a_hang_up(till: Till, simulator: SimulatorProcess) -> None:
    for name in ("silent", "forgets", "withheld"):
        with pytest.raises(http.client.RemoteDisconnected):
            till.pay(Asked(f"HELD-{name}", poi_id=_POI), "/sync")

    assert [line["what"] for line in simulator.ledger("answer")] == ["nothing"] * 3


def test_faults_break_the_cloud_until_they_are_healed(till: Till, simulator: SimulatorProcess) -> None:
    simulator.post_faults(http_status=503)
    refused = till.pay(Asked("F-1", poi_id=_POI))
    simulator.post_faults(hang_up=True)
    with pytest.raises(http.client.RemoteDisconnected):
        till.pay(Asked("F-2", poi_id=_POI))
    simulator.post_faults(unreachable=[_POI])
    unreachable = till.pay(Asked("F-3", poi_id=_POI)).json()
    offline = till.call("GET", f"/v1/merchants/ExampleMerchantPOS/devices/{_POI}/status").json()
    simulator.post_faults(terminals_down=True)
    none_connected = till.post("/connectedTerminals", {"merchantAccount": "ExampleMerchantPOS"}).json()
    simulator.post_faults()
    healed = till.pay(Asked("F-4", poi_id=_POI))

    assert (refused.status, healed.text) == (503, "ok")
    assert unreachable["SaleToPOIRequest"]["EventNotification"]["EventToNotify"] == "Reject"
    assert (offline["status"], none_connected["uniqueTerminalIds"]) == ("OFFLINE", [])
    requests = simulator.ledger("request")
    assert [line["taken"] for line in requests] == [False, False, False, True]
    assert [line["reference"] for line in requests] == ["F-1", "F-2", "F-3", "F-4"]
    assert till.post("/faults", {"no_such": 1}).status == 422


def test_a_fault_heals_by_itself_after_its_time(till: Till, simulator: SimulatorProcess) -> None:
    simulator.post_faults(http_status=503, for_s=0.2)
    assert till.pay(Asked("DURING", poi_id=_POI)).status == 503

    eventually(lambda: till.call("GET", "/faults").json() == {})

    assert till.pay(Asked("AFTER", poi_id=_POI)).status == 200


def test_lost_notifications_are_counted_and_never_arrive(
    till: Till, simulator: SimulatorProcess, receiver: Receiver
) -> None:
    simulator.post_faults(lose_notifications=True)
    till.pay(Asked("LOST", poi_id=_POI))

    simulator.wait_for(lambda _: len(simulator.ledger("notification")) == 1)

    assert simulator.ledger("notification")[0]["error"] == "lost"
    assert receiver.bodies == []


def test_the_ledger_is_served_in_order_and_from_any_line(till: Till, simulator: SimulatorProcess) -> None:
    till.pay(Asked("LEDGER", poi_id=_POI), "/sync")

    whole, rest = till.call("GET", "/ledger").json(), till.call("GET", "/ledger?after=2").json()

    assert whole == simulator.ledger()
    assert [line["n"] for line in whole] == list(range(1, len(whole) + 1))
    assert rest == whole[2:]
    assert [line["kind"] for line in whole] == ["request", "prompt", "charge", "answer"]


def test_a_body_beyond_the_limit_is_refused(till: Till, simulator: SimulatorProcess) -> None:
    assert till.post("/async", b"x" * 1_000_001).status == 413
    assert simulator.ledger() == []


def test_nonsense_on_the_socket_ends_only_its_own_connection(till: Till, simulator: SimulatorProcess) -> None:
    address = urlsplit(simulator.url)
    with socket.create_connection((address.hostname, address.port), timeout=5) as nonsense:
        nonsense.sendall(b"\x16\x03\x01 nonsense\r\n\r\n")
        assert nonsense.recv(100) == b""

    assert till.call("GET", "/healthz").status == 200


def test_many_notifications_share_kept_alive_connections(tmp_path: Path, receiver: Receiver) -> None:
    arguments = ["--any-terminal", "--time-scale", "200", "--notify", receiver.url]
    with SimulatorProcess(tmp_path / "many.jsonl", arguments) as simulator:
        till = Till(simulator.url)
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(till.pay, [Asked(f"MANY-{number}") for number in range(200)]))

        eventually(lambda: len(receiver.bodies) == 200)

    assert len(receiver.connections) < 100
