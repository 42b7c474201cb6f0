"""The requests that we send, as bytes."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from orchestrator.errors import LocalProtocolError
from orchestrator.model import Transaction
from orchestrator.terminal_api import money, strict_json
from orchestrator.terminal_api.acquirer_data import ApplicationInfo, encode
from orchestrator.terminal_api.tag import METADATA_NAME

PROTOCOL_VERSION = "3.0"
_SERVICE_ID = re.compile(r"[0-9A-Za-z]{1,10}", re.ASCII)  # documentation of the MessageHeader
_MAX_REFERENCE_CHARS = 80  # of merchantReference
_RECEIPT_HANDLER = "ReceiptHandler"  # the till prints; a terminal without a printer can fail payments otherwise

# A submission's names, and the wire's.
_SALE_DATA = (
    ("operator_id", "OperatorID"),
    ("operator_language", "OperatorLanguage"),
    ("shift_number", "ShiftNumber"),
    ("sale_reference_id", "SaleReferenceID"),
)
_SHOPPER = (
    ("shopper_reference", "shopperReference"),
    ("recurring_processing_model", "recurringProcessingModel"),
)


def payment_request(
    tx: Transaction,
    *,
    at: datetime,
    tag: str,
    application: ApplicationInfo,
    options: Mapping[str, Any],
    till_prints: bool = False,
) -> bytes:
    """Return the PaymentRequest of this transaction. ``at`` is when the sale was made, ``tag`` our own mark.

    ``options`` are the submission's, by its own names. ``till_prints`` has the terminal leave receipts to the till.
    """
    if not 1 <= len(tx.reference) <= _MAX_REFERENCE_CHARS:
        raise LocalProtocolError("a reference has 1 to 80 characters")
    if at.tzinfo is None:
        raise LocalProtocolError("a time needs its zone")
    return request(
        tx.poi_id,
        tx.sale_id,
        category="Payment",
        service_id=tx.service_id,
        body={
            "SaleData": {
                "SaleTransactionID": {
                    "TransactionID": tx.reference,
                    "TimeStamp": at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
                },
                **{member: options[name] for name, member in _SALE_DATA if options.get(name)},
                **({"TokenRequestedType": "Customer"} if options.get("recurring_processing_model") else {}),
                "SaleToAcquirerData": encode(_acquirer_data(tag, application, options, till_prints=till_prints)),
            },
            "PaymentTransaction": {
                "AmountsReq": {"Currency": tx.amount.currency, "RequestedAmount": money.to_major(tx.amount)}
            },
        },
    )


def status_request(tx: Transaction, *, service_id: str) -> bytes:
    """Return the question what became of this transaction, with the receipts. ``service_id`` is the question's own."""
    return request(
        tx.poi_id,
        tx.sale_id,
        category="TransactionStatus",
        service_id=service_id,
        body={
            "ReceiptReprintFlag": True,
            "DocumentQualifier": ["CashierReceipt", "CustomerReceipt"],
            "MessageReference": _reference(tx),
        },
    )


def abort_request(tx: Transaction, *, service_id: str) -> bytes:
    """Return the wish to stop this transaction. ``service_id`` is the wish's own."""
    body = {"AbortReason": "MerchantAbort", "MessageReference": _reference(tx)}
    return request(tx.poi_id, tx.sale_id, category="Abort", service_id=service_id, body=body)


def diagnosis_request(poi_id: str, sale_id: str, *, service_id: str) -> bytes:
    """Return the question how a terminal is; of the platform behind it nothing is asked."""
    return request(poi_id, sale_id, category="Diagnosis", service_id=service_id, body={"HostDiagnosisFlag": False})


def _reference(tx: Transaction) -> dict[str, str]:
    return {"MessageCategory": "Payment", "SaleID": tx.sale_id, "ServiceID": tx.service_id}


def request(poi_id: str, sale_id: str, *, category: str, service_id: str, body: Mapping[str, Any]) -> bytes:
    """Return a request of this category, such as ``Payment``, from our till to a terminal."""
    if not _SERVICE_ID.fullmatch(service_id):
        raise LocalProtocolError("a ServiceID has 1 to 10 letters and digits")
    if not sale_id or not poi_id:
        raise LocalProtocolError("a request names its till and its terminal")
    header = {
        "ProtocolVersion": PROTOCOL_VERSION,
        "MessageClass": "Service",
        "MessageCategory": category,
        "MessageType": "Request",
        "SaleID": sale_id,
        "ServiceID": service_id,
        "POIID": poi_id,
    }
    return strict_json.dumps({"SaleToPOIRequest": {"MessageHeader": header, f"{category}Request": body}})


def _acquirer_data(
    mark: str, application: ApplicationInfo, options: Mapping[str, Any], *, till_prints: bool
) -> dict[str, str | None]:
    metadata = options.get("metadata", {})
    if METADATA_NAME in metadata:
        raise LocalProtocolError("nobody else writes our tag")
    tender_options = [*options.get("tender_options", ()), *([_RECEIPT_HANDLER] if till_prints else [])]
    return {
        "tenderOption": ",".join(dict.fromkeys(tender_options)),
        **{member: options.get(name) for name, member in _SHOPPER},
        **application.members(),
        **{f"metadata.{name}": value for name, value in metadata.items()},
        f"metadata.{METADATA_NAME}": mark,
    }
