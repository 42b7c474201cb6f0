"""What a fleet looks like from outside: listings, what terminals are occupied with, and what they report."""

from __future__ import annotations

import asyncio
import json
import re
import ssl
import sys
import urllib.error
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.simulator.payment import CLOUD_WINDOW_S, LOCAL_WINDOW_S, Payment
from orchestrator.simulator.payment import Asked as AskedOfTerminal
from orchestrator.simulator.process import SimulatorProcess
from orchestrator.simulator.sealing import SharedKey, seal
from tests.integration.simulator_support import Asked, Json, Receiver, Till, eventually, message

_MERCHANT, _KEY = "ExampleMerchantPOS", "test-key"
_POI, _OTHER = "V400m-324000123", "S1F2-000158240000042"
_LISTING = f"/v1/merchants/{_MERCHANT}/connectedDevices"
_LEGACY = "/connectedTerminals"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


@pytest.fixture
def simulator(tmp_path: Path, receiver: Receiver) -> Iterator[SimulatorProcess]:
    terminals = ["--terminal", f"{_POI}@Amsterdam", "--terminal", _OTHER]
    access = ["--api-key", _KEY, "--merchant", _MERCHANT, "--notify", receiver.url, "--display", "--time-scale", "200"]
    with SimulatorProcess(tmp_path / "ledger.jsonl", [*terminals, *access]) as simulator:
        yield simulator


@pytest.fixture
def till(simulator: SimulatorProcess) -> Till:
    return Till(simulator.url, _KEY)


def _diagnosis(till: Till) -> Json:
    answered = till.post("/sync", message("Diagnosis", {"HostDiagnosisFlag": True}, _POI, "d1")).json()
    said: Json = answered["SaleToPOIResponse"]["DiagnosisResponse"]
    return said


def test_both_listings_name_who_is_connected_by_store_where_one_is_named(
    till: Till, simulator: SimulatorProcess
) -> None:
    def listed(store: str) -> tuple[list[str], list[str]]:
        device = till.call("GET", _LISTING + (f"?store={store}" if store else "")).json()["uniqueDeviceIds"]
        legacy = till.post(_LEGACY, {"merchantAccount": _MERCHANT, "store": store}).json()["uniqueTerminalIds"]
        return device, legacy

    everybody, amsterdam, nowhere = listed(""), listed("Amsterdam"), listed("Utrecht")
    simulator.post_faults(unreachable=[_POI])

    assert everybody == ([_POI, _OTHER], [_POI, _OTHER])
    assert amsterdam == ([_POI], [_POI])
    assert nowhere == ([], [])
    assert listed("") == ([_OTHER], [_OTHER])


def test_listings_ask_for_the_key_and_the_merchant(simulator: SimulatorProcess, till: Till) -> None:
    stranger = Till(simulator.url, "wrong")

    assert stranger.call("GET", _LISTING).json()["errorCode"] == "00_401"
    assert stranger.call("GET", f"/v1/merchants/{_MERCHANT}/devices/{_POI}/status").status == 401
    assert stranger.post(_LEGACY, {"merchantAccount": _MERCHANT}).status == 401
    assert till.call("GET", "/v1/merchants/SomebodyElse/connectedDevices").status == 403
    assert till.post(_LEGACY, {"merchantAccount": "SomebodyElse"}).json()["errorCode"] == "901"
    assert till.post(_LEGACY, {}).status == 403


@pytest.mark.parametrize(
    ("state", "global_status", "condition"),
    [
        ("busy", "Busy", "Busy"),
        ("maintenance", "Maintenance", "DeviceOut"),
        ("no-host", "Unreachable", "UnreachableHost"),
    ],
)
def test_an_occupied_terminal_says_so_and_takes_no_payment(
    till: Till, simulator: SimulatorProcess, state: str, global_status: str, condition: str
) -> None:
    healthy = _diagnosis(till)["POIStatus"]
    simulator.post_faults(states={_POI: state})

    occupied = _diagnosis(till)
    refused = till.pay(Asked("OCCUPIED", poi_id=_POI), "/sync").json()["SaleToPOIResponse"]["PaymentResponse"]
    listed = {line["poi_id"]: line["state"] for line in till.call("GET", "/terminals").json()}

    assert healthy == {"GlobalStatus": "OK", "CommunicationOKFlag": True, "PrinterStatus": "OK"}
    assert occupied["POIStatus"]["GlobalStatus"] == global_status
    assert occupied["HostStatus"][0]["IsReachableFlag"] == (state != "no-host")
    assert refused["Response"]["ErrorCondition"] == condition
    assert listed == {_POI: state, _OTHER: None}
    assert simulator.ledger("prompt") == []


def test_a_terminal_with_a_payment_is_busy_and_listed_with_it(till: Till, simulator: SimulatorProcess) -> None:
    asked = Asked("RUNNING-abortable", poi_id=_POI)
    till.pay(asked)
    simulator.wait_for(lambda _: bool(simulator.ledger("prompt")))

    status = _diagnosis(till)["POIStatus"]["GlobalStatus"]
    listed = {line["poi_id"]: line["running"] for line in till.call("GET", "/terminals").json()}

    assert status == "Busy"
    assert listed == {_POI: asked.service, _OTHER: None}


