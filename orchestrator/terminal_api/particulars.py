"""What a PaymentResponse says beside its result: amounts on top, conversion, card, signature.

For people and their books; nothing here decides about money but the sum of what is on top. Whatever cannot be read is
None, and what could be a card's number is never kept.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from orchestrator.model import Money
from orchestrator.terminal_api import fields, money
from orchestrator.terminal_api.additional import Additional

_NUMBER: Final = re.compile(r"[0-9]{1,7}(?:\.[0-9]{1,20})?", re.ASCII)
_LAST_FOUR: Final = re.compile(r"[0-9]{4}", re.ASCII)

# Amounts on top of the requested one: our field, member of AmountsResp, key of AdditionalResponse. No source has a key
# for a surcharge; this one follows the pattern of the others.
_EXTRAS: Final = (
    ("tip_minor", "TipAmount", "posAmountGratuityValue"),
    ("cashback_minor", "CashBackAmount", "posAmountCashbackValue"),
    ("surcharge_minor", "SurchargeAmount", "posAmountSurchargeValue"),
)

#: AdditionalResponse has words of its own for how a card was read; these are the ones of ``CardData.EntryMode``.
_ENTRY_MODES: Final[Mapping[str, str]] = {
    "ICC": "ICC",
    "MSR": "MagStripe",
    "MKE": "Keyed",
    "CLESS_CHIP": "Contactless",
    "CLESS_SWIPE": "Contactless",
    "BAR": "Scanned",
}

#: How a shopper signed, among the values of ``AuthenticationMethod``.
_SIGNED: Final = (("SignatureCapture", "captured"), ("PaperSignature", "required"))


def minor_units(major: object, currency: str) -> int | None:
    """Read an amount in major units; None when it is none."""
    try:
        return money.from_major(major, currency).minor
    except money.InvalidAmount:
        return None


def read_extras(response: Mapping[str, Any], additional: Additional, currency: str) -> dict[str, Any]:
    """Return what was paid on top, by field of ``ResultReported``, and its sum."""
    amounts = fields.member(response, "PaymentResult", "AmountsResp")
    extras: dict[str, int] = {}
    for name, member, key in _EXTRAS:
        minor = minor_units(fields.member(amounts, member), currency)
        if minor is None:
            minor = money.read_minor(additional.get(key))
        if minor:
            extras[name] = minor
    return {"extra_minor": sum(extras.values()), **extras}


def read_particulars(response: Mapping[str, Any], additional: Additional) -> dict[str, Any]:
    """Return what is known of card, approval, conversion and signature, by field of ``ResultReported``."""
    card = fields.mapping(response, "PaymentResult", "PaymentInstrumentData", "CardData")
    approval = fields.text(response, "PaymentResult", "PaymentAcquirerData", "ApprovalCode")
    return {
        "auth_code": _kept(approval or additional.get("authCode")),
        "card_brand": _kept(fields.text(card, "PaymentBrand") or additional.get("paymentMethod", "cardType")),
        "card_last4": _last4(card, additional),
        "card_entry_mode": _entry_mode(card, additional),
        "card_funding": _kept(additional.get("fundingSource")),
        "signature": _signature(response),
        **_conversion(response),
    }


def _kept(text: str | None) -> str | None:
    return None if text is None else fields.without_long_numbers(text)


def _number(text: str | None) -> str | None:
    return text if text is not None and _NUMBER.fullmatch(text) else None


def _last4(card: object, additional: Additional) -> str | None:
    last4 = additional.get("cardSummary") or (fields.text(card, "MaskedPan") or "")[-4:]
    return last4 if _LAST_FOUR.fullmatch(last4) else None


def _entry_mode(card: object, additional: Additional) -> str | None:
    modes = fields.member(card, "EntryMode")
    named = fields.text({"mode": modes[0] if isinstance(modes, list) and modes else modes}, "mode")
    said = additional.get("posEntryMode")
    return _kept(named or (said and _ENTRY_MODES.get(said, said)))


def _signature(response: Mapping[str, Any]) -> str | None:
    """Whether the shopper signed on the screen, or has to sign the cashier's receipt."""
    if fields.mapping(response, "PaymentResult", "CapturedSignature"):
        return "captured"
    methods = fields.member(response, "PaymentResult", "AuthenticationMethod")
    for method, word in _SIGNED:
        if isinstance(methods, list) and method in methods:
            return word
    receipts = fields.member(response, "PaymentReceipt")
    wanted = isinstance(receipts, list) and any(fields.flag(each, "RequiredSignatureFlag") for each in receipts)
    return "required" if wanted else None


def _conversion(response: Mapping[str, Any]) -> dict[str, Any]:
    """Read what the shopper was offered to pay in another currency; the merchant is paid in the requested one."""
    offers = fields.member(response, "PaymentResult", "CurrencyConversion")
    offer = offers[0] if isinstance(offers, list) and offers else offers
    currency = fields.text(offer, "ConvertedAmount", "Currency") or ""
    minor = minor_units(fields.member(offer, "ConvertedAmount", "AmountValue"), currency)
    if minor is None:
        return {}
    return {
        "dcc_amount": Money(currency, minor),
        "dcc_rate": _number(fields.text(offer, "Rate")),
        "dcc_markup": _number(fields.text(offer, "Markup")),
        "dcc_accepted": fields.flag(offer, "CustomerApprovedFlag"),
    }
