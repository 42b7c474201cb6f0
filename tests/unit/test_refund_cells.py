"""The delicate cells of refunds, one claim each."""

from datetime import timedelta

import pytest

from orchestrator.commands import CommandKind
from orchestrator.evidence import (
    AnswerMissing,
    AnswerWindowPassed,
    Evidence,
    Exchange,
    InProgressReported,
    NotDelivered,
    NotFoundReported,
    RequestRejected,
    SendByPassed,
    SendStarted,
)
from orchestrator.meaning import Alarm
from orchestrator.model import Money, State
from orchestrator.refunds.classify import CONDITIONS
from orchestrator.refunds.decide import RefundDecision, decide
from orchestrator.refunds.evidence import OutcomeOverdue, RefundApproved, RefundEntry
from orchestrator.refunds.model import Refund, RefundBooks, RefundOutcome, RefundReason, RefundStage
from orchestrator.refunds.transitions import RefundEvent
from tests.refund_factories import (
    EARLIER,
    LATER,
    MODIFICATION,
    NOW,
    OTHER_MODIFICATION,
    POLICY,
    SENT_AT,
    SERVICE_ID,
    booked,
    nested,
    refund,
    reported,
)

SEND, CHECK, EXPECT, TELL = (
    CommandKind.SEND_REFUND,
    CommandKind.CHECK_REFUND,
    CommandKind.EXPECT_REFUND,
    CommandKind.TELL_CALLER,
)
IN_DOUBT = (RefundStage.SENT, RefundStage.UNKNOWN)


def decided(before: Refund, evidence: Evidence, after_s: float = 0) -> RefundDecision:
    return decide(before, evidence, NOW + timedelta(seconds=after_s), POLICY)


def planned(decision: RefundDecision) -> dict[CommandKind, float]:
    return {plan.kind: plan.after_s for plan in decision.commands}


def ended(decision: RefundDecision) -> tuple[State, RefundOutcome | None, RefundReason | None]:
    return decision.after.state, decision.after.outcome, decision.after.reason


# --- sending ----------------------------------------------------------------------------------------------------------


def test_a_second_person_lets_it_be_sent() -> None:
    decision = decided(refund(RefundStage.AWAITING), RefundApproved(approved_by="key 2"))

    assert decision.after.stage is RefundStage.QUEUED
    assert decision.after.approved_by == "key 2"
    assert planned(decision) == {SEND: 0.0, TELL: 0.0}
    assert EXPECT not in decision.obsolete, "its send_by goes on"


def test_a_claim_starts_the_answer_window() -> None:
    decision = decide(refund(), SendStarted(), SENT_AT, POLICY)

    assert decision.after.stage is RefundStage.SENT
    assert planned(decision) == {EXPECT: POLICY.answer_window_s}
    assert not decision.told


@pytest.mark.parametrize("stage", [RefundStage.AWAITING, RefundStage.QUEUED])
def test_what_was_not_sent_in_time_failed(stage: RefundStage) -> None:
    decision = decided(refund(stage), SendByPassed())

    assert ended(decision) == (State.CONFIRMED, RefundOutcome.FAILED, RefundReason.EXPIRED)
    assert SEND in decision.obsolete


@pytest.mark.parametrize("stage", IN_DOUBT)
def test_what_was_never_delivered_failed(stage: RefundStage) -> None:
    decision = decided(refund(stage), NotDelivered(why="connect-timeout"))

    assert ended(decision) == (State.CONFIRMED, RefundOutcome.FAILED, RefundReason.NOT_DELIVERED)


@pytest.mark.parametrize("stage", IN_DOUBT)
def test_a_lost_answer_is_asked_about(stage: RefundStage) -> None:
    decision = decided(refund(stage), AnswerMissing(exchange=Exchange.PAYMENT, why="read-timeout"))

    assert decision.after.outcome is None
    assert planned(decision) == {CHECK: 0.0}


def test_a_passed_window_concludes_nothing() -> None:
    decision = decided(refund(RefundStage.SENT), AnswerWindowPassed())

    assert ended(decision) == (State.UNKNOWN, None, RefundReason.NO_ANSWER)
    assert planned(decision) == {CHECK: 0.0, TELL: 0.0}


