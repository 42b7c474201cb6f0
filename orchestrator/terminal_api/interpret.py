"""What an HTTP answer to one of our requests is worth as evidence. The default is the suspicious one.

====================================================================  =========================================
401, 403; 400, 404, 422 in the platform's shape; Reject of bad input  ``RequestRejected``
``ok`` from /async                                                    nothing: None
a PaymentResponse with our POIID, SaleID, ServiceID and reference     ``ResultReported``, verbatim
a status answer                                                       by the nested response, never the outer one
everything else                                                       ``AnswerMissing``, with a slug for why
====================================================================  =========================================
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from orchestrator.evidence import (
    AbortSent,
    AnswerMissing,
    Channel,
    Evidence,
    Exchange,
    InProgressReported,
    NotFoundReported,
    RequestRejected,
)
from orchestrator.model import Transaction
from orchestrator.terminal_api import fields, strict_json
from orchestrator.terminal_api.additional import read_additional
from orchestrator.terminal_api.payment_response import echoes, read_header, read_payment_response

# Texts of Reject events that say that our request was never understood, so that no terminal can have it.
BAD_INPUT_TEXTS = frozenset({"Input is not a JSONObject", "Empty input which would have resulted in a null result."})
_ERROR_CODE = re.compile(r"[A-Za-z0-9_.-]{1,32}", re.ASCII)
_LAST_REQUEST = re.compile(r"last such Request has SaleID=.* ServiceID=([^\s,;&]{1,10})(?:[\s,;&]|$)")
_ACKNOWLEDGED = frozenset({b"ok", b'"ok"'})


ReadNested = Callable[[Mapping[str, Any]], Evidence | str]


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a status request was about; ``service_id`` is the request's own."""

    tx: Transaction
    category: str
    service_id: str
    read_nested: ReadNested


def missing(exchange: Exchange, why: str, service_id: str) -> AnswerMissing:
    """Return that nothing usable was answered to the request with this ServiceID."""
    return AnswerMissing(exchange=exchange, why=why, digest=fields.digest("missing", exchange, service_id, why))


def read_payment_answer(status: int, body: bytes, tx: Transaction, *, expects_result: bool) -> Evidence | None:
    """Read the answer to our payment request; None for ``ok`` where no result is expected yet."""
    message = read_answer(Exchange.PAYMENT, status, body, tx, tx.service_id)
    if message is None:
        return missing(Exchange.PAYMENT, "ok-without-result", tx.service_id) if expects_result else None
    if isinstance(message, Evidence):
        return message
    if not echoes(read_header(message), tx, service_id=tx.service_id, category="Payment"):
        return missing(Exchange.PAYMENT, "wrong-echo", tx.service_id)
    response = fields.mapping(message, "PaymentResponse")
    if response is None:
        return missing(Exchange.PAYMENT, "foreign-json", tx.service_id)
    found = read_payment_response(response, tx, channel=Channel.CONNECTION)
    return missing(Exchange.PAYMENT, found, tx.service_id) if isinstance(found, str) else found


def read_status_answer(
    status: int,
    body: bytes,
    tx: Transaction,
    *,
    status_service_id: str,
    category: str = "Payment",
    read_nested: ReadNested | None = None,
) -> Evidence:
    """Read the answer to the status request with this ServiceID of its own, about a message of this category.

    ``read_nested`` reads the repeated response: of a payment, unless it is given.
    """
    message = read_answer(Exchange.STATUS, status, body, tx, status_service_id)
    if isinstance(message, Evidence):
        return message
    if message is None:
        return missing(Exchange.STATUS, "ok-without-result", status_service_id)
    if not echoes(read_header(message), tx, service_id=status_service_id, category="TransactionStatus"):
        return missing(Exchange.STATUS, "wrong-echo", status_service_id)
    response = fields.mapping(message, "TransactionStatusResponse")
    if response is None:
        return missing(Exchange.STATUS, "foreign-json", status_service_id)
    asked = _Asked(tx, category, status_service_id, read_nested or partial(_read_nested_payment, tx))
    return _read_status_response(response, asked)


def read_abort_answer(status: int, body: bytes) -> AbortSent:
    """Read the answer to an abort. It proves nothing; it is kept for whoever wonders."""
    if status != 200:
        return AbortSent(answer=f"http-{status}")
    text = body.strip()
    if not text:
        return AbortSent(answer="empty")
    return AbortSent(answer="ok" if text in _ACKNOWLEDGED else "other")


def read_answer(
    exchange: Exchange, status: int, body: bytes, tx: Transaction, service_id: str
) -> Mapping[str, Any] | Evidence | None:
    """Return the content of a SaleToPOIResponse, None for ``ok``, or the evidence that it is neither."""
    if status != 200:
        refusal = _refusal(status, body)
        if refusal is not None:
            return _rejected(exchange, refusal, service_id)
        return missing(exchange, f"http-{status}", service_id)
    text = body.strip()
    if not text:
        return missing(exchange, "empty-200", service_id)
    if text in _ACKNOWLEDGED:
        return None
    try:
        message = strict_json.loads(body)
    except strict_json.MalformedJson as error:
        return missing(exchange, f"bad-json-{error.problem}", service_id)
    if not isinstance(message, Mapping):
        return missing(exchange, "foreign-json", service_id)
    if message == {"Result": "ok"}:
        return None
    return _unwrap(exchange, message, tx, service_id)


