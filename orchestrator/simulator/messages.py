"""Bodies as terminals and the gateway write them. Plain functions from data to JSON objects."""

from __future__ import annotations

import base64
from decimal import Decimal

from orchestrator.simulator.encoding import AcquirerData, Json, decimals, now, reformatted, timestamp, to_form, to_major
from orchestrator.simulator.payment import Asked, Ending, Header, psp_reference
from orchestrator.simulator.receipts import receipts, reversal_receipts
from orchestrator.simulator.reversal import Reversal

NO_RESPONSE = "message=Did+not+receive+a+response+from+the+POI."
NOT_CONNECTED = (
    "message=Failed+to+send+message+to+POI.+There+may+be+a+network+issue+or+it+may+not+have+the+websocket+connected."
)
NOT_JSON = "message=Input+is+not+a+JSONObject"
EMPTY_INPUT = "message=Empty+input+which+would+have+resulted+in+a+null+result."
_RATE = Decimal("0.874431")
_AUTHENTICATION = {"": "OnlinePIN", "paper": "PaperSignature", "screen": "SignatureCapture"}
_PEN_UP = {"X": "FFFF", "Y": "FFFF"}
_SIGNATURE = {
    "AreaSize": {"X": "0140", "Y": "00F0"},
    "SignaturePoint": [
        {"X": "001A", "Y": "0033"},
        {"X": "001F", "Y": "0035"},
        _PEN_UP,
        {"X": "0040", "Y": "0050"},
        _PEN_UP,
    ],
}
_NO_REVERSAL = {"NotFound": "Original transaction not found", "Busy": "Busy"}
_NOWHERE = Header("N/A", "N/A", "", "Event")
_CARD = {
    "CardCountryCode": "826",
    "EntryMode": ["Contactless"],
    "MaskedPan": "541333 **** 9999",
    "PaymentBrand": "mc",
    "SensitiveCardData": {"CardSeqNumb": "00", "ExpiryDate": "0228"},
}
_CARD_FIELDS = {
    "cardScheme": "mc",
    "cardSummary": "9999",
    "cardType": "mc",
    "mid": "1000",
    "posEntryMode": "CLESS_CHIP",
}
_APPROVAL_FIELDS = {
    "AID": "A0000000041010",
    "acquirerAccountCode": "ExampleAcquirerAccount",
    "acquirerCode": "ExampleAcquirer",
    "acquirerResponseCode": "APPROVED",
    "applicationLabel": "Mastercard",
    "authCode": "123456",
    "avsResult": "0 Unknown",
    "backendGiftcardIndicator": "false",
    "batteryLevel": "78%",
    "cardBin": "541333",
    "cardHolderName": "TEST/CARD",
    "cardIssuerCountryId": "826",
    "expiryDate": "2/2028",
    "expiryMonth": "02",
    "expiryYear": "2028",
    "fundingSource": "CREDIT",
    "giftcardIndicator": "false",
    "issuerCountry": "GB",
    "paymentMethod": "mc",
    "paymentMethodVariant": "mc",
    "shopperCountry": "NL",
    "transactionType": "GOODS_SERVICES",
}


def header(head: Header, message_type: str = "Response") -> Json:
    """A MessageHeader in a terminal's order."""
    return {
        "ProtocolVersion": "3.0",
        "MessageClass": head.message_class,
        "MessageCategory": head.category,
        "MessageType": message_type,
        "SaleID": head.sale_id,
        "ServiceID": head.service_id,
        "POIID": head.poi_id,
    }


def response(head: Header, body: Json) -> Json:
    """A SaleToPOIResponse to the request with this header."""
    return {"SaleToPOIResponse": {"MessageHeader": header(head), f"{head.category}Response": body}}


def failure(head: Header, condition: str, additional: str) -> Json:
    """A response with `Response` alone, as early failures have it."""
    return response(
        head, {"Response": {"Result": "Failure", "ErrorCondition": condition, "AdditionalResponse": additional}}
    )


def terminal_unreachable(head: Header) -> Json:
    """The gateway's answer for a terminal that it cannot reach; `+` for spaces, as the gateway writes."""
    return failure(head, "UnreachableHost", "message=Terminal+is+not+reachable")