# --- what a terminal says ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", IN_DOUBT)
@pytest.mark.parametrize("said", [reported(), nested(), reported("Partial")])
def test_success_of_a_reversal_means_received_and_nothing_more(stage: RefundStage, said: Evidence) -> None:
    decision = decided(refund(stage), said)

    assert ended(decision) == (State.PENDING, None, RefundReason.RECEIVED)
    assert decision.after.paid_back is None
    assert decision.after.psp_reference == MODIFICATION
    assert planned(decision) == {EXPECT: 7 * 86400.0, TELL: 0.0}
    assert decision.paid_back_minor == 0


@pytest.mark.parametrize("condition", CONDITIONS)
def test_a_failure_ends_it_by_its_condition(condition: str) -> None:
    decision = decided(refund(RefundStage.SENT), reported("Failure", condition))

    assert ended(decision) == (State.CONFIRMED, *CONDITIONS[condition])
    assert decision.after.paid_back is False


def test_busy_frees_the_amount_for_a_new_submission() -> None:
    decision = decided(refund(RefundStage.SENT), reported("Failure", "Busy", busy_with="0123456789"))

    assert ended(decision) == (State.CONFIRMED, RefundOutcome.FAILED, RefundReason.TERMINAL_BUSY)


def test_busy_with_our_own_message_is_in_progress() -> None:
    decision = decided(refund(RefundStage.UNKNOWN), nested("Failure", "Busy", busy_with=SERVICE_ID))

    assert decision.event is RefundEvent.IN_PROGRESS
    assert decision.after.outcome is None


@pytest.mark.parametrize("condition", ["UnreachableHost", "Timeout", None, "SomethingNew"])
@pytest.mark.parametrize("say", [reported, nested])
def test_any_other_condition_settles_nothing(condition: str | None, say: object) -> None:
    assert callable(say)
    decision = decided(refund(RefundStage.UNKNOWN), say("Failure", condition))

    assert decision.after.outcome is None
    assert CHECK in planned(decision)


def test_a_payout_is_paid_by_the_terminals_own_word() -> None:
    decision = decided(refund(RefundStage.SENT, payment_id=None), reported(amount=Money("EUR", 450)))

    assert ended(decision) == (State.CONFIRMED, RefundOutcome.REFUNDED, None)
    assert decision.paid_back_minor == 450


def test_a_payout_of_another_amount_is_asked_about_later_and_not_in_a_loop() -> None:
    said = nested(amount=Money("EUR", 400))
    decision = decided(refund(RefundStage.UNKNOWN, payment_id=None), said)

    assert decision.after.outcome is None
    assert planned(decision)[CHECK] > 0


@pytest.mark.parametrize("stage", [RefundStage.AWAITING, RefundStage.QUEUED])
@pytest.mark.parametrize("said", [reported(), InProgressReported(), booked(RefundEntry.REFUNDED)])
def test_news_of_what_was_never_sent_is_believed_aloud_and_it_is_never_sent(stage: RefundStage, said: Evidence) -> None:
    decision = decided(refund(stage, payment_id=None if stage is RefundStage.AWAITING else refund().id), said)

    if decision.event is not RefundEvent.PAID:
        assert decision.alarm is Alarm.ANSWER_TO_WHAT_WAS_NEVER_SENT
    assert decision.after.sent_at is not None
    assert SEND in decision.obsolete


def test_received_after_it_was_taken_for_failed_is_believed_aloud() -> None:
    failed = refund(RefundStage.NOT_PAID, outcome=RefundOutcome.FAILED, reason=RefundReason.NOT_FOUND, sentinel=True)
    decision = decided(failed, nested())

    assert ended(decision) == (State.PENDING, None, RefundReason.RECEIVED)
    assert decision.alarm is Alarm.REFUND_CONTRADICTS
    assert decision.after.concluded_at is None
    assert decision.told


def test_a_no_after_received_moves_nothing_and_alarms() -> None:
    decision = decided(refund(RefundStage.RECEIVED), nested("Failure", "NotAllowed"))

    assert decision.after.stage is RefundStage.RECEIVED
    assert decision.alarm is Alarm.REFUND_CONTRADICTS


# --- the fence --------------------------------------------------------------------------------------------------------


