"""Every stage of a refund against every kind of news: what moves it, what is only noted, and what is said aloud."""

from typing import Any, Final

import pytest

from orchestrator.commands import CommandKind
from orchestrator.evidence import (
    AnswerMissing,
    AnswerWindowPassed,
    CheckAsked,
    Evidence,
    Exchange,
    InProgressReported,
    NotDelivered,
    NotFoundReported,
    RequestRejected,
    SendByPassed,
)
from orchestrator.meaning import Alarm
from orchestrator.model import Money
from orchestrator.refunds.decide import RefundDecision, decide
from orchestrator.refunds.evidence import OutcomeOverdue, RefundApproved, RefundEntry
from orchestrator.refunds.model import Refund, RefundBooks, RefundOutcome, RefundReason, RefundStage
from orchestrator.refunds.transitions import DEFECT, IGNORE, TRANSITIONS, RefundEvent
from tests.refund_factories import EARLIER, LATER, NOW, POLICY, booked, nested, refund, reported

A, Q, S, U = RefundStage.AWAITING, RefundStage.QUEUED, RefundStage.SENT, RefundStage.UNKNOWN
W, N, P = RefundStage.RECEIVED, RefundStage.NOT_PAID, RefundStage.PAID
B0, B1 = RefundStage.BOOKED_NOT_PAID, RefundStage.BOOKED_PAID
EVERY: Final = tuple(RefundStage)
ENDED: Final = (N, P, B0, B1)

MISSING: Final = AnswerMissing(exchange=Exchange.PAYMENT, why="read-timeout")
REFUSED: Final = RequestRejected(exchange=Exchange.PAYMENT, refusal="http-401")
UNANSWERED: Final = AnswerMissing(exchange=Exchange.STATUS, why="read-timeout")
RECEIVED: Final = reported()
NO: Final = reported("Failure", "NotAllowed")
PAID_OUT: Final = reported(amount=Money("EUR", 450))


def at(stage: RefundStage, evidence: Evidence) -> Refund:
    """A refund in this stage; one without a payment where the evidence is about a payout."""
    changes: dict[str, Any] = {"payment_id": None if evidence is PAID_OUT or stage is A else refund().id}
    if stage is N:
        changes |= {"outcome": RefundOutcome.FAILED, "reason": RefundReason.NOT_FOUND, "sentinel": True}
    return refund(stage, **changes)


def decided(stage: RefundStage, evidence: Evidence) -> RefundDecision:
    return decide(at(stage, evidence), evidence, NOW, POLICY)


def waits(decision: RefundDecision, kind: CommandKind) -> list[float]:
    return [plan.after_s for plan in decision.commands if plan.kind is kind]


def cases(*rows: tuple[Evidence, tuple[RefundStage, ...]]) -> pytest.MarkDecorator:
    each = [pytest.param(e, stage, id=f"{type(e).__name__}-{stage}") for e, stages in rows for stage in stages]
    return pytest.mark.parametrize(("evidence", "stage"), each)


@cases(
    (RefundApproved(approved_by="key 2"), tuple(stage for stage in EVERY if stage is not A)),
    (NotDelivered(why="connect-timeout"), (A, Q, N, B0)),
    (SendByPassed(), (S, U, W, *ENDED)),
    (MISSING, (W, *ENDED)),
    (REFUSED, (W, *ENDED)),
    (AnswerWindowPassed(), (U, W, *ENDED)),
    (reported(), (W, P, B0, B1)),
    (PAID_OUT, (P, B1)),
    (NO, (N, B0)),
    (CheckAsked(asked_by="mira"), (A, Q, W, *ENDED)),
    (InProgressReported(), (W, P, B0, B1)),
    (NotFoundReported(), (A, Q, W, P, B0, B1)),
    (UNANSWERED, (A, Q, W, P, B0, B1)),
    (OutcomeOverdue(), (U, *ENDED)),
)
def test_this_is_noted_and_changes_nothing(evidence: Evidence, stage: RefundStage) -> None:
    decision = decided(stage, evidence)

    assert decision.after.stage is stage
    assert decision.after.outcome is decision.before.outcome
    assert (decision.alarm, decision.commands, decision.obsolete) == (None, (), frozenset())


