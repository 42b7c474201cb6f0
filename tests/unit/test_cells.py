"""The delicate cells, one claim each: sends, aborts and hearsay, where a guess would cost money."""

from datetime import timedelta

import pytest

from orchestrator.commands import DROPPABLE, CommandKind
from orchestrator.evidence import (
    AbortSent,
    CheckAsked,
    Evidence,
    Exchange,
    NotDelivered,
    RejectPushed,
    SendByPassed,
    SendStarted,
)
from orchestrator.meaning import Alarm
from orchestrator.model import Books, Outcome, Reason, Stage, State, Transaction
from tests.cells import (
    ABORT,
    CHARGED,
    CHECK,
    CONCLUDED,
    CONTRADICTED,
    EXPECT,
    IN_DOUBT,
    IN_PROGRESS,
    NOT_FOUND,
    SEND_ABORT,
    TELL,
    UNCHARGED,
    assert_disputed,
    assert_nothing,
    assert_only_asks,
    believed,
    decided,
    planned,
)
from tests.factories import (
    NOW,
    SENT_AT,
    SERVICE_ID,
    WINDOW_PASSED,
    approved,
    busy,
    failed,
    missing,
    nested,
    pushed,
    refused,
    transaction,
)

# --- the claim, and the window --------------------------------------------------------------------------------------


def test_a_claim_moves_a_queued_payment_to_sent_and_starts_its_answer_window() -> None:
    decision = decided(transaction(), SendStarted(), SENT_AT)

    assert decision.after.stage is Stage.SENT
    assert decision.after.sent_at == SENT_AT
    assert planned(decision) == {EXPECT: 150.0}
    assert decision.obsolete == {
        CommandKind.SEND,
        CommandKind.EXPIRE,
        CHECK,
        SEND_ABORT,
    } - {CHECK, SEND_ABORT}
    assert not decision.told


def test_a_passed_window_makes_a_payment_unknown_asks_at_once_and_tells() -> None:
    decision = decided(transaction(Stage.SENT), WINDOW_PASSED.evidence)

    assert believed(decision.after) == (State.UNKNOWN, None, Reason.NO_ANSWER)
    assert planned(decision) == {CHECK: 0, TELL: 0}
    assert decision.alarm is None
    assert decision.obsolete == {CommandKind.SEND, CommandKind.EXPIRE, EXPECT}


@IN_DOUBT
def test_the_owner_of_the_claim_proves_that_nothing_was_delivered(stage: Stage) -> None:
    decision = decided(transaction(stage), NotDelivered(why="connect-timeout"))

    assert believed(decision.after) == (State.CONFIRMED, Outcome.NOT_PERFORMED, Reason.NOT_DELIVERED)
    assert planned(decision) == {TELL: 0}
    assert not decision.after.sentinel


@pytest.mark.parametrize("why", ["certificate-name", "certificate-not-trusted"])
def test_somebody_else_at_a_terminals_address_is_an_alarm_and_no_payment(why: str) -> None:
    decision = decided(transaction(Stage.SENT), NotDelivered(why=why))

    assert believed(decision.after) == (State.CONFIRMED, Outcome.NOT_PERFORMED, Reason.NOT_DELIVERED)
    assert decision.alarm is Alarm.WRONG_TERMINAL


@CHARGED
def test_not_delivered_against_a_charge_is_a_contradiction(stage: Stage) -> None:
    assert_disputed(decided(transaction(stage), NotDelivered(why="connect-timeout")))


@IN_DOUBT
@pytest.mark.parametrize("evidence", [missing(), refused()])
def test_a_missing_or_refused_answer_asks_for_the_status_now(stage: Stage, evidence: Evidence) -> None:
    assert_only_asks(decided(transaction(stage), evidence))


@CONCLUDED
@pytest.mark.parametrize("evidence", [missing(), refused(), WINDOW_PASSED.evidence, SendByPassed()])
def test_news_of_an_exchange_that_no_longer_matters_changes_nothing(stage: Stage, evidence: Evidence) -> None:
    assert_nothing(decided(transaction(stage), evidence))


# --- abort asked ----------------------------------------------------------------------------------------------------


def test_an_abort_before_the_send_concludes_aborted() -> None:
    decision = decided(transaction(), ABORT)

    assert believed(decision.after) == (State.CONFIRMED, Outcome.ABORTED, Reason.ABORTED_BEFORE_SEND)
    assert decision.after.sent_at is None
    assert planned(decision) == {TELL: 0}
    assert decision.alarm is None
    assert {CommandKind.SEND, CommandKind.EXPIRE} <= decision.obsolete


