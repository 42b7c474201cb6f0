"""One payment as a terminal sees it: what was asked, what the verdict is, and how it ended.

`Asked` and `Ending` are plain data that the ledger holds, so that a restarted simulator remembers
what a terminal would.
"""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from typing import Any

from orchestrator.simulator.encoding import AcquirerData, Json, as_object, now, timestamp, to_minor

# Source: RequestedAmount in github.com/Adyen/adyen-openapi json/TerminalAPI-v1.json
_LARGEST_MAJOR = Decimal("99999999.999999")
# Source of both: https://docs.adyen.com/point-of-sale/pos-timeouts
CLOUD_WINDOW_S = 150.0
LOCAL_WINDOW_S = 120.0
_REFERENCE_ALPHABET = "BCDFGHJKLMNPQRSTVWXZ23456789"
_REFERENCE_LENGTH = 16  # a PSP reference has 16 characters


class BadMessageError(Exception):
    """The request lacks something; the text is as the terminal's `errors` would name it."""


@dataclass(frozen=True, slots=True)
class Header:
    """The MessageHeader members that matter here."""

    poi_id: str
    sale_id: str
    service_id: str
    category: str
    message_class: str = "Service"

    @property
    def key(self) -> tuple[str, str]:
        """What a terminal remembers a request by."""
        return (self.sale_id, self.service_id)


@dataclass(frozen=True, slots=True)
class Asked:
    """What a PaymentRequest asked for. Amounts in minor units; `acquirer_data` as it came."""

    poi_id: str
    sale_id: str
    service_id: str
    reference: str
    sale_timestamp: str
    currency: str
    amount_minor: int
    payment_type: str = "Normal"
    acquirer_data: str = ""
    tip_minor: int = 0
    """The till's own tip, which the amount includes; so does it `cashback_minor`."""
    cashback_minor: int = 0
    token_requested: str = ""
    """`Customer` or `Transaction`."""

    @classmethod
    def parse(cls, header: Header, body: Json) -> Asked:
        """Read a PaymentRequest; BadMessageError names the member that is missing or wrong."""
        sale = _member(body, "SaleData.SaleTransactionID")
        amounts = _member(body, "PaymentTransaction.AmountsReq")
        currency, requested = str(amounts.get("Currency", "")), amounts.get("RequestedAmount")
        if isinstance(requested, bool) or not isinstance(requested, int | Decimal):
            raise BadMessageError(_at("PaymentTransaction.AmountsReq", "RequestedAmount", "Missing or invalid"))
        if not 0 <= requested <= _LARGEST_MAJOR:
            raise BadMessageError(_at("PaymentTransaction.AmountsReq", "RequestedAmount", "Missing or invalid"))
        if len(currency) != len("EUR"):
            raise BadMessageError(_at("PaymentTransaction.AmountsReq", "Currency", "Missing"))
        if not sale.get("TransactionID"):
            raise BadMessageError(_at("SaleData.SaleTransactionID", "TransactionID", "Missing"))
        try:
            amount_minor = to_minor(Decimal(requested), currency)
        except ValueError as error:
            raise BadMessageError(
                _at("PaymentTransaction.AmountsReq", "RequestedAmount", "Too many decimals")
            ) from error
        return cls(
            header.poi_id,
            header.sale_id,
            header.service_id,
            reference=str(sale["TransactionID"]),
            sale_timestamp=str(sale.get("TimeStamp", "")),
            currency=currency,
            amount_minor=amount_minor,
            payment_type=str(as_object(body.get("PaymentData")).get("PaymentType", "Normal")),
            acquirer_data=str(body["SaleData"].get("SaleToAcquirerData") or ""),
            tip_minor=_part_minor(amounts, "TipAmount", currency),
            cashback_minor=_part_minor(amounts, "CashBackAmount", currency),
            token_requested=str(body["SaleData"].get("TokenRequestedType") or ""),
        )

    @property
    def acquirer(self) -> AcquirerData:
        """SaleToAcquirerData, parsed."""
        return AcquirerData.parse(self.acquirer_data)

    @property
    def header(self) -> Header:
        """The header of the request."""
        return Header(self.poi_id, self.sale_id, self.service_id, "Payment")


def _part_minor(amounts: Json, name: str, currency: str) -> int:
    """A part of the requested amount, in minor units; 0 when it is not named."""
    part = amounts.get(name, 0)
    is_number = isinstance(part, int | Decimal) and not isinstance(part, bool)
    if not is_number or not 0 <= part <= amounts["RequestedAmount"]:
        raise BadMessageError(_at("PaymentTransaction.AmountsReq", name, "Invalid"))
    try:
        return to_minor(Decimal(part), currency)
    except ValueError as error:
        raise BadMessageError(_at("PaymentTransaction.AmountsReq", name, "Too many decimals")) from error


