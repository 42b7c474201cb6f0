"""Refunds in every stage, and everything that can be observed about one; each test overrides what it is about."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from orchestrator.evidence import (
    AnswerMissing,
    Channel,
    CheckAsked,
    Evidence,
    Exchange,
    InProgressReported,
    NotDelivered,
    NotFoundReported,
    RequestRejected,
    SendByPassed,
)
from orchestrator.model import Money, State
from orchestrator.policy import Policy
from orchestrator.refunds.classify import CONDITIONS
from orchestrator.refunds.evidence import RefundApproved, RefundBooked, RefundEntry, RefundReported
from orchestrator.refunds.model import Refund, RefundBooks, RefundOutcome, RefundReason, RefundStage

NOW: Final = datetime(2025, 3, 14, 9, 5, tzinfo=UTC)
SENT_AT: Final = datetime(2025, 3, 14, 9, 0, tzinfo=UTC)
EARLIER, LATER = "2025-03-14T12:00:00.000000Z", "2025-03-18T12:00:00.000000Z"
MODIFICATION, OTHER_MODIFICATION = "W6BT9RRD3M2XQK41", "W6BT9RRD3M2XQK99"
SERVICE_ID: Final = "Pr4tK0xq2Z"
POLICY: Final = Policy()

_DONE: Final = {"concluded_at": SENT_AT + timedelta(seconds=3)}
_SHAPES: Final[Mapping[RefundStage, Mapping[str, Any]]] = {
    RefundStage.AWAITING: {"payment_id": None, "reason": RefundReason.PENDING_APPROVAL, "sent_at": None},
    RefundStage.QUEUED: {"sent_at": None},
    RefundStage.SENT: {},
    RefundStage.UNKNOWN: {"state": State.UNKNOWN, "reason": RefundReason.NO_ANSWER},
    RefundStage.RECEIVED: {"reason": RefundReason.RECEIVED, "psp_reference": MODIFICATION},
    RefundStage.NOT_PAID: {"state": State.CONFIRMED, "outcome": RefundOutcome.DECLINED, **_DONE},
    RefundStage.PAID: {"state": State.CONFIRMED, "outcome": RefundOutcome.REFUNDED, "payment_id": None, **_DONE},
    RefundStage.BOOKED_NOT_PAID: {
        "state": State.RECONCILED,
        "outcome": RefundOutcome.FAILED,
        "reconciled_at": NOW,
        "psp_reference": MODIFICATION,
        "books": RefundBooks(entry=RefundEntry.FAILED, psp_reference=MODIFICATION, effective_at=EARLIER),
        **_DONE,
    },
    RefundStage.BOOKED_PAID: {
        "state": State.RECONCILED,
        "outcome": RefundOutcome.REFUNDED,
        "reconciled_at": NOW,
        "psp_reference": MODIFICATION,
        "books": RefundBooks(entry=RefundEntry.REFUNDED, psp_reference=MODIFICATION, effective_at=EARLIER),
        **_DONE,
    },
}


def refund(stage: RefundStage = RefundStage.QUEUED, **changes: Any) -> Refund:
    shape: dict[str, Any] = {"sent_at": SENT_AT, "payment_id": UUID(int=1), **_SHAPES[stage], **changes}
    made = Refund(
        id=UUID(int=2),
        reference="REFUND-0002",
        merchant_account="HarbourBakery",
        poi_id="V400m-324000123",
        sale_id="KASSA-07",
        service_id=SERVICE_ID,
        amount=Money("EUR", 450),
        sequence=3,
        **shape,
    )
    assert made.stage is stage
    return made


def reported(result: str = "Success", condition: str | None = None, **changes: Any) -> RefundReported:
    known: dict[str, Any] = {"channel": Channel.CONNECTION, "psp_reference": MODIFICATION, **changes}
    return RefundReported(result=result, error_condition=condition, **known)


def nested(result: str = "Success", condition: str | None = None, **changes: Any) -> RefundReported:
    return reported(result, condition, channel=Channel.STATUS, **changes)


def booked(entry: RefundEntry, at: str | None = EARLIER, **changes: Any) -> RefundBooked:
    known: dict[str, Any] = {"psp_reference": MODIFICATION, "amount": Money("EUR", 450), **changes}
    return RefundBooked(entry=entry, source="webhook:TEST", effective_at=at, **known)


#: Everything that can reach us without an act of our own code.
OUTSIDE: Final[Mapping[str, Evidence]] = {
    "received": reported(),
    "received, said by a status": nested(),
    "received in part": reported("Partial"),
    "paid out": reported(amount=Money("EUR", 450)),
    "paid out, said by a status": nested(amount=Money("EUR", 450)),
    "paid out, another amount": nested(amount=Money("EUR", 400)),
    **{f"failed: {name}": reported("Failure", name) for name in (*CONDITIONS, "UnreachableHost", "New")},
    **{
        f"failed, said by a status: {name}": nested("Failure", name) for name in (*CONDITIONS, "UnreachableHost", "New")
    },
    "busy with ours": nested("Failure", "Busy", busy_with=SERVICE_ID),
    "an unlisted result": reported("Perhaps"),
    **{f"no answer to a {exchange}": AnswerMissing(exchange=exchange, why="timeout") for exchange in Exchange},
    **{f"{each} refused": RequestRejected(exchange=each, refusal="http-401") for each in Exchange},
    "not delivered": NotDelivered(why="connect-timeout"),
    "in progress": InProgressReported(),
    "not found": NotFoundReported(),
    "not found, ours was the last": NotFoundReported(last_service_id=SERVICE_ID),
    "not found on a re-assigned terminal": NotFoundReported(terminal_reassigned=True),
    **{f"books: {entry}": booked(entry) for entry in RefundEntry},
    **{f"books, later: {entry}": booked(entry, LATER) for entry in RefundEntry},
    **{f"books, no time: {entry}": booked(entry, None) for entry in RefundEntry},
    **{f"books, nothing named: {entry}": booked(entry, None, psp_reference=None, amount=None) for entry in RefundEntry},
    "books: refunded, other amount": booked(RefundEntry.REFUNDED, amount=Money("EUR", 400)),
    "books: refunded, other currency": booked(RefundEntry.REFUNDED, amount=Money("USD", 450)),
    "books: refunded, a second modification": booked(RefundEntry.REFUNDED, LATER, psp_reference=OTHER_MODIFICATION),
    "books: cancelled, no amount": booked(RefundEntry.CANCELLED, amount=Money("EUR", 0)),
    "check asked": CheckAsked(asked_by="mira"),
    "approved": RefundApproved(approved_by="key 2"),
    "send_by passed": SendByPassed(),
}

#: Refunds in every stage, with each memory that a guard looks at.
VARIANTS: Final[tuple[Refund, ...]] = (
    *(refund(stage) for stage in RefundStage),
    *(refund(stage, payment_id=None) for stage in RefundStage),
    *(refund(stage, refused_with="http-401") for stage in (RefundStage.SENT, RefundStage.UNKNOWN)),
    refund(RefundStage.UNKNOWN, not_found_at=NOW - timedelta(seconds=31), checks=1),
    refund(RefundStage.UNKNOWN, not_found_at=NOW - timedelta(seconds=29), checks=1),
    refund(RefundStage.UNKNOWN, sent_at=NOW - timedelta(hours=49), checks=40),
    refund(RefundStage.NOT_PAID, sentinel=True, outcome=RefundOutcome.FAILED, reason=RefundReason.NOT_FOUND),
    refund(RefundStage.NOT_PAID, sent_at=None, outcome=RefundOutcome.FAILED, reason=RefundReason.EXPIRED),
    refund(
        RefundStage.BOOKED_PAID,
        outcome=RefundOutcome.CANCELLED,
        books=RefundBooks(entry=RefundEntry.CANCELLED),
    ),
    *(
        refund(RefundStage.BOOKED_NOT_PAID, outcome=outcome, books=RefundBooks(entry=entry, effective_at=LATER))
        for outcome, entry in (
            (RefundOutcome.DECLINED, RefundEntry.DECLINED),
            (RefundOutcome.REVERSED, RefundEntry.REVERSED),
            (RefundOutcome.FAILED, RefundEntry.VOIDED),
        )
    ),
)
