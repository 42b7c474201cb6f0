"""Which columns each report has, and what each record type says of a payment or of a refund.

Columns are configurable per account: they are read by name, and what is not listed here is not looked at. Source: the
platform's descriptions of its settlement details, payment accounting and received payments reports.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class ReportKind(StrEnum):
    """The reports that we read."""

    ACCOUNTING = "payment accounting"
    SETTLEMENT = "settlement details"
    RECEIVED = "received payments"


class Entry(StrEnum):
    """What a line says."""

    AUTHORISED = "authorised"
    REFUSED = "refused"
    CANCELLED = "cancelled"
    SETTLED = "settled"  # captured, or paid out: an authorisation that went on
    REFUND_RECEIVED = "refund_received"
    REFUNDED = "refunded"
    REFUND_FAILED = "refund_failed"
    REFUND_REVERSED = "refund_reversed"
    EXPIRED = "expired"
    CAPTURE_FAILED = "capture_failed"
    CHARGEBACK = "chargeback"
    NOTED = "noted"  # known, and says nothing about whether money moved
    OTHER = "other"  # a type that is not listed here: counted, never guessed


#: Types of the three reports; ``Type`` and ``Record Type`` share their words.
ENTRIES: Final[Mapping[str, Entry]] = {
    "Received": Entry.NOTED,
    "Authorised": Entry.AUTHORISED,
    "Refused": Entry.REFUSED,
    "Error": Entry.REFUSED,
    "Cancelled": Entry.CANCELLED,
    "Expired": Entry.EXPIRED,
    "SentForSettle": Entry.SETTLED,
    "Settled": Entry.SETTLED,
    "SettledExternally": Entry.SETTLED,
    "CaptureFailed": Entry.CAPTURE_FAILED,
    "SentForRefund": Entry.REFUND_RECEIVED,
    "Refunded": Entry.REFUNDED,
    "RefundedExternally": Entry.REFUNDED,
    "RefundFailed": Entry.REFUND_FAILED,
    "RefundedReversed": Entry.REFUND_REVERSED,
    "NotificationOfChargeback": Entry.CHARGEBACK,
    "Chargeback": Entry.CHARGEBACK,
    "ChargebackReversed": Entry.CHARGEBACK,
    "SecondChargeback": Entry.CHARGEBACK,
    "Fee": Entry.NOTED,
    "MerchantPayout": Entry.NOTED,
    "InvoiceDeduction": Entry.NOTED,
    "DepositCorrection": Entry.NOTED,
    "BalanceTransfer": Entry.NOTED,
    "MiscCosts": Entry.NOTED,
    "ReserveAdjustment": Entry.NOTED,
}

#: Entries that are about a payment or a refund: they name it, and have an amount.
ABOUT_MONEY: Final = frozenset(Entry) - {Entry.NOTED, Entry.OTHER}


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The columns of one report. The first of ``amounts`` that is filled is the line's; ``signed`` ones must parse."""

    kind: ReportKind
    at: str
    type: str
    currency: str
    amounts: tuple[str, ...]
    signed: tuple[str, ...] = ()
    modification: str | None = None

    @property
    def needed(self) -> tuple[str, ...]:
        """The columns without which the report cannot be read."""
        own = (self.at, self.type, self.currency, *self.amounts)
        return ("Merchant Account", "Psp Reference", "Merchant Reference", "TimeZone", *own)


#: Columns that are read where an account has them.
MODIFICATION_REFERENCE: Final = "Modification Merchant Reference"
TERMINAL: Final = ("Terminal ID", "Unique Terminal ID", "Unique Terminal Id")

#: By a column that only this report has, in the order in which they are looked for.
LAYOUTS: Final[Mapping[str, Layout]] = {
    "Record Type": Layout(
        kind=ReportKind.ACCOUNTING,
        at="Booking Date",
        type="Record Type",
        currency="Main Currency",
        amounts=("Main Amount",),
        signed=("Received (PC)", "Authorised (PC)", "Captured (PC)"),
    ),
    "Gross Currency": Layout(
        kind=ReportKind.SETTLEMENT,
        at="Creation Date",
        type="Type",
        currency="Gross Currency",
        amounts=("Gross Credit (GC)", "Gross Debit (GC)"),
        modification="Modification Reference",
    ),
    "Amount": Layout(
        kind=ReportKind.RECEIVED, at="Creation Date", type="Type", currency="Currency", amounts=("Amount",)
    ),
}

#: Hours from UTC of the ``TimeZone`` column's words. The platform names the offset in force (CET, then CEST), never a
#: place; where a word has several meanings (CST), it is the platform's: North America.
ZONES: Final[Mapping[str, float]] = {
    "UTC": 0, "GMT": 0, "WET": 0, "WEST": 1, "BST": 1, "IST": 5.5, "CET": 1, "CEST": 2, "MEZ": 1, "MESZ": 2, "MET": 1,
    "MEST": 2, "EET": 2, "EEST": 3, "MSK": 3, "TRT": 3, "SAST": 2, "GST": 4, "SGT": 8, "HKT": 8, "MYT": 8, "PHT": 8,
    "AWST": 8, "JST": 9, "KST": 9, "ACST": 9.5, "ACDT": 10.5, "AEST": 10, "AEDT": 11, "NZST": 12, "NZDT": 13, "BRT": -3,
    "BRST": -2, "ART": -3, "NST": -3.5, "NDT": -2.5, "AST": -4, "ADT": -3, "EST": -5, "EDT": -4, "CST": -6, "CDT": -5,
    "MST": -7, "MDT": -6, "PST": -8, "PDT": -7, "AKST": -9, "AKDT": -8, "HST": -10, "ICT": 7, "WIB": 7, "PET": -5,
    "COT": -5, "CLT": -4, "CLST": -3, "UYT": -3,
}  # fmt: skip