def test_the_second_not_found_behind_the_window_concludes_and_is_watched() -> None:
    first = decided(refund(RefundStage.UNKNOWN), NotFoundReported())
    early = decided(first.after, NotFoundReported(), 29)
    second = decided(early.after, NotFoundReported(), 31)

    assert first.after.outcome is early.after.outcome is None
    assert ended(second) == (State.CONFIRMED, RefundOutcome.FAILED, RefundReason.NOT_FOUND)
    assert second.after.sentinel
    assert planned(second)[CHECK] == POLICY.sentinel_at_s[0]


def test_in_progress_in_between_starts_anew() -> None:
    first = decided(refund(RefundStage.UNKNOWN), NotFoundReported())
    running = decided(first.after, InProgressReported(), 10)

    assert running.after.not_found_at is None
    assert decided(running.after, NotFoundReported(), 60).after.outcome is None


@pytest.mark.parametrize(
    "said", [NotFoundReported(last_service_id=SERVICE_ID), NotFoundReported(terminal_reassigned=True)]
)
def test_a_not_found_that_names_ours_or_comes_from_elsewhere_teaches_nothing(said: Evidence) -> None:
    before = refund(RefundStage.UNKNOWN, not_found_at=NOW - timedelta(seconds=60))

    assert decided(before, said).after.outcome is None


def test_what_the_platform_refuses_twice_was_never_carried_out() -> None:
    refused = decided(refund(RefundStage.SENT), RequestRejected(exchange=Exchange.PAYMENT, refusal="http-401"))
    again = decided(refused.after, RequestRejected(exchange=Exchange.STATUS, refusal="http-401"))

    assert refused.after.outcome is None
    assert ended(again) == (State.CONFIRMED, RefundOutcome.FAILED, RefundReason.REFUSED_BY_PLATFORM)


def test_the_end_of_the_schedule_is_said_aloud_and_changes_nothing() -> None:
    old = refund(RefundStage.UNKNOWN, sent_at=NOW - timedelta(hours=49))
    decision = decided(old, AnswerMissing(exchange=Exchange.STATUS, why="timeout"))

    assert decision.alarm is Alarm.CHECKS_EXHAUSTED
    assert decision.after.stage is RefundStage.UNKNOWN


# --- the books --------------------------------------------------------------------------------------------------------

PAID_BACK = {RefundEntry.REFUNDED: RefundOutcome.REFUNDED, RefundEntry.CANCELLED: RefundOutcome.CANCELLED}
NOT_PAID_BACK = {
    RefundEntry.DECLINED: (RefundOutcome.DECLINED, None),
    RefundEntry.FAILED: (RefundOutcome.FAILED, None),
    RefundEntry.VOIDED: (RefundOutcome.FAILED, RefundReason.VOIDED),
    RefundEntry.REVERSED: (RefundOutcome.REVERSED, None),
}


@pytest.mark.parametrize("entry", PAID_BACK)
@pytest.mark.parametrize("stage", [RefundStage.SENT, RefundStage.UNKNOWN, RefundStage.RECEIVED])
def test_the_books_conclude_it(stage: RefundStage, entry: RefundEntry) -> None:
    decision = decided(refund(stage), booked(entry))

    assert ended(decision) == (State.RECONCILED, PAID_BACK[entry], None)
    assert (decision.paid_back_minor, decision.alarm) == (450, None)
    assert {CHECK, EXPECT} <= decision.obsolete


@pytest.mark.parametrize("entry", NOT_PAID_BACK)
@pytest.mark.parametrize("stage", [RefundStage.SENT, RefundStage.UNKNOWN, RefundStage.RECEIVED])
def test_the_books_refuse_it(stage: RefundStage, entry: RefundEntry) -> None:
    decision = decided(refund(stage), booked(entry))

    assert ended(decision) == (State.RECONCILED, *NOT_PAID_BACK[entry])
    assert (decision.paid_back_minor, decision.alarm) == (0, None)


@pytest.mark.parametrize("entry", [RefundEntry.FAILED, RefundEntry.REVERSED, RefundEntry.VOIDED])
@pytest.mark.parametrize("stage", [RefundStage.BOOKED_PAID, RefundStage.PAID])
def test_a_refund_that_fails_later_is_a_real_step_told_as_a_correction(stage: RefundStage, entry: RefundEntry) -> None:
    decision = decided(refund(stage), booked(entry, LATER))

    assert ended(decision) == (State.RECONCILED, *NOT_PAID_BACK[entry])
    assert decision.alarm is Alarm.REFUND_FAILED_LATER
    assert decision.paid_back_minor == -450, "what is left to refund grows again"
    assert decision.told