def _unwrap(
    exchange: Exchange, message: Mapping[str, Any], tx: Transaction, service_id: str
) -> Mapping[str, Any] | Evidence:
    response = fields.mapping(message, "SaleToPOIResponse")
    request = fields.mapping(message, "SaleToPOIRequest")
    if response is not None and request is None:
        return response
    if response is None and fields.member(request, "EventNotification", "EventToNotify") == "Reject":
        return _read_reject(exchange, request, tx, service_id)
    return missing(exchange, "foreign-json", service_id)


def _read_reject(exchange: Exchange, message: object, tx: Transaction, service_id: str) -> Evidence:
    header = read_header(message)
    if header.service_id not in {None, service_id} or header.poi_id not in {None, tx.poi_id}:
        return missing(exchange, "wrong-echo", service_id)
    details = read_additional(fields.member(message, "EventNotification", "EventDetails")).get("message")
    if details in BAD_INPUT_TEXTS:
        return _rejected(exchange, f"reject:{details}", service_id)
    return missing(exchange, "reject-event", service_id)


def _rejected(exchange: Exchange, refusal: str, service_id: str) -> RequestRejected:
    digest = fields.digest("rejected", exchange, service_id, refusal)
    return RequestRejected(exchange=exchange, refusal=refusal, digest=digest)


def _refusal(status: int, body: bytes) -> str | None:
    """Return the platform's refusal, None when anything in between could have answered so."""
    if status in {401, 403}:
        return f"http-{status}"
    if status not in {400, 404, 422}:
        return None
    try:
        problem = strict_json.loads(body)
    except strict_json.MalformedJson:
        return None
    code = fields.word(problem, "errorCode")
    if code is None or not _ERROR_CODE.fullmatch(code) or fields.text(problem, "status") != str(status):
        return None
    return f"http-{status}:{code}"


def _read_status_response(response: Mapping[str, Any], asked: _Asked) -> Evidence:
    tx, service_id = asked.tx, asked.service_id
    if not _names(fields.mapping(response, "MessageReference"), asked):
        return missing(Exchange.STATUS, "other-transaction", service_id)
    result = fields.text(response, "Response", "Result")
    condition = fields.text(response, "Response", "ErrorCondition")
    if result == "Success":
        return _read_repeated(response, asked)
    if result != "Failure":
        return missing(Exchange.STATUS, "no-result", service_id)
    additional = read_additional(fields.member(response, "Response", "AdditionalResponse"))
    if condition == "InProgress" or (condition == "Busy" and additional.get("serviceId") == tx.service_id):
        digest = fields.digest("in-progress", service_id)
        detail = additional.get("detailedStatus")
        return InProgressReported(detail=detail and fields.without_long_numbers(detail), digest=digest)
    if condition == "NotFound":
        last = _LAST_REQUEST.search(additional.get("message") or "")
        return NotFoundReported(last_service_id=last and last[1], digest=fields.digest("not-found", service_id))
    return missing(Exchange.STATUS, f"status-{fields.slug(condition)}", service_id)


def _read_nested_payment(tx: Transaction, response: Mapping[str, Any]) -> Evidence | str:
    return read_payment_response(response, tx, channel=Channel.STATUS)


def _read_repeated(response: Mapping[str, Any], asked: _Asked) -> Evidence:
    """Judge by the nested response, as if it had just arrived; its header may be missing, but not wrong."""
    service_id = asked.service_id
    repeated = fields.member(response, "RepeatedMessageResponse")
    nested = fields.mapping(repeated, "RepeatedResponseMessageBody", f"{asked.category}Response")
    if not _names(fields.mapping(repeated, "MessageHeader"), asked):
        return missing(Exchange.STATUS, "other-transaction", service_id)
    if nested is None:
        return missing(Exchange.STATUS, "no-inner-response", service_id)
    found = asked.read_nested(nested)
    if isinstance(found, str):
        return missing(Exchange.STATUS, found, service_id)
    # Each check is a fact, also when it brings the same words: what settles nothing has to be asked about again.
    return replace(found, digest=fields.digest("repeated", service_id, found.digest))


def _names(reference: Mapping[str, Any] | None, asked: _Asked) -> bool:
    """Whether a MessageReference or inner header, as far as it names anything, names this transaction."""
    tx = asked.tx
    ours = {
        "MessageCategory": asked.category,
        "SaleID": tx.sale_id,
        "ServiceID": tx.service_id,
        "POIID": tx.poi_id,
    }
    return all(fields.text(reference, name) in {None, value} for name, value in ours.items())