@cases(
    (NotDelivered(why="connect-timeout"), (W, P, B1)),
    (NO, (W, P, B1)),
    (PAID_OUT, (B0,)),
    (booked(RefundEntry.REFUNDED, LATER, amount=Money("EUR", 1)), EVERY),
)
def test_this_contradicts_what_is_believed_and_moves_nothing(evidence: Evidence, stage: RefundStage) -> None:
    decision = decided(stage, evidence)

    assert decision.after.stage is stage
    assert decision.alarm is Alarm.REFUND_CONTRADICTS
    assert decision.after.outcome is decision.before.outcome


@cases((MISSING, (S, U)), (REFUSED, (S, U)), (CheckAsked(asked_by="mira"), (S, U)))
def test_this_is_asked_about_at_once(evidence: Evidence, stage: RefundStage) -> None:
    decision = decided(stage, evidence)

    assert decision.after.stage is stage
    assert waits(decision, CommandKind.CHECK_REFUND) == [0.0]
    assert decision.alarm is None


@cases((InProgressReported(), (S, U)), (NotFoundReported(), (S, U)), (UNANSWERED, (S, U)))
def test_after_this_the_terminal_is_asked_again_later(evidence: Evidence, stage: RefundStage) -> None:
    decision = decided(stage, evidence)

    assert decision.after.stage is stage
    (wait_s,) = waits(decision, CommandKind.CHECK_REFUND)
    assert wait_s >= POLICY.check_first_s
    assert decision.after.checks == decision.before.checks + 1


@cases((NotFoundReported(), (N,)), (UNANSWERED, (N,)))
def test_the_sentinel_goes_on(evidence: Evidence, stage: RefundStage) -> None:
    decision = decided(stage, evidence)

    assert decision.after.stage is stage
    (wait_s,) = waits(decision, CommandKind.CHECK_REFUND)
    assert wait_s > 0


@pytest.mark.parametrize("stage", [S, U])
def test_what_was_refused_twice_is_still_watched(stage: RefundStage) -> None:
    before = refund(stage, refused_with="http-401")
    decision = decide(before, RequestRejected(exchange=Exchange.STATUS, refusal="http-401"), NOW, POLICY)

    assert decision.after.stage is N
    assert waits(decision, CommandKind.CHECK_REFUND) == [POLICY.sentinel_at_s[0]]


NEWS: Final = (
    (MISSING, U),
    (REFUSED, U),
    (InProgressReported(), U),
    (RECEIVED, W),
    (PAID_OUT, P),
    (NO, N),
    (booked(RefundEntry.RECEIVED), W),
    (booked(RefundEntry.REFUNDED), B1),
    (booked(RefundEntry.FAILED), B0),
)


#: What waits for approval has no payment, and is answered as a payout.
UNSENT: Final = [(stage, *news) for news in NEWS for stage in (Q, A) if stage is Q or news[0] is not RECEIVED]


@pytest.mark.parametrize(("stage", "evidence", "after"), UNSENT)
def test_news_of_what_was_never_sent_is_believed_aloud(
    stage: RefundStage, evidence: Evidence, after: RefundStage
) -> None:
    """A database that was restored: it must never be sent once more."""
    decision = decided(stage, evidence)

    assert decision.after.stage is after
    assert decision.alarm is Alarm.ANSWER_TO_WHAT_WAS_NEVER_SENT
    assert CommandKind.SEND_REFUND in decision.obsolete
    if after is U:
        assert waits(decision, CommandKind.CHECK_REFUND)
    if after is W:
        assert waits(decision, CommandKind.EXPECT_REFUND) == [POLICY.refund_overdue_s]


