"""What terminals push to us: results, refused requests, events and display texts. No request of ours is open here.

Basic authentication protects the endpoint, not the content; a result is authentic by our own tag alone.
"""

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from orchestrator.errors import RemoteProtocolError
from orchestrator.evidence import Channel, RejectPushed, ResultReported
from orchestrator.model import Transaction
from orchestrator.terminal_api import fields, strict_json, tag
from orchestrator.terminal_api.additional import Additional, read_additional, read_display_reference
from orchestrator.terminal_api.payment_response import Header, echoes, read_header, read_payment_response

#: Details of an event that are kept; a barcode or a text that a cashier typed could be anything.
EVENT_DETAILS = ("reference_id", "newstate", "oldstate")


class NotTerminalMessage(RemoteProtocolError):
    """The body is JSON, but no message of the Terminal API."""

    def __init__(self, problem: str) -> None:
        """Name the ``problem`` by a slug."""
        super().__init__(f"no Terminal API message: {problem}")
        self.problem = problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Notification:
    """Who is meant; each identifier is None where the message does not name it."""

    poi_id: str | None
    sale_id: str | None
    service_id: str | None
    category: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PushedResponse(Notification):
    """The result of an asynchronous payment."""

    header: Header = field(repr=False)
    response: Mapping[str, Any] = field(repr=False)  # holds card data

    def result_for(self, tx: Transaction, tag_keys: Sequence[bytes]) -> ResultReported | None:
        """Return what it says about this transaction, None when it is not the answer to it.

        One whose approved amount cannot be read is hearsay of an approval, so that the terminal is asked.
        """
        if not echoes(self.header, tx, service_id=tx.service_id, category="Payment"):
            return None

        def authentic(additional: Additional) -> bool:
            return tag.verify(tag_keys, tx, additional.values.get(f"metadata.{tag.METADATA_NAME}"))

        found = read_payment_response(self.response, tx, channel=Channel.NOTIFICATION, authentic=authentic)
        if isinstance(found, ResultReported):
            return found
        return self._hearsay(tx) if found == "amount-missing" else None

    def _hearsay(self, tx: Transaction) -> ResultReported:
        result = fields.text(self.response, "Response", "Result") or ""
        return ResultReported(
            channel=Channel.NOTIFICATION,
            authentic=False,
            result=result,
            digest=fields.digest("hearsay", tx.poi_id, tx.sale_id, tx.service_id, result),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PushedReject(Notification):
    """A request was refused on its way. The identifiers are those of the refused request."""

    text: str | None  # the platform's words

    def evidence_for(self, tx: Transaction) -> RejectPushed | None:
        """Return what it says about this transaction, None when another request was refused."""
        ours = (tx.poi_id, tx.sale_id, tx.service_id, "Payment")
        named = (self.poi_id, self.sale_id, self.service_id, self.category or "Payment")
        if named != ours:
            return None
        why = fields.slug(self.text)
        return RejectPushed(why=why, digest=fields.digest("reject-pushed", tx.poi_id, tx.sale_id, tx.service_id, why))


@dataclass(frozen=True, slots=True, kw_only=True)
class PushedEvent(Notification):
    """Something happened at a terminal."""

    event: str
    details: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class PushedDisplay(Notification):
    """What the terminal shows, for the cashier's eyes; never an outcome."""

    event: str | None
    at: str | None  # verbatim time stamp
    tender_reference: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PushedOther(Notification):
    """A well-formed message that we have no use for: acknowledge and count."""


def read_notification(body: bytes) -> Notification:
    """Read a pushed message. Raises MalformedJson or NotTerminalMessage, neither of which quotes it."""
    message = strict_json.loads(body)
    response, request = fields.mapping(message, "SaleToPOIResponse"), fields.mapping(message, "SaleToPOIRequest")
    content = response if request is None else request
    if content is None or (response is not None and request is not None):
        raise NotTerminalMessage("no-single-wrapper")
    if fields.mapping(content, "MessageHeader") is None:
        raise NotTerminalMessage("no-header")
    if "NexoBlob" in content:
        raise NotTerminalMessage("encrypted")
    return _read_request(content) if response is None else _read_response(content)


def _read_response(message: Mapping[str, Any]) -> Notification:
    header = read_header(message)
    payment = fields.mapping(message, "PaymentResponse")
    if payment is None or header.category != "Payment":
        return PushedOther(**_who(header))
    return PushedResponse(**_who(header), header=header, response=payment)


def _read_request(message: Mapping[str, Any]) -> Notification:
    header = read_header(message)
    event = fields.mapping(message, "EventNotification")
    display = fields.mapping(message, "DisplayRequest")
    if event is not None:
        return _read_event(header, event)
    if display is not None:
        return _read_display(header, display)
    return PushedOther(**_who(header))


def _read_event(header: Header, event: Mapping[str, Any]) -> Notification:
    name = fields.text(event, "EventToNotify")
    details = read_additional(fields.member(event, "EventDetails"))
    if name is None:
        return PushedOther(**_who(header))
    if name == "Reject":
        return _read_reject(header, details, fields.member(event, "RejectedMessage"))
    kept = {key: value for key in EVENT_DETAILS if (value := details.get(key))}
    return PushedEvent(**_who(header), event=name, details=kept)


def _read_reject(header: Header, details: Additional, rejected: object) -> PushedReject:
    """Name the refused request by the header, and by the request itself where the header is silent."""
    request = _decode_rejected(rejected)
    return PushedReject(
        poi_id=header.poi_id or request.poi_id,
        sale_id=header.sale_id or request.sale_id,
        service_id=header.service_id or request.service_id,
        category=request.category,
        text=details.get("message"),
    )


def _decode_rejected(rejected: object) -> Header:
    try:
        body = base64.b64decode(rejected, validate=True) if isinstance(rejected, str) and rejected.isascii() else b""
        message = strict_json.loads(body)
    except (binascii.Error, strict_json.MalformedJson):
        message = None
    return read_header(fields.member(message, "SaleToPOIRequest"))


def _read_display(header: Header, display: Mapping[str, Any]) -> PushedDisplay:
    outputs = display.get("DisplayOutput")
    texts = [
        fields.member(output, "OutputContent", "PredefinedContent", "ReferenceID")
        for output in (outputs if isinstance(outputs, list) else [outputs])
    ]
    reference = read_display_reference(next((text for text in texts if isinstance(text, str)), ""))
    return PushedDisplay(
        **_who(header), event=reference.event, at=reference.at, tender_reference=reference.tender_reference
    )


def _who(header: Header) -> dict[str, str | None]:
    return {
        "poi_id": header.poi_id,
        "sale_id": header.sale_id,
        "service_id": header.service_id,
        "category": header.category,
    }
