"""What can be observed about a refund, beside what ``orchestrator.evidence`` has for every message pair.

``Exchange.PAYMENT`` there is the request that moves money: here, the refund's own.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from orchestrator.evidence import (
    AnswerMissing,
    AnswerWindowPassed,
    Channel,
    CheckAsked,
    Evidence,
    Exchange,
    InProgressReported,
    NotDelivered,
    NotFoundReported,
    RequestRejected,
    SendByPassed,
    SendStarted,
    kind_of,
)
from orchestrator.model import Money


class RefundEntry(StrEnum):
    """What an entry in the platform's books says of a refund, by event code or record type."""

    RECEIVED = "received"  # SentForRefund
    DECLINED = "declined"  # CANCEL_OR_REFUND, REFUND or REFUND_WITH_DATA without success
    REFUNDED = "refunded"  # the same with success; record type Refunded
    CANCELLED = "cancelled"  # CANCEL_OR_REFUND whose modification.action is cancel; CANCELLATION of a payment of ours
    FAILED = "failed"  # REFUND_FAILED; record type RefundFailed
    VOIDED = "voided"  # VOID_PENDING_REFUND
    REVERSED = "reversed"  # REFUNDED_REVERSED; record type RefundedReversed


@dataclass(frozen=True, slots=True, kw_only=True)
class RefundAccepted(Evidence):
    """The first line of every refund's journal: the terms, and who asked."""

    payment_id: str | None = None
    merchant_account: str
    reference: str
    poi_id: str
    sale_id: str
    service_id: str
    amount: Money
    asked_by: str
    needs_approval: bool = False
    reason: str | None = None  # as whoever asked gave it


@dataclass(frozen=True, slots=True, kw_only=True)
class RefundApproved(Evidence):
    """A second person agreed to an unreferenced refund above the limit."""

    approved_by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RefundReported(Evidence):
    """A terminal's answer that echoes our POIID, SaleID and ServiceID; ``result`` and ``error_condition`` verbatim.

    Of a ReversalResponse, Success means received. Of an unreferenced refund, it means paid out, ``amount``.
    """

    channel: Channel
    result: str
    error_condition: str | None = None
    amount: Money | None = None
    psp_reference: str | None = None
    busy_with: str | None = None  # ServiceID that a Busy answer names as the running one
    refusal_reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RefundBooked(Evidence):
    """A verified standard webhook or a report line about this refund.

    ``psp_reference`` is the modification's own, of at most 64 characters; ``effective_at`` is the platform's time as
    ``views.instant`` spells it.
    """

    entry: RefundEntry
    source: str  # "webhook:<event code>" or "report:<record type>"
    psp_reference: str | None = None
    amount: Money | None = None
    effective_at: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeOverdue(Evidence):
    """The books have said nothing for as long as a refund may take."""


#: Every kind that a line of a refund's journal can hold.
KINDS: Final[Mapping[str, type[Evidence]]] = {
    kind_of(cls): cls
    for cls in (
        RefundAccepted,
        RefundApproved,
        SendStarted,
        NotDelivered,
        AnswerMissing,
        RequestRejected,
        RefundReported,
        InProgressReported,
        NotFoundReported,
        CheckAsked,
        SendByPassed,
        AnswerWindowPassed,
        RefundBooked,
        OutcomeOverdue,
    )
}

_ENUMS: Final[Mapping[str, type[StrEnum]]] = {"exchange": Exchange, "channel": Channel, "entry": RefundEntry}


def from_detail(kind: str, detail: Mapping[str, Any]) -> Evidence:
    """Read back what ``to_detail`` wrote, so that a journal can be replayed."""
    values: dict[str, Any] = {}
    for name, value in detail.items():
        if name in _ENUMS:
            values[name] = _ENUMS[name](value)
        else:
            values[name] = Money(value["currency"], value["minor"]) if isinstance(value, Mapping) else value
    return KINDS[kind](**values)