@pytest.mark.parametrize(
    "wrong", [{"states": {_POI: "asleep"}}, {"certificates": {_POI: "pretty"}}, {"states": 1}, {"certificates": [1]}]
)
def test_a_fault_that_does_not_exist_is_refused(simulator: SimulatorProcess, wrong: dict[str, object]) -> None:
    with pytest.raises(urllib.error.HTTPError, match="422"):
        simulator.post_faults(**wrong)


@pytest.mark.parametrize(
    ("event", "details"), [("BeginMaintenance", "Maintenance window"), ("KeyPressed", "reference_id=55"), ("New1", "")]
)
def test_a_terminal_reports_any_event_on_demand(
    simulator: SimulatorProcess, receiver: Receiver, event: str, details: str
) -> None:
    simulator.post_event(_POI, event, details)

    [pushed] = receiver.bodies
    head, said = (pushed["SaleToPOIRequest"][name] for name in ("MessageHeader", "EventNotification"))
    assert (head["MessageClass"], head["MessageCategory"], head["POIID"]) == ("Event", "Event", _POI)
    assert (said["EventToNotify"], said.get("EventDetails", "")) == (event, details)
    assert [line["what"] for line in simulator.ledger("notification")] == [f"event {event}"]


@pytest.mark.parametrize("about", [{"terminal": "V400m-000000000", "event": "KeyPressed"}, {"terminal": _POI}])
def test_an_event_of_nobody_or_of_nothing_is_refused(till: Till, about: Json) -> None:
    assert till.post("/events", about).status == 422


def test_an_abort_that_comes_after_the_end_is_answered_by_an_event(till: Till, receiver: Receiver) -> None:
    asked = Asked("ENDED", poi_id=_POI)
    till.pay(asked, "/sync")

    till.abort(asked)

    def reported() -> list[str]:
        requests = [body.get("SaleToPOIRequest", {}) for body in list(receiver.bodies)]
        return [each["EventNotification"]["EventToNotify"] for each in requests if "EventNotification" in each]

    eventually(lambda: reported() == ["Completed"])


def test_a_dialogue_can_be_displayed_step_by_step(till: Till, receiver: Receiver) -> None:
    asked = Asked("STEPS-displays", poi_id=_POI)
    till.pay(asked)

    eventually(lambda: "CARD_REMOVED" in receiver.displays(asked))

    steps = [step for step in receiver.displays(asked) if not step.startswith("TENDER")]
    assert steps[0] == "CARD_INSERTED"
    assert steps.index("WAIT_FOR_PIN") < steps.index("PIN_ENTERED") < steps.index("CARD_REMOVED")


@pytest.mark.parametrize(("via", "window_s"), [("local", LOCAL_WINDOW_S), ("device/sync", CLOUD_WINDOW_S)])
def test_a_local_payment_has_the_local_answer_window(via: str, window_s: float) -> None:
    asked = AskedOfTerminal(_POI, "KASSA-07", "p1", "REF", "2025-11-25T09:00:30Z", "EUR", 1099)

    assert Payment(asked, "", via).window_s == window_s


_MANY = 300
_MOST_KB = 160_000  # 75,000 measured, of which 39,000 before any payment


async def _held(asked: Asked, address: tuple[str, int], tls: ssl.SSLContext, key: SharedKey) -> bytes:
    """The status line that a payment on hold ends with."""
    body = seal(key, json.dumps(asked.body()).encode())
    reader, writer = await asyncio.open_connection(*address, ssl=tls)
    head = f"POST /nexo HTTP/1.1\r\nhost: terminal\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
    writer.write(head.encode() + body)
    status, _, _ = (await reader.read()).partition(b"\r\n")
    writer.close()
    return status.strip()


async def _hold_all(simulator: SimulatorProcess, root: Path, key: SharedKey) -> tuple[list[bytes], list[bytes]]:
    """Status lines of those that were answered before all were held, and of all once they were aborted."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls.check_hostname = False
    tls.load_verify_locations(root)
    terminals = simulator.terminals()
    payments = [Asked(f"MANY-{poi_id}-abortable", poi_id=poi_id) for poi_id in terminals]
    tasks = [asyncio.create_task(_held(asked, terminals[asked.terminal], tls, key)) for asked in payments]
    await asyncio.to_thread(simulator.wait_for, lambda _: len(simulator.ledger("prompt")) == _MANY, 20)
    early = [task.result() for task in tasks if task.done()]
    for asked in payments:
        await asyncio.to_thread(Till(simulator.url).abort, asked)
    return early, await asyncio.gather(*tasks)


def test_300_terminals_hold_a_sealed_payment_each_in_little_memory(tmp_path: Path) -> None:
    root, key = tmp_path / "root.pem", SharedKey.derive("lane", 1, "Vector-Test#2025a")
    arguments = [part for number in range(_MANY) for part in ("--terminal", f"V400m-{number:09d}")]
    arguments += ["--local-listen", "127.0.0.1:0", "--root-out", str(root), "--nexo-key", "lane:1:Vector-Test#2025a"]
    with SimulatorProcess(tmp_path / "ledger.jsonl", arguments) as simulator:
        early, answers = asyncio.run(_hold_all(simulator, root, key))
        status = Path(f"/proc/{simulator.pid}/status")
        peak = re.search(r"VmHWM:\s+(\d+) kB", status.read_text()) if status.exists() else None

    assert early == []
    assert set(answers) == {b"HTTP/1.1 200"}
    if peak is not None:
        sys.stdout.write(f"simulator: {_MANY} held payments, {int(peak[1]) / 1000:.0f} MB at most\n")
        assert int(peak[1]) < _MOST_KB