def payment_body(asked: Asked, ending: Ending, merchant: str) -> Json:
    """The PaymentResponse object."""
    fields = _additional(asked, ending) | asked.acquirer.metadata
    said: Json = {"Result": ending.result}
    if ending.error_condition:
        said["ErrorCondition"] = ending.error_condition
    said["AdditionalResponse"] = asked.acquirer.reply(fields)
    if ending.bare:
        return {"Response": said}
    both = f"{ending.tender_reference}.{ending.psp_reference}".rstrip(".")
    body: Json = {
        "POIData": {
            "POIReconciliationID": "1000",
            "POITransactionID": {"TimeStamp": ending.ended_at, "TransactionID": both},
        },
        "SaleData": {
            "SaleTransactionID": {"TimeStamp": reformatted(asked.sale_timestamp), "TransactionID": asked.reference}
        },
        "Response": said,
    }
    if ending.error_condition not in ("Busy", "NotAllowed"):
        body["PaymentResult"] = _payment_result(asked, ending, merchant)
    if ending.psp_reference or ending.error_condition == "Cancel":
        body["PaymentReceipt"] = receipts(asked, ending)
    return body


def payment_response(asked: Asked, ending: Ending, merchant: str) -> Json:
    """The whole answer to a PaymentRequest."""
    return response(asked.header, payment_body(asked, ending, merchant))


def _additional(asked: Asked, ending: Ending) -> dict[str, str]:
    if ending.is_charge:
        return _approval_fields(asked, ending)
    fields: dict[str, str] = {}
    if ending.psp_reference:
        fields |= _CARD_FIELDS | _psp_fields(ending)
    fields["message"] = ending.message
    if ending.refusal_reason:
        fields["refusalReason"] = ending.refusal_reason
        if ending.psp_reference:
            fields["refusalReasonRaw"] = ending.refusal_reason
    if ending.blocker:
        fields["serviceId"] = ending.blocker
    if not ending.bare and ending.error_condition not in ("Busy", "NotAllowed"):
        fields["tid"] = _tid(asked)
    return fields


def _approval_fields(asked: Asked, ending: Ending) -> dict[str, str]:
    day, _, time = ending.ended_at.partition("T")
    year, month, date = day.split("-")
    fields = _APPROVAL_FIELDS | _CARD_FIELDS | _psp_fields(ending)
    fields |= {
        "iso8601TxDate": ending.ended_at,
        "merchantReference": asked.reference,
        "offline": "false" if ending.online else "true",
        "posAmountCashbackValue": str(ending.cashback_minor),
        "posAmountGratuityValue": str(ending.tip_minor),
        "posAuthAmountCurrency": asked.currency,
        "posAuthAmountValue": str(ending.authorised_minor),
        "posOriginalAmountValue": str(asked.amount_minor),
        "posadditionalamounts.originalAmountCurrency": asked.currency,
        "posadditionalamounts.originalAmountValue": str(asked.amount_minor),
        "refusalReasonRaw": ending.refusal_reason or "APPROVED",
        "tid": _tid(asked),
        "txdate": f"{date}-{month}-{year}",
        "txtime": time[:8],
    }
    if ending.surcharge_minor:
        fields["posAmountSurchargeValue"] = str(ending.surcharge_minor)
    if asked.payment_type == "Refund":
        fields["transactionType"] = "REFUND"
    return dict(sorted((fields | _token_fields(asked, ending)).items()))


def _token_fields(asked: Asked, ending: Ending) -> dict[str, str]:
    """The stored card, when the till asked for one and named whose it is."""
    shopper = asked.acquirer.fields.get("shopperReference", "")
    if not asked.token_requested or not shopper:
        return {}
    token = _token(ending)
    return {
        "recurring.recurringDetailReference": token,
        "recurring.shopperReference": shopper,
        "tokenization.shopperReference": shopper,
        "tokenization.store.operationType": "created",
        "tokenization.storedPaymentMethodReference": token,
    }


def _token(ending: Ending) -> str:
    return psp_reference(f"token:{ending.psp_reference}")


def _psp_fields(ending: Ending) -> dict[str, str]:
    return {"pspReference": ending.psp_reference, "transactionReferenceNumber": ending.psp_reference}


