"""Read one PaymentResponse: is it the answer to our request, and what does it say.

Nothing is concluded here; Result and ErrorCondition go on verbatim.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.cards import mask_card_numbers
from orchestrator.evidence import Channel, ResultReported
from orchestrator.model import Money, Transaction
from orchestrator.terminal_api import fields, money
from orchestrator.terminal_api.additional import Additional, read_additional, split_poi_transaction_id
from orchestrator.terminal_api.particulars import minor_units, read_extras, read_particulars

POSITIVE_RESULTS = frozenset({"Success", "Partial"})

#: Four times the platform's own; a row holds no more, and a result must not be lost to the length of its names.
MAX_REFERENCE_CHARS = 64
SERVICE_ID_CHARS_MAX = 10  # the protocol's


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """A MessageHeader's identifiers, each None where it is missing."""

    poi_id: str | None
    sale_id: str | None
    service_id: str | None
    category: str | None
    type: str | None


def read_header(message: object) -> Header:
    """Read the MessageHeader of a message's content. Placeholders such as ``N/A`` and ``null`` count as missing."""
    header = fields.member(message, "MessageHeader")
    return Header(
        poi_id=_identifier(header, "POIID"),
        sale_id=_identifier(header, "SaleID"),
        service_id=_identifier(header, "ServiceID"),
        category=fields.text(header, "MessageCategory"),
        type=fields.text(header, "MessageType"),
    )


def _identifier(header: object, name: str) -> str | None:
    found = fields.text(header, name)
    return None if found in {"N/A", "null"} else found


def echoes(header: Header, tx: Transaction, *, service_id: str, category: str) -> bool:
    """Whether this header answers our request: the identifiers all there and all equal."""
    return header == Header(
        poi_id=tx.poi_id, sale_id=tx.sale_id, service_id=service_id, category=category, type="Response"
    )


def read_payment_response(
    response: Mapping[str, Any],
    tx: Transaction,
    *,
    channel: Channel,
    authentic: Callable[[Additional], bool] = lambda _: True,
) -> ResultReported | str:
    """Return what the response says about this transaction, or a slug for why it is no usable answer.

    The caller has checked the header. ``authentic`` judges by the echoed metadata.
    """
    result = fields.word(response, "Response", "Result")
    reference = fields.text(response, "SaleData", "SaleTransactionID", "TransactionID")
    additional = read_additional(fields.member(response, "Response", "AdditionalResponse"))
    if result is None:
        return "no-result"
    if reference not in {None, tx.reference}:
        return "wrong-echo"
    if _currency(response, additional) not in {None, tx.amount.currency}:
        return "other-currency"
    authorised = _authorised(response, additional, tx.amount.currency) if result in POSITIVE_RESULTS else None
    if result in POSITIVE_RESULTS and authorised is None:
        return "amount-missing"
    return _result(
        response,
        additional,
        tx,
        result,
        authorised=authorised,
        channel=channel,
        authentic=authentic(additional),
    )


def _result(
    response: Mapping[str, Any],
    additional: Additional,
    tx: Transaction,
    result: str,
    *,
    authorised: Money | None,
    channel: Channel,
    authentic: bool,
) -> ResultReported:
    condition = fields.word(response, "Response", "ErrorCondition")
    poi_transaction_id = fields.text(response, "POIData", "POITransactionID", "TransactionID")
    stamp = fields.text(response, "POIData", "POITransactionID", "TimeStamp")
    tender, psp = _references(response, additional, poi_transaction_id)
    return ResultReported(
        channel=channel,
        authentic=authentic,
        result=result,
        error_condition=condition,
        authorised=authorised,
        **(read_extras(response, additional, tx.amount.currency) if authorised else {}),
        psp_reference=psp,
        tender_reference=tender,
        poi_transaction_id=poi_transaction_id,
        poi_transaction_at=stamp and mask_card_numbers(stamp),
        online=_online(response, additional),
        busy_with=read_busy_with(condition, additional),
        refusal_reason=_refusal_reason(additional, result),
        **read_particulars(response, additional),
        receipts=fields.member(response, "PaymentReceipt"),
        digest=fields.digest(
            "result", channel, authentic, tx.poi_id, tx.sale_id, tx.service_id, result, condition, psp, tender,
            authorised.currency if authorised else None, authorised.minor if authorised else None,
        ),
    )  # fmt: skip


def read_busy_with(condition: str | None, additional: Additional) -> str | None:
    """Return the ServiceID that a Busy answer names as the running one; None for what is too long to be one."""
    named = additional.get("serviceId") if condition == "Busy" else None
    return named if named and len(named) <= SERVICE_ID_CHARS_MAX else None


def _currency(response: Mapping[str, Any], additional: Additional) -> str | None:
    named = fields.text(response, "PaymentResult", "AmountsResp", "Currency")
    return named or additional.get("posAuthAmountCurrency")


def _authorised(response: Mapping[str, Any], additional: Additional, currency: str) -> Money | None:
    """Return the authorised amount, or None when no place names it readably."""
    stated = fields.member(response, "PaymentResult", "AmountsResp", "AuthorizedAmount")
    if (minor := minor_units(stated, currency)) is None:
        if additional.get("posAuthAmountCurrency") not in {None, currency}:
            return None
        minor = money.read_minor(additional.get("posAuthAmountValue"))
    return None if minor is None else Money(currency, minor)


def _references(
    response: Mapping[str, Any], additional: Additional, poi_transaction_id: str | None
) -> tuple[str | None, str | None]:
    """Return the tender reference and the PSP reference, from the first place that names each."""
    tender, psp = split_poi_transaction_id(poi_transaction_id) if poi_transaction_id else (None, None)
    acquirer = fields.text(response, "PaymentResult", "PaymentAcquirerData", "AcquirerTransactionID", "TransactionID")
    psp = psp or acquirer or additional.get("pspReference", "transactionReferenceNumber")
    tender = tender or additional.get("tenderReference")
    return tender and tender[:MAX_REFERENCE_CHARS], psp and psp[:MAX_REFERENCE_CHARS]


def _online(response: Mapping[str, Any], additional: Additional) -> bool | None:
    """Whether the issuer was asked. Offline as soon as one place says so: that money is not certain yet."""
    if additional.get("offline") == "true":
        return False
    return fields.flag(response, "PaymentResult", "OnlineFlag")


def _refusal_reason(additional: Additional, result: str) -> str | None:
    if result in POSITIVE_RESULTS:
        return None
    reason = additional.get("refusalReason", "message", "errors")
    return None if reason is None else fields.without_long_numbers(reason)
