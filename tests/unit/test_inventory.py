"""What the cloud and a terminal say of who is connected and how it is: the vectors, and everything short of them."""

import json
from typing import Any

import pytest

from orchestrator.terminal_api import endpoints, messages, strict_json
from orchestrator.terminal_api.inventory import Condition, Health, listing, read_diagnosis, read_listing
from tests.protocol_vectors import body, message

POI, SERVICE = "V400m-324000123", "dia0000001"
DIAGNOSIS = "responses/diagnosis_ok"


def diagnosed(text: bytes, status: int = 200) -> Health:
    return read_diagnosis(status, text, poi_id=POI, service_id=SERVICE)


def answer(**status: Any) -> bytes:
    found = message(DIAGNOSIS)
    found["SaleToPOIResponse"]["DiagnosisResponse"]["POIStatus"] |= status
    return strict_json.dumps(found)


@pytest.mark.parametrize("name", ["connected_devices", "connected_terminals_legacy"])
def test_either_family_lists_who_is_connected(name: str) -> None:
    assert read_listing(200, body(f"gateway/{name}")) == frozenset({POI, "S1F2-000158240000042"})
    assert read_listing(403, body(f"gateway/{name}")) is None


@pytest.mark.parametrize("name", ["device_online", "device_offline", "async_ok", "reject_not_connected"])
def test_an_answer_to_another_question_lists_nobody(name: str) -> None:
    assert read_listing(200, body(f"gateway/{name}")) is None


def test_a_store_is_named_in_the_question_of_either_family() -> None:
    device, terminal = listing("device", "Shop", "Quay"), listing("terminal", "Shop", "Quay")
    assert (device.method, device.path) == ("GET", endpoints.connected_devices_path("Shop", "Quay"))
    assert (terminal.method, terminal.path) == ("POST", "/connectedTerminals")
    assert json.loads(terminal.body or b"") == {"merchantAccount": "Shop", "store": "Quay"}


def test_the_question_is_the_references_but_for_the_host() -> None:
    """Whether the terminal reaches the platform takes it seconds to find out; who looks at a list does not wait."""
    asked = message("requests/diagnosis")
    asked["SaleToPOIRequest"]["DiagnosisRequest"]["HostDiagnosisFlag"] = False
    assert strict_json.loads(messages.diagnosis_request(POI, "KASSA-07", service_id=SERVICE)) == asked


def test_a_terminal_that_is_well_says_so() -> None:
    assert diagnosed(body(DIAGNOSIS)) == Health(Condition.READY, battery="78%", printer="OK")


@pytest.mark.parametrize(
    ("stated", "condition"),
    [
        ("Busy", Condition.BUSY),
        ("Maintenance", Condition.MAINTENANCE),
        ("Unreachable", Condition.AWAY),
        ("New", Condition.NOT_KNOWN),
        (None, Condition.NOT_KNOWN),
    ],
)
def test_each_state_has_its_word(stated: str | None, condition: Condition) -> None:
    assert diagnosed(answer(GlobalStatus=stated)).condition is condition


def test_another_terminals_answer_says_nothing() -> None:
    assert diagnosed(body(DIAGNOSIS).replace(POI.encode(), b"V400m-324000124")).condition is Condition.NOT_KNOWN
    assert diagnosed(body(DIAGNOSIS).replace(SERVICE.encode(), b"dia0000002")).condition is Condition.NOT_KNOWN


@pytest.mark.parametrize(
    ("name", "condition"),
    [
        ("gateway/reject_not_connected", Condition.AWAY),
        ("gateway/bad_gateway", Condition.NOT_KNOWN),
        ("gateway/ok_but_empty", Condition.NOT_KNOWN),
        ("gateway/ok_but_truncated", Condition.NOT_KNOWN),
    ],
)
def test_who_cannot_be_asked_is_away_or_not_known(name: str, condition: Condition) -> None:
    assert diagnosed(body(name)).condition is condition
