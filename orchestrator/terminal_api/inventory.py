"""Which terminals the cloud can reach, and how one of them is: for people who look, never for a payment's way.

A terminal that was connected a moment ago can be away now; what a payment needs is decided by sending it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Literal

from orchestrator.terminal_api import endpoints, fields, strict_json
from orchestrator.terminal_api.additional import read_additional
from orchestrator.terminal_api.payment_response import read_header

#: Most names that an answer may hold: far above any merchant account's terminals.
_NAMES_MAX: Final = 100_000


class Condition(StrEnum):
    """How a terminal is, in words of ours and of the Diagnosis response's ``GlobalStatus``."""

    READY = "ready"
    BUSY = "busy"
    MAINTENANCE = "maintenance"
    AWAY = "away"
    NOT_KNOWN = "not known"


_CONDITIONS: Final[Mapping[str, Condition]] = {
    "OK": Condition.READY,
    "Busy": Condition.BUSY,
    "Maintenance": Condition.MAINTENANCE,
    "Unreachable": Condition.AWAY,
}


@dataclass(frozen=True, slots=True)
class Health:
    """What a terminal says of itself; None where it does not say. ``why`` is a slug for why it could not be asked."""

    condition: Condition
    battery: str | None = None
    printer: str | None = None
    why: str | None = None


@dataclass(frozen=True, slots=True)
class Listing:
    """The question which terminals of a merchant account are connected."""

    method: Literal["GET", "POST"]
    path: str
    body: bytes | None


def listing(family: str, merchant_account: str, store: str | None = None) -> Listing:
    """Ask for the connected terminals of a merchant account, or of one of its stores."""
    if family == "device":
        return Listing("GET", endpoints.connected_devices_path(merchant_account, store), None)
    asked = {"merchantAccount": merchant_account} | ({"store": store} if store else {})
    return Listing("POST", "/connectedTerminals", strict_json.dumps(asked))


def read_listing(status: int, body: bytes) -> frozenset[str] | None:
    """Return the POIIDs of the connected terminals; None when the answer does not say."""
    message = _loaded(body) if status == 200 else None
    names = fields.member(message, "uniqueTerminalIds")
    names = fields.member(message, "uniqueDeviceIds") if names is None else names
    if not isinstance(names, list) or len(names) > _NAMES_MAX or not all(isinstance(name, str) for name in names):
        return None
    return frozenset(names)


def read_diagnosis(status: int, body: bytes, *, poi_id: str, service_id: str) -> Health:
    """Read the answer to our Diagnosis request with this ServiceID."""
    message = _loaded(body) if status == 200 else None
    content = fields.mapping(message, "SaleToPOIResponse")
    header = read_header(content)
    if content is None or (header.poi_id, header.service_id) != (poi_id, service_id):
        gone = fields.member(message, "SaleToPOIRequest", "EventNotification", "EventToNotify") == "Reject"
        return Health(Condition.AWAY if gone else Condition.NOT_KNOWN)
    response = fields.mapping(content, "DiagnosisResponse")
    stated = fields.text(response, "POIStatus", "GlobalStatus")
    if stated is None:
        unreachable = _error_condition(content) == "UnreachableHost"
        return Health(Condition.AWAY if unreachable else Condition.NOT_KNOWN)
    additional = read_additional(fields.member(response, "Response", "AdditionalResponse"))
    return Health(
        _CONDITIONS.get(stated, Condition.NOT_KNOWN),
        battery=additional.get("batteryLevel"),
        printer=fields.text(response, "POIStatus", "PrinterStatus"),
    )


def _error_condition(content: Mapping[str, Any]) -> str | None:
    """The cloud answers for a terminal that is away in the shape of another response."""
    found = (fields.text(content, name, "Response", "ErrorCondition") for name in content)
    return next((condition for condition in found if condition), None)


def _loaded(body: bytes) -> Any:
    try:
        return strict_json.loads(body)
    except strict_json.MalformedJson:
        return None
