"""What we believe about a refund: frozen data, like ``orchestrator.model``, whose states and money it shares."""

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Self
from uuid import UUID

from orchestrator.model import Money, State, Transaction, Transport


class RefundOutcome(StrEnum):
    """Our conclusion about the money of a refund."""

    REFUNDED = "refunded"
    CANCELLED = "cancelled"  # the payment was not captured yet, and was taken back whole
    DECLINED = "declined"  # the terminal or the platform said no
    FAILED = "failed"  # it never took place, or the money could not be paid out
    REVERSED = "reversed"  # it was paid out and came back

    @property
    def paid_back(self) -> bool:
        """Whether the shopper has the money again."""
        return self in PAID_BACK_OUTCOMES


PAID_BACK_OUTCOMES = frozenset({RefundOutcome.REFUNDED, RefundOutcome.CANCELLED})


class RefundReason(StrEnum):
    """Why a refund is where it is, where the state and the outcome alone do not say it."""

    PENDING_APPROVAL = "pending_approval"
    RECEIVED = "received"
    NO_ANSWER = "no_answer"
    EXPIRED = "expired"
    NOT_DELIVERED = "not_delivered"
    REFUSED_BY_PLATFORM = "refused_by_platform"
    NOT_FOUND = "not_found"
    TERMINAL_BUSY = "terminal_busy"
    TERMINAL_UNAVAILABLE = "terminal_unavailable"
    NOT_ALLOWED = "not_allowed"
    UNKNOWN_ORIGINAL = "unknown_original"
    STOPPED = "stopped"
    VOIDED = "voided"


class RefundStage(StrEnum):
    """The rows of the refunds' table."""

    AWAITING = "awaiting"
    QUEUED = "queued"
    SENT = "sent"
    UNKNOWN = "unknown"
    RECEIVED = "received"
    NOT_PAID = "not_paid"
    PAID = "paid"
    BOOKED_NOT_PAID = "booked_not_paid"
    BOOKED_PAID = "booked_paid"


@dataclass(frozen=True, slots=True, kw_only=True)
class RefundBooks:
    """The latest effective word of the platform's books about a refund."""

    entry: str  # a RefundEntry
    psp_reference: str | None = None
    effective_at: str | None = None  # RFC 3339 in UTC, so that texts compare as instants do


@dataclass(frozen=True, slots=True, kw_only=True)
class Refund:
    """One message pair that pays money back, as the row holds it. Without ``payment_id`` it refers to no payment."""

    id: UUID
    payment_id: UUID | None
    reference: str
    merchant_account: str
    poi_id: str
    sale_id: str
    service_id: str
    amount: Money
    transport: Transport = Transport.ASYNC
    sequence: int = 1  # the number of its journal lines
    state: State = State.PENDING
    outcome: RefundOutcome | None = None
    reason: RefundReason | None = None
    sent_at: datetime | None = None
    concluded_at: datetime | None = None
    reconciled_at: datetime | None = None
    psp_reference: str | None = None  # the modification's own
    approved_by: str | None = None
    refused_with: str | None = None
    not_found_at: datetime | None = None
    checks: int = 0
    sentinel: bool = False
    books: RefundBooks | None = None

    @property
    def stage(self) -> RefundStage:
        """The row of the transition table that this refund stands in."""
        match self.state:
            case State.PENDING if self.reason is RefundReason.RECEIVED:
                return RefundStage.RECEIVED
            case State.PENDING if self.reason is RefundReason.PENDING_APPROVAL:
                return RefundStage.AWAITING
            case State.PENDING:
                return RefundStage.SENT if self.sent_at else RefundStage.QUEUED
            case State.UNKNOWN:
                return RefundStage.UNKNOWN
            case State.CONFIRMED:
                return RefundStage.PAID if self.paid_back else RefundStage.NOT_PAID
            case State.RECONCILED:
                return RefundStage.BOOKED_PAID if self.paid_back else RefundStage.BOOKED_NOT_PAID

    @property
    def paid_back(self) -> bool | None:
        """True, false, or None for not known."""
        return None if self.outcome is None else self.outcome.paid_back

    @property
    def as_transaction(self) -> Transaction:
        """The message pair alone, for what only asks which request was meant."""
        return Transaction(
            id=self.id,
            reference=self.reference,
            merchant_account=self.merchant_account,
            poi_id=self.poi_id,
            sale_id=self.sale_id,
            service_id=self.service_id,
            amount=self.amount,
            transport=self.transport,
        )

    def evolve(self, **changes: Any) -> Self:
        """Return a copy with these fields changed."""
        return replace(self, **changes)
