"""Refunds on the wire: the reversal of a payment, and the payout to a card that is presented; and their answers.

A reversal's Success says that it was received. What became of it, the platform's books tell.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any

from orchestrator.evidence import Channel, Evidence, Exchange, ResultReported
from orchestrator.model import Transaction
from orchestrator.refunds.evidence import RefundReported
from orchestrator.terminal_api import fields, interpret, messages, money
from orchestrator.terminal_api.additional import read_additional, split_poi_transaction_id
from orchestrator.terminal_api.payment_response import (
    MAX_REFERENCE_CHARS,
    echoes,
    read_busy_with,
    read_header,
    read_payment_response,
)

REVERSAL, PAYMENT = "Reversal", "Payment"


def reversal_request(
    tx: Transaction, *, at: datetime, original_id: str, original_at: str, whole: bool = False
) -> bytes:
    """Return the ReversalRequest that pays ``tx.amount`` of a payment back, named verbatim by its terminal's own id.

    ``whole`` leaves the amount out: then everything is taken back, also what was not captured yet.
    """
    amount = {} if whole else {"ReversedAmount": money.to_major(tx.amount)}
    sale = _sale(tx, at) | ({} if whole else {"SaleToAcquirerData": f"currency={tx.amount.currency}"})
    original = {"POITransactionID": {"TransactionID": original_id, "TimeStamp": original_at}}
    body = {"OriginalPOITransaction": original, "ReversalReason": "MerchantCancel", **amount, "SaleData": sale}
    return messages.request(tx.poi_id, tx.sale_id, category=REVERSAL, service_id=tx.service_id, body=body)


def payout_request(tx: Transaction, *, at: datetime) -> bytes:
    """Return the PaymentRequest that pays ``tx.amount`` to the card that the shopper presents."""
    amounts = {"Currency": tx.amount.currency, "RequestedAmount": money.to_major(tx.amount)}
    body = {
        "SaleData": _sale(tx, at),
        "PaymentTransaction": {"AmountsReq": amounts},
        "PaymentData": {"PaymentType": "Refund"},
    }
    return messages.request(tx.poi_id, tx.sale_id, category=PAYMENT, service_id=tx.service_id, body=body)


def status_request(tx: Transaction, *, category: str, service_id: str) -> bytes:
    """Return the question what became of a refund. ``service_id`` is the question's own."""
    reference = {"MessageCategory": category, "SaleID": tx.sale_id, "ServiceID": tx.service_id}
    body = {"ReceiptReprintFlag": False, "MessageReference": reference}
    return messages.request(tx.poi_id, tx.sale_id, category="TransactionStatus", service_id=service_id, body=body)


def _sale(tx: Transaction, at: datetime) -> dict[str, Any]:
    stamp = at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"SaleTransactionID": {"TransactionID": tx.reference, "TimeStamp": stamp}}


def read_refund_answer(status: int, body: bytes, tx: Transaction, *, category: str) -> Evidence:
    """Read the answer to our refund, which comes on the connection."""
    message = interpret.read_answer(Exchange.PAYMENT, status, body, tx, tx.service_id)
    if message is None:
        return interpret.missing(Exchange.PAYMENT, "ok-without-result", tx.service_id)
    if isinstance(message, Evidence):
        return message
    response = fields.mapping(message, f"{category}Response")
    if response is None:
        return interpret.missing(Exchange.PAYMENT, "foreign-json", tx.service_id)
    if not echoes(read_header(message), tx, service_id=tx.service_id, category=category):
        return interpret.missing(Exchange.PAYMENT, "wrong-echo", tx.service_id)
    found = _read(tx, category, Channel.CONNECTION, response)
    return interpret.missing(Exchange.PAYMENT, found, tx.service_id) if isinstance(found, str) else found


def read_refund_status(status: int, body: bytes, tx: Transaction, *, category: str, status_service_id: str) -> Evidence:
    """Read the answer to the status request with this ServiceID of its own."""
    read_nested = partial(_read, tx, category, Channel.STATUS)
    return interpret.read_status_answer(
        status, body, tx, status_service_id=status_service_id, category=category, read_nested=read_nested
    )


def _read(tx: Transaction, category: str, channel: Channel, response: Mapping[str, Any]) -> RefundReported | str:
    return _read_reversal(tx, channel, response) if category == REVERSAL else _read_payout(tx, channel, response)


def _read_reversal(tx: Transaction, channel: Channel, response: Mapping[str, Any]) -> RefundReported | str:
    """Its POITransactionID is the modification's PSP reference, alone or behind a dot; its amount proves nothing."""
    result = fields.word(response, "Response", "Result")
    if result is None:
        return "no-result"
    condition = fields.word(response, "Response", "ErrorCondition")
    additional = read_additional(fields.member(response, "Response", "AdditionalResponse"))
    failed = result == "Failure"
    named = None if failed else fields.text(response, "POIData", "POITransactionID", "TransactionID")
    tender, behind = split_poi_transaction_id(named) if named else (None, None)
    psp = behind or tender
    reason = additional.get("refusalReason", "message", "errors") if failed else None
    return RefundReported(
        channel=channel,
        result=result,
        error_condition=condition,
        psp_reference=psp and psp[:MAX_REFERENCE_CHARS],
        busy_with=read_busy_with(condition, additional),
        refusal_reason=reason and fields.without_long_numbers(reason),
        digest=fields.digest("reversal", channel, tx.poi_id, tx.sale_id, tx.service_id, result, condition, psp),
    )


def _read_payout(tx: Transaction, channel: Channel, response: Mapping[str, Any]) -> RefundReported | str:
    found: ResultReported | str = read_payment_response(response, tx, channel=channel)
    if isinstance(found, str):
        return found
    if fields.text(response, "PaymentResult", "PaymentType") not in {None, "Refund"}:
        return "not-a-refund"
    return RefundReported(
        channel=channel,
        result=found.result,
        error_condition=found.error_condition,
        amount=found.authorised,
        psp_reference=found.psp_reference,
        busy_with=found.busy_with,
        refusal_reason=found.refusal_reason,
        digest=found.digest,
    )
