"""One referenced refund as a terminal and the platform see it: what was asked, and what its request was answered."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from decimal import Decimal

from orchestrator.simulator.encoding import AcquirerData, Json, as_object, to_minor
from orchestrator.simulator.payment import BadMessageError, Header

_REQUEST = "At SaleToPOIRequest.ReversalRequest"


@dataclass(frozen=True, slots=True)
class ReversalAsked:
    """What a ReversalRequest asked for. `amount_minor` is None for everything; `currency` is empty unless named."""

    poi_id: str
    sale_id: str
    service_id: str
    reference: str
    sale_timestamp: str
    original_id: str
    original_at: str
    amount_minor: int | None
    currency: str
    acquirer_data: str = ""

    @classmethod
    def parse(cls, header: Header, body: Json) -> ReversalAsked:
        """Read a ReversalRequest; BadMessageError names the member that is missing or wrong."""
        original = as_object(as_object(body.get("OriginalPOITransaction")).get("POITransactionID"))
        if not original.get("TransactionID") or not original.get("TimeStamp"):
            raise BadMessageError(f"{_REQUEST}.OriginalPOITransaction, field POITransactionID: Missing")
        if not body.get("ReversalReason"):
            raise BadMessageError(f"{_REQUEST}, field ReversalReason: Missing")
        sale = as_object(body.get("SaleData"))
        ours = as_object(sale.get("SaleTransactionID"))
        acquirer_data = str(sale.get("SaleToAcquirerData") or "")
        currency = AcquirerData.parse(acquirer_data).fields.get("currency", "")
        return cls(
            header.poi_id,
            header.sale_id,
            header.service_id,
            reference=str(ours.get("TransactionID", "")),
            sale_timestamp=str(ours.get("TimeStamp", "")),
            original_id=str(original["TransactionID"]),
            original_at=str(original["TimeStamp"]),
            amount_minor=_amount_minor(body, currency),
            currency=currency,
            acquirer_data=acquirer_data,
        )

    @property
    def header(self) -> Header:
        """The header of the request."""
        return Header(self.poi_id, self.sale_id, self.service_id, "Reversal")


def _amount_minor(body: Json, currency: str) -> int | None:
    if "ReversedAmount" not in body:
        return None
    amount = body["ReversedAmount"]
    if isinstance(amount, bool) or not isinstance(amount, int | Decimal) or amount <= 0:
        raise BadMessageError(f"{_REQUEST}, field ReversedAmount: Invalid")
    if not currency:
        raise BadMessageError(f"{_REQUEST}.SaleData, field SaleToAcquirerData: currency missing for a part")
    try:
        return to_minor(Decimal(amount), currency)
    except ValueError as error:
        raise BadMessageError(f"{_REQUEST}, field ReversedAmount: Too many decimals") from error


@dataclass(frozen=True, slots=True)
class Reversal:
    """A reversal that the terminal answered. Plain data that the ledger holds; amount in minor units."""

    asked: ReversalAsked
    scenario: str
    error_condition: str
    """Empty: received, which is all that Success says."""
    psp_reference: str
    original_psp: str
    original_reference: str
    amount_minor: int
    currency: str
    answered_at: str

    def ledger_fields(self) -> Json:
        """The fields of its ledger line, flat."""
        fields = asdict(self)
        asked = {f"asked_{name}" if name in fields else name: value for name, value in fields.pop("asked").items()}
        return asked | fields

    @classmethod
    def from_ledger(cls, line: Json) -> Reversal:
        """The reversal that this line holds."""
        names = ReversalAsked.__dataclass_fields__
        asked = {name: line[prefixed if (prefixed := f"asked_{name}") in line else name] for name in names}
        own = {name: line[name] for name in cls.__dataclass_fields__ if name != "asked"}
        return cls(asked=ReversalAsked(**asked), **own)