def test_an_abort_that_loses_to_the_claim_is_sent_to_the_terminal() -> None:
    after = decided(transaction(), SendStarted(), SENT_AT).after

    assert planned(decided(after, ABORT)) == {SEND_ABORT: 0}


@IN_DOUBT
def test_an_abort_in_doubt_goes_to_the_terminal_and_changes_nothing_else(stage: Stage) -> None:
    decision = decided(transaction(stage), ABORT)

    assert believed(decision.after) == believed(decision.before)
    assert decision.after.abort_asked
    assert planned(decision) == {SEND_ABORT: 0}
    assert decision.alarm is None


@pytest.mark.parametrize("reason", [Reason.CONTRADICTION, Reason.NEVER_SENT])
def test_an_abort_of_a_disputed_payment_goes_to_the_terminal(reason: Reason) -> None:
    decision = decided(transaction(Stage.DISPUTED, reason=reason), ABORT)

    assert believed(decision.after) == believed(decision.before)
    assert decision.after.abort_asked
    assert planned(decision) == {SEND_ABORT: 0}
    assert decision.alarm is None


@IN_DOUBT
@CONTRADICTED
def test_an_abort_that_is_under_way_outlives_a_contradiction(stage: Stage, memory: Books, said: Evidence) -> None:
    decision = decided(transaction(stage, books=memory), said)

    assert decision.after.stage is Stage.DISPUTED
    assert decision.obsolete == DROPPABLE - {SEND_ABORT}


@IN_DOUBT
@pytest.mark.parametrize("running", [IN_PROGRESS, nested(busy(SERVICE_ID))])
def test_an_abort_is_repeated_after_each_in_progress(stage: Stage, running: Evidence) -> None:
    aborting = transaction(stage, abort_asked=True)

    once = decided(aborting, running)
    twice = decided(once.after, running)

    assert planned(once)[SEND_ABORT] == planned(twice)[SEND_ABORT] == 0
    assert SEND_ABORT not in planned(decided(transaction(stage), running))


@CONCLUDED
def test_an_abort_after_the_conclusion_changes_nothing(stage: Stage) -> None:
    decision = decided(transaction(stage), ABORT)

    assert_nothing(decision)
    assert not decision.after.abort_asked


@IN_DOUBT
@pytest.mark.parametrize("answer", [missing(Exchange.ABORT), refused(Exchange.ABORT)])
def test_an_answer_to_an_abort_proves_nothing_so_the_status_is_asked(stage: Stage, answer: Evidence) -> None:
    assert_only_asks(decided(transaction(stage), answer), after_s=5)


# --- send_by passed -------------------------------------------------------------------------------------------------


def test_a_payment_that_was_not_sent_in_time_expires() -> None:
    decision = decided(transaction(), SendByPassed())

    assert believed(decision.after) == (State.CONFIRMED, Outcome.NOT_PERFORMED, Reason.EXPIRED)
    assert planned(decision) == {TELL: 0}
    assert CommandKind.SEND in decision.obsolete


@IN_DOUBT
def test_a_deadline_for_sending_means_nothing_once_sent(stage: Stage) -> None:
    assert_nothing(decided(transaction(stage), SendByPassed()))


# --- hearsay --------------------------------------------------------------------------------------------------------

UNTAGGED = pytest.mark.parametrize(
    "said",
    [pushed(approved(), tagged=False), pushed(failed(), tagged=False), pushed(busy(), tagged=False)],
)


@IN_DOUBT
@UNTAGGED
def test_hearsay_asks_for_the_status_now(stage: Stage, said: Evidence) -> None:
    assert_only_asks(decided(transaction(stage), said))


@IN_DOUBT
@pytest.mark.parametrize("why", ["a Reject", "our own Busy"])
def test_a_pushed_reject_and_an_untagged_busy_are_hearsay_too(stage: Stage, why: str) -> None:
    said = RejectPushed(why=why) if why == "a Reject" else pushed(busy(SERVICE_ID), tagged=False)

    assert_only_asks(decided(transaction(stage), said))


@IN_DOUBT
@UNTAGGED
def test_hearsay_asks_nothing_when_a_check_just_ended(stage: Stage, said: Evidence) -> None:
    asked = transaction(stage, checked_at=NOW - timedelta(seconds=1.9))

    assert_nothing(decided(asked, said))
    assert_only_asks(decided(asked.evolve(checked_at=NOW - timedelta(seconds=2)), said))