def test_an_older_word_that_comes_later_moves_nothing() -> None:
    after_all = refund(
        RefundStage.BOOKED_NOT_PAID,
        books=RefundBooks(entry=RefundEntry.FAILED, psp_reference=MODIFICATION, effective_at=LATER),
    )
    decision = decided(after_all, booked(RefundEntry.REFUNDED, EARLIER))

    assert decision.event is RefundEvent.BOOKS_OUTDATED
    assert decision.after.outcome is RefundOutcome.FAILED


def test_without_times_the_later_step_of_the_story_stands() -> None:
    failed = decided(refund(RefundStage.RECEIVED), booked(RefundEntry.FAILED, None)).after

    assert decided(failed, booked(RefundEntry.REFUNDED, None)).after.outcome is RefundOutcome.FAILED


def test_a_later_yes_after_a_no_is_believed_aloud() -> None:
    declined = decided(refund(RefundStage.RECEIVED), booked(RefundEntry.DECLINED, EARLIER)).after
    decision = decided(declined, booked(RefundEntry.REFUNDED, LATER))

    assert decision.after.outcome is RefundOutcome.REFUNDED
    assert decision.alarm is Alarm.REFUND_CONTRADICTS


def test_the_same_word_again_is_no_news() -> None:
    decision = decided(refund(RefundStage.BOOKED_PAID), booked(RefundEntry.REFUNDED, LATER))

    assert decision.event is RefundEvent.BOOKS_AGREE
    assert not decision.commands


def test_the_terminals_no_and_the_books_yes_is_a_yes_aloud() -> None:
    decision = decided(refund(RefundStage.NOT_PAID), booked(RefundEntry.REFUNDED))

    assert decision.after.outcome is RefundOutcome.REFUNDED
    assert decision.alarm is Alarm.REFUND_CONTRADICTS


@pytest.mark.parametrize(
    "said",
    [
        booked(RefundEntry.REFUNDED, amount=Money("EUR", 400)),
        booked(RefundEntry.REFUNDED, amount=Money("USD", 450)),
        booked(RefundEntry.FAILED, amount=Money("EUR", 400)),
    ],
)
@pytest.mark.parametrize("stage", RefundStage)
def test_another_amount_moves_nothing_and_alarms(stage: RefundStage, said: Evidence) -> None:
    before = refund(stage, books=None)
    decision = decided(before, said)

    assert decision.after.stage is stage
    assert decision.alarm is Alarm.REFUND_CONTRADICTS


def test_a_second_modification_under_one_reference_is_money_back_twice_and_alarms() -> None:
    decision = decided(
        refund(RefundStage.BOOKED_PAID), booked(RefundEntry.REFUNDED, LATER, psp_reference=OTHER_MODIFICATION)
    )

    assert decision.event is RefundEvent.BOOKS_DIFFER
    assert decision.alarm is Alarm.REFUND_CONTRADICTS
    assert decision.paid_back_minor == 0


def test_a_cancellation_needs_no_amount() -> None:
    decision = decided(refund(RefundStage.RECEIVED), booked(RefundEntry.CANCELLED, amount=Money("EUR", 0)))

    assert decision.after.outcome is RefundOutcome.CANCELLED


def test_the_books_may_be_the_first_to_know_that_it_was_received() -> None:
    decision = decided(refund(RefundStage.UNKNOWN), booked(RefundEntry.RECEIVED))

    assert ended(decision) == (State.PENDING, None, RefundReason.RECEIVED)


def test_seven_days_of_silence_alarm_and_decide_nothing() -> None:
    decision = decided(refund(RefundStage.RECEIVED), OutcomeOverdue())

    assert decision.alarm is Alarm.REFUND_OVERDUE
    assert decision.after.stage is RefundStage.RECEIVED
    assert not decision.told


@pytest.mark.parametrize("stage", [RefundStage.NOT_PAID, RefundStage.PAID, RefundStage.BOOKED_PAID])
def test_a_deadline_that_was_overtaken_changes_nothing(stage: RefundStage) -> None:
    for late in (OutcomeOverdue(), AnswerWindowPassed(), SendByPassed()):
        decision = decided(refund(stage), late)
        assert decision.after.stage is stage
        assert decision.alarm is None