@pytest.mark.parametrize(
    ("evidence", "stage", "after", "loud"),
    [
        *((reported(), stage, W, stage is N) for stage in (S, U, N)),
        *((PAID_OUT, stage, P, stage is N) for stage in (S, U, N)),
        *((NO, stage, N, False) for stage in (S, U)),
        *((NotDelivered(why="refused"), stage, N, False) for stage in (S, U)),
        (InProgressReported(), N, U, True),
        *((booked(RefundEntry.REFUNDED, LATER), stage, B1, stage in {N, B0}) for stage in (S, U, W, N, P, B0)),
        *((booked(RefundEntry.REVERSED, LATER), stage, B0, stage in {P, B1}) for stage in (S, U, W, N, P, B0, B1)),
        (booked(RefundEntry.CANCELLED, LATER), B1, B1, False),
    ],
)
def test_this_moves_it(evidence: Evidence, stage: RefundStage, after: RefundStage, *, loud: bool) -> None:
    decision = decided(stage, evidence)

    assert decision.after.stage is after
    assert (decision.alarm is not None) is loud
    assert decision.told
    if after is W:
        assert waits(decision, CommandKind.EXPECT_REFUND) == [POLICY.refund_overdue_s]
    if after is U:
        assert waits(decision, CommandKind.CHECK_REFUND)


def test_a_refund_that_was_received_may_turn_out_to_be_paid_out() -> None:
    """No terminal says so of a refund of a payment; a payout of ours that the books called received may."""
    before = refund(W, payment_id=None)

    assert decide(before, nested(amount=Money("EUR", 450)), NOW, POLICY).after.stage is P


@pytest.mark.parametrize(
    ("known", "said"),
    [(RefundEntry.REFUNDED, RefundEntry.RECEIVED), (RefundEntry.FAILED, RefundEntry.REFUNDED)],
)
def test_an_older_word_of_the_books_is_noted_alone(known: RefundEntry, said: RefundEntry) -> None:
    stage = B1 if known is RefundEntry.REFUNDED else B0
    before = refund(stage, books=RefundBooks(entry=known, effective_at=LATER))
    decision = decide(before, booked(said, EARLIER), NOW, POLICY)

    assert decision.event is RefundEvent.BOOKS_OUTDATED
    assert (decision.after.stage, decision.alarm, decision.commands) == (stage, None, ())


@pytest.mark.parametrize("stage", [B0, B1])
def test_the_same_word_of_the_books_again_is_noted_alone(stage: RefundStage) -> None:
    entry = RefundEntry.REFUNDED if stage is B1 else RefundEntry.FAILED
    decision = decide(refund(stage), booked(entry, LATER), NOW, POLICY)

    assert decision.event is RefundEvent.BOOKS_AGREE
    assert (decision.after.stage, decision.alarm, decision.commands) == (stage, None, ())
    assert decision.after.books is not None
    assert decision.after.books.effective_at == LATER


#: What our own code alone could produce.
IMPOSSIBLE: Final = {
    RefundEvent.SEND_STARTED: (A, S, U, W, *ENDED),
    RefundEvent.REFUSAL_CONFIRMED: (A, Q, W, *ENDED),
    RefundEvent.WINDOW_PASSED: (A, Q),
    RefundEvent.NOT_FOUND_PROVEN: (A, Q, S, W, *ENDED),
    RefundEvent.BOOKS_AGREE: (A, Q, S, U, W, N, P),
    RefundEvent.OVERDUE: (A, Q, S),
}


def test_nothing_else_cannot_happen() -> None:
    defects = {(stage, event) for (stage, event), cell in TRANSITIONS.items() if cell == DEFECT}

    assert defects == {(stage, event) for event, stages in IMPOSSIBLE.items() for stage in stages}


@pytest.mark.parametrize("stage", EVERY)
def test_an_outdated_word_moves_nothing_anywhere(stage: RefundStage) -> None:
    assert TRANSITIONS[(stage, RefundEvent.BOOKS_OUTDATED)] == IGNORE