def _tid(asked: Asked) -> str:
    return asked.poi_id[-8:]


def _payment_result(asked: Asked, ending: Ending, merchant: str) -> Json:
    acquirer: Json = {"AcquirerPOIID": asked.poi_id, "MerchantID": merchant}
    if ending.psp_reference:
        acquirer["AcquirerTransactionID"] = {"TimeStamp": ending.ended_at, "TransactionID": ending.psp_reference}
    result: Json = {
        "MerchantOverrideFlag": False,
        "OnlineFlag": ending.online,
        "PaymentType": asked.payment_type,
        "AuthenticationMethod": [_AUTHENTICATION[ending.signature]] if ending.psp_reference else [],
    }
    if ending.is_charge:
        result["AmountsResp"] = _amounts(asked, ending)
        acquirer["ApprovalCode"] = "123456"
    card: Json = dict(_CARD) if ending.psp_reference else {}
    if ending.is_charge and _token_fields(asked, ending):
        card["PaymentToken"] = {"TokenRequestedType": asked.token_requested, "TokenValue": _token(ending)}
    if ending.converts:
        result["CurrencyConversion"] = [_conversion(asked, ending)]
    if ending.signature == "screen":
        result["CapturedSignature"] = _SIGNATURE
    result["PaymentAcquirerData"] = acquirer
    result["PaymentInstrumentData"] = {"PaymentInstrumentType": "Card", "CardData": card}
    return result


def _amounts(asked: Asked, ending: Ending) -> Json:
    amounts: Json = {
        "AuthorizedAmount": to_major(ending.authorised_minor, asked.currency),
        "Currency": asked.currency,
    }
    if ending.tip_minor:
        amounts["TipAmount"] = to_major(ending.tip_minor, asked.currency)
    if ending.cashback_minor:
        amounts["CashBackAmount"] = to_major(ending.cashback_minor, asked.currency)
    if ending.surcharge_minor:
        amounts["TotalFeesAmount"] = to_major(ending.surcharge_minor, asked.currency)
    return amounts


def _conversion(asked: Asked, ending: Ending) -> Json:
    """What the shopper pays in pounds; the merchant is paid in the requested currency."""
    major = Decimal(ending.authorised_minor).scaleb(-decimals(asked.currency)) * _RATE
    return {
        "ConvertedAmount": {"AmountValue": float(round(major, decimals("GBP"))), "Currency": "GBP"},
        "CustomerApprovedFlag": True,
        "Markup": "3.5",
        "Rate": float(_RATE),
    }


def reversal_body(reversal: Reversal) -> Json:
    """The ReversalResponse object. Success says that the refund was received, nothing more."""
    asked, condition = reversal.asked, reversal.error_condition
    original = {"TransactionID": asked.original_id, "TimeStamp": asked.original_at}
    body: Json = {"OriginalPOITransaction": {"POITransactionID": original}}
    acquirer = AcquirerData.parse(asked.acquirer_data)
    if condition:
        said = acquirer.reply({"message": _NO_REVERSAL.get(condition, "Reversal not allowed")})
        return {"Response": {"Result": "Failure", "ErrorCondition": condition, "AdditionalResponse": said}} | body
    said = acquirer.reply({"store": "ExampleStore", "currency": reversal.currency})
    own = {"TimeStamp": reversal.answered_at, "TransactionID": reversal.psp_reference}
    body |= {
        "Response": {"Result": "Success", "AdditionalResponse": said},
        "POIData": {"POITransactionID": own},
        "PaymentReceipt": reversal_receipts(reversal),
    }
    if asked.amount_minor is not None:
        body["ReversedAmount"] = to_major(reversal.amount_minor, reversal.currency)
    return body


def status_reference(about: Header) -> Json:
    """The MessageReference of an answer about this request."""
    return {"MessageCategory": about.category, "SaleID": about.sale_id, "ServiceID": about.service_id}


def repeated(head: Header, about: Header, answer: Json) -> Json:
    """The status answer that repeats how a payment ended, or what a reversal was answered."""
    return response(
        head,
        {
            "Response": {"Result": "Success"},
            "MessageReference": status_reference(about),
            "RepeatedMessageResponse": {
                "MessageHeader": header(about),
                "RepeatedResponseMessageBody": {f"{about.category}Response": answer},
            },
        },
    )