@UNTAGGED
def test_hearsay_about_what_was_never_sent_is_journalled_with_an_alarm(said: Evidence) -> None:
    decision = decided(transaction(), said)

    assert decision.after.stage is Stage.QUEUED
    assert decision.alarm == Alarm.HEARSAY_BEFORE_SEND
    assert decision.commands == ()


@CHARGED
def test_hearsay_that_disagrees_with_a_charge_asks_once(stage: Stage) -> None:
    assert_only_asks(decided(transaction(stage), pushed(failed(), tagged=False)))
    assert_only_asks(decided(transaction(stage), pushed(approved(1098), tagged=False)))
    assert_nothing(decided(transaction(stage), pushed(approved(), tagged=False)))


@UNCHARGED
def test_hearsay_that_disagrees_with_a_refusal_asks_once(stage: Stage) -> None:
    assert_only_asks(decided(transaction(stage), pushed(approved(), tagged=False)))
    assert_nothing(decided(transaction(stage), pushed(failed(), tagged=False)))


def test_hearsay_of_a_charge_after_not_performed_asks_once() -> None:
    assert_only_asks(decided(transaction(Stage.NOT_PERFORMED), pushed(approved(), tagged=False)))
    assert_nothing(decided(transaction(Stage.NOT_PERFORMED), pushed(failed("Busy"), tagged=False)))


@UNTAGGED
def test_hearsay_changes_no_contradiction(said: Evidence) -> None:
    assert_nothing(decided(transaction(Stage.DISPUTED), said))


@CONCLUDED
def test_hearsay_that_says_nothing_changes_nothing(stage: Stage) -> None:
    assert_nothing(decided(transaction(stage), RejectPushed(why="unparsable")))
    assert_nothing(decided(transaction(stage), pushed(failed("SomethingNew"), tagged=False)))


# --- what no longer matters -----------------------------------------------------------------------------------------

UNWATCHED = pytest.mark.parametrize(
    "tx",
    [
        transaction(Stage.DISPUTED),
        transaction(Stage.NOT_PERFORMED, sentinel=False, reason=Reason.TERMINAL_BUSY),
        transaction(Stage.NOT_CHARGED),
        transaction(Stage.CHARGED),
        transaction(Stage.RECONCILED_NOT_CHARGED),
        transaction(Stage.RECONCILED_CHARGED),
    ],
)


@UNWATCHED
@pytest.mark.parametrize("exchange", list(Exchange))
def test_an_exchange_that_ends_badly_after_the_end_changes_nothing(tx: Transaction, exchange: Exchange) -> None:
    assert_nothing(decided(tx, missing(exchange)))
    assert_nothing(decided(tx, refused(exchange)))


@UNWATCHED
@pytest.mark.parametrize("evidence", [AbortSent(answer="200"), SendByPassed(), WINDOW_PASSED.evidence, NOT_FOUND])
def test_a_clock_an_abort_or_a_not_found_after_the_end_changes_nothing(tx: Transaction, evidence: Evidence) -> None:
    assert_nothing(decided(tx, evidence))


def test_a_window_passes_once() -> None:
    assert_nothing(decided(transaction(Stage.UNKNOWN), WINDOW_PASSED.evidence))


@pytest.mark.parametrize(
    "stage",
    [Stage.QUEUED, Stage.DISPUTED, Stage.NOT_PERFORMED, Stage.NOT_CHARGED, Stage.RECONCILED_NOT_CHARGED],
)
def test_not_delivered_says_nothing_against_what_was_not_charged(stage: Stage) -> None:
    assert_nothing(decided(transaction(stage), NotDelivered(why="connect-timeout")))


def test_what_was_expected_raises_no_alarm() -> None:
    rejected = decided(transaction(Stage.UNKNOWN), refused()).after
    expected = [
        decided(transaction(), SendStarted()),
        decided(transaction(), SendByPassed()),
        decided(transaction(Stage.SENT), NotDelivered(why="dns")),
        decided(transaction(Stage.UNKNOWN), NotDelivered(why="dns")),
        decided(rejected, NOT_FOUND),
        decided(rejected.evolve(state=State.PENDING, reason=None), NOT_FOUND),
        *(decided(transaction(stage), CheckAsked(asked_by="mira")) for stage in Stage),
    ]

    assert [decision.alarm for decision in expected if decision.alarm] == []