def _member(body: Json, path: str) -> Json:
    found: Any = body
    for name in path.split("."):
        found = found.get(name) if isinstance(found, dict) else None
    if not isinstance(found, dict):
        parent, _, name = path.rpartition(".")
        raise BadMessageError(_at(parent, name, "Missing"))
    return found


def _at(parent: str, name: str, fault: str) -> str:
    return f"At SaleToPOIRequest.PaymentRequest.{parent}, field {name}: {fault}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What will become of a payment, before it is known for which amount.

    `share_percent` of the requested amount is approved; tip, cashback and surcharge come on top. `asked_host` says
    whether the platform was asked at all: only then is there a PSP reference.
    """

    result: str
    error_condition: str = ""
    message: str = ""
    refusal_reason: str = ""
    asked_host: bool = True
    share_percent: int = 100
    tip_percent: int = 0
    cashback_percent: int = 0
    surcharge_percent: int = 0
    converts: bool = False
    """The shopper chose to pay in the card's own currency."""
    signature: str = ""
    """`paper` or `screen`."""
    online: bool = True
    bare: bool = False
    """The answer has `Response` alone, as early failures have."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a payment ended, as the ledger holds it.

    `authorised_minor` includes tip, cashback and surcharge, and is 0 without a charge.
    """

    result: str
    error_condition: str
    message: str
    refusal_reason: str
    authorised_minor: int
    tip_minor: int
    tender_reference: str
    psp_reference: str
    online: bool
    bare: bool
    ended_at: str
    blocker: str = ""
    """ServiceID of the dialogue that kept the terminal busy."""
    cashback_minor: int = 0
    surcharge_minor: int = 0
    converts: bool = False
    signature: str = ""

    @property
    def is_charge(self) -> bool:
        """Whether money moves."""
        return self.result in ("Success", "Partial")


@dataclass(eq=False, slots=True)
class Payment:
    """A payment request that was taken, through its life at the terminal."""

    asked: Asked
    scenario: str
    via: str
    """How its request came: `async`, `sync`, `device/async`, `device/sync` or `local`."""
    ending: Ending | None = None
    known: bool = False
    """Whether the terminal itself knows of it: not before it arrived there, and not after it forgot."""
    status_checks: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when an abort or a status check may change what happens next."""
    abort_asked: bool = False
    answer: asyncio.Future[Json | None] | None = None
    """The body for the held-open connection, or nothing when it is to be hung up; None once that connection is gone."""

    @property
    def held(self) -> bool:
        """Whether its answer comes on the connection of the request, and is never pushed."""
        return self.via.rpartition("/")[2] != "async"

    @property
    def window_s(self) -> float:
        """When the platform or the terminal itself gives up, in seconds from the request."""
        return LOCAL_WINDOW_S if self.via == "local" else CLOUD_WINDOW_S

    def ledger_fields(self) -> Json:
        """The identifiers that each of its ledger lines carries."""
        return {
            "poi_id": self.asked.poi_id,
            "sale_id": self.asked.sale_id,
            "service_id": self.asked.service_id,
            "reference": self.asked.reference,
        }


def end(asked: Asked, verdict: Verdict, *, seed: int, counter: int, blocker: str = "") -> Ending:
    """The ending that the verdict means for this payment; `counter` numbers the terminal's tenders."""
    charges = verdict.result in ("Success", "Partial")
    share_minor, *more = (
        asked.amount_minor * percent // 100 if charges else 0
        for percent in (
            verdict.share_percent,
            verdict.tip_percent,
            verdict.cashback_percent,
            verdict.surcharge_percent,
        )
    )
    tip_minor, cashback_minor, surcharge_minor = more
    moment = now()
    return Ending(
        result=verdict.result,
        error_condition=verdict.error_condition,
        message=verdict.message,
        refusal_reason=verdict.refusal_reason,
        authorised_minor=share_minor + sum(more),
        tip_minor=tip_minor + (asked.tip_minor if charges else 0),
        cashback_minor=cashback_minor + (asked.cashback_minor if charges else 0),
        surcharge_minor=surcharge_minor,
        converts=verdict.converts,
        signature=verdict.signature,
        tender_reference=f"BV5k00{int(moment.timestamp()):010d}{counter % 1000:03d}",
        psp_reference=psp_reference(f"{seed}:{asked.poi_id}:{asked.sale_id}:{asked.service_id}")
        if verdict.asked_host
        else "",
        online=verdict.online,
        bare=verdict.bare,
        ended_at=timestamp(moment),
        blocker=blocker,
    )


def psp_reference(source: str) -> str:
    """16 letters and digits, the same for the same source."""
    digest = hashlib.sha256(source.encode("utf-8", "replace")).digest()
    return "".join(_REFERENCE_ALPHABET[byte % len(_REFERENCE_ALPHABET)] for byte in digest[:_REFERENCE_LENGTH])


def to_fields(data: Asked | Ending) -> Json:
    """Asked or Ending as the ledger holds it."""
    return asdict(data)