def in_progress(head: Header) -> Json:
    """The status answer for a payment that has not ended."""
    return failure(head, "InProgress", to_form({"message": "Uncompleted transaction"}))


def not_found(head: Header, category: str, last: Header | None) -> Json:
    """The status answer for a request that the terminal does not know; it names the latest payment that it does."""
    text = f"Message not found. Category={category}"
    if last is not None:
        text += f", last such Request has SaleID={last.sale_id} ServiceID={last.service_id}"
    return failure(head, "NotFound", to_form({"message": text}))


def diagnosis(head: Header, global_status: str) -> Json:
    """The DiagnosisResponse; the status is `OK`, `Busy`, `Maintenance` or, without its host, `Unreachable`."""
    has_host = global_status != "Unreachable"
    return response(
        head,
        {
            "Response": {"Result": "Success", "AdditionalResponse": "batteryLevel=78%25&unconfirmedBatchCount=0"},
            "LoggedSaleID": [],
            "POIStatus": {"GlobalStatus": global_status, "CommunicationOKFlag": has_host, "PrinterStatus": "OK"},
            "HostStatus": [{"IsReachableFlag": has_host, "AcquirerID": "Adyen"}],
        },
    )


def reject(head: Header | None, details: str, rejected: bytes) -> Json:
    """The Reject event: the request wrapper around a failure, with HTTP 200."""
    event = header(head or _NOWHERE, "Notification") | {"MessageClass": "Event", "MessageCategory": "Event"}
    event["DeviceID"] = "1482763301"
    if head is None:
        del event["ServiceID"]
    notification = {
        "EventToNotify": "Reject",
        "EventDetails": details,
        "RejectedMessage": base64.b64encode(rejected).decode(),
        "TimeStamp": timestamp(now()),
    }
    return {"SaleToPOIRequest": {"MessageHeader": event, "EventNotification": notification}}


def crypto_error(head: Header) -> Json:
    """What a terminal answers, with HTTP 401, to a message that its keys do not open."""
    return {"errors": ["Nexo Service: crypto error"], "ServiceID": head.service_id}


def display(about: Header, tender_reference: str, event: str) -> Json:
    """A display notification of this step of a payment."""
    head = header(about, "Request") | {"MessageClass": "Device", "MessageCategory": "Display", "DeviceID": "1234567890"}
    details = to_form({"TransactionID": tender_reference, "TimeStamp": timestamp(now()), "event": event})
    output = {
        "Device": "CashierDisplay",
        "InfoQualify": "Status",
        "ResponseRequiredFlag": False,
        "OutputContent": {"OutputFormat": "MessageRef", "PredefinedContent": {"ReferenceID": details}},
    }
    return {"SaleToPOIRequest": {"MessageHeader": head, "DisplayRequest": {"DisplayOutput": [output]}}}


def event(poi_id: str, name: str, details: str) -> Json:
    """An event notification: what a terminal reports beside any payment."""
    head = header(Header(poi_id, "null", "", "Event", "Event"), "Notification") | {"DeviceID": "77"}
    del head["ServiceID"]
    said: Json = {"TimeStamp": timestamp(now()), "EventToNotify": name}
    if details:
        said["EventDetails"] = details
    if name == "BeginMaintenance":
        said["MaintenanceRequiredFlag"] = True
    return {"SaleToPOIRequest": {"MessageHeader": head, "EventNotification": said}}


def invalid_merchant() -> Json:
    """The legacy API's error for a merchant account that the key may not use."""
    return {"status": 403, "errorCode": "901", "message": "Invalid Merchant Account", "errorType": "security"}


def problem(status: int, title: str, detail: str = "", **more: object) -> Json:
    """The device API's error body."""
    slug = {401: "unauthorized", 403: "forbidden", 422: "validation"}.get(status, "error")
    body: Json = {"type": f"https://docs.adyen.com/errors/{slug}", "title": title, "status": status}
    if detail:
        body["detail"] = detail
    return body | {"errorCode": f"00_{status}"} | more
