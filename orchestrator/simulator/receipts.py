"""The two receipts of a payment or a reversal: form-encoded lines, to be printed in the order given."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from orchestrator.simulator.encoding import Json, decimals, to_form
from orchestrator.simulator.payment import Asked, Ending
from orchestrator.simulator.reversal import Reversal

_COPIES = (
    ("CashierReceipt", "merchantTitle", "MERCHANT COPY"),
    ("CustomerReceipt", "cardholderHeader", "CARDHOLDER COPY"),
)
_SIGNS = {"EUR": "€", "GBP": "£", "USD": "$"}
_NO_BREAK_SPACE = "\N{NO-BREAK SPACE}"


@dataclass(frozen=True, slots=True)
class _Sale:
    """What the lines are about. `at` is ISO 8601; `amounts` are labelled, in minor units, the total last."""

    at: str
    poi_id: str
    reference: str
    tender_reference: str
    currency: str
    amounts: tuple[tuple[str, int], ...]
    outcome: tuple[tuple[str, str], ...]
    """Key and text of the lines that say what became of it."""
    type: str = "GOODS_SERVICES"
    must_sign: bool = False


def receipts(asked: Asked, ending: Ending) -> list[Json]:
    """Cashier's and customer's copy of a payment or an unreferenced refund."""
    outcome = ("approved", "APPROVED") if ending.is_charge else ("refused", "REFUSED")
    extras = (("Tip", ending.tip_minor), ("Cashback", ending.cashback_minor), ("Surcharge", ending.surcharge_minor))
    return _both(
        _Sale(
            ending.ended_at,
            asked.poi_id,
            asked.reference,
            ending.tender_reference,
            asked.currency,
            (*((label, minor) for label, minor in extras if minor), ("TOTAL", ending.authorised_minor)),
            (outcome,),
            "REFUND" if asked.payment_type == "Refund" else "GOODS_SERVICES",
            must_sign=ending.signature == "paper",
        )
    )


def reversal_receipts(reversal: Reversal) -> list[Json]:
    """Cashier's and customer's copy of a refund that was received."""
    asked = reversal.asked
    return _both(
        _Sale(
            reversal.answered_at,
            asked.poi_id,
            reversal.original_reference,
            asked.original_id.partition(".")[0],
            reversal.currency,
            (("TOTAL", reversal.amount_minor),),
            (("void", "*VOID REQUESTED*"), ("approved", "APPROVED")),
        )
    )


def _both(sale: _Sale) -> list[Json]:
    return [_receipt(sale, *copy) for copy in _COPIES]


def _receipt(sale: _Sale, qualifier: str, title_key: str, title: str) -> Json:
    must_sign = sale.must_sign and qualifier == "CashierReceipt"
    return {
        "DocumentQualifier": qualifier,
        "RequiredSignatureFlag": must_sign,
        "OutputContent": {"OutputFormat": "Text", "OutputText": list(_lines(sale, title_key, title, must_sign))},
    }


def _lines(sale: _Sale, title_key: str, title: str, must_sign: bool) -> Iterator[Json]:
    day, _, time = sale.at.partition("T")
    year, month, date = day.split("-")
    tid = sale.poi_id[-8:]
    yield _line("header1", bold=True)
    yield _line("header2", "Example Store Amsterdam", bold=True)
    yield _line(title_key, title, bold=True)
    yield _line("filler")
    yield _line("txdate", "Date", f"{date}/{month}/{year}")
    yield _line("txtime", "Time", time[:8])
    yield _line("filler")
    yield _line("pan", "Card", "************9999")
    yield _line("panSeq", "PAN seq.", "00")
    yield _line("cardType", "Card type", "mc")
    yield _line("paymentMethod", "Payment method", "mc")
    yield _line("posEntryMode", "Entry mode", "Contactless chip")
    yield _line("filler")
    yield _line("aid", "AID", "A0000000041010")
    yield _line("mid", "MID", "1000")
    yield _line("tid", "TID", tid)
    yield _line("ptid", "PTID", tid)
    yield _line("filler")
    yield _line("authCode", "Auth. code", "123456")
    yield _line("txRef", "Tender", sale.tender_reference)
    yield _line("mref", "Reference", sale.reference)
    yield _line("filler")
    yield _line("txtype", "Type", sale.type)
    *extras, (label, total_minor) = sale.amounts
    for name, minor in extras:
        yield _line(name.lower(), name, _amount(minor, sale.currency))
    yield _line("totalAmount", label, _amount(total_minor, sale.currency), bold=True)
    yield _line("filler")
    if must_sign:
        yield _line("sigline", "Signature")
    for key, text in sale.outcome:
        yield _line(key, text, bold=True)
    yield _line("retain", "Please retain for your records")
    yield _line("thanks", "Thank you")


def _amount(minor: int, currency: str) -> str:
    places = decimals(currency)
    return f"{_SIGNS.get(currency, currency)}{_NO_BREAK_SPACE}{minor / 10**places:.{places}f}"


def _line(key: str, label: str = "", value: str = "", *, bold: bool = False) -> Json:
    parts = {name: text for name, text in (("name", label), ("value", value)) if text}
    line: Json = {"Text": to_form(parts | {"key": key}), "EndOfLineFlag": True}
    return line | {"CharacterStyle": "Bold"} if bold else line
