"""The delicate cells, one claim each: what a status check may say, and what it proves behind the fence."""

from datetime import timedelta

import pytest

from orchestrator.evidence import (
    CheckAsked,
    Evidence,
    Exchange,
    NotFoundReported,
)
from orchestrator.meaning import Alarm
from orchestrator.model import Outcome, Reason, Stage, State, Transaction
from tests.cells import (
    ABORT,
    CHECK,
    IN_DOUBT,
    IN_PROGRESS,
    NOT_FOUND,
    PAST_HORIZON,
    SEND_ABORT,
    TELL,
    assert_nothing,
    assert_only_asks,
    believed,
    decided,
    planned,
    told_through,
)
from tests.factories import (
    NOW,
    SERVICE_ID,
    WINDOW_PASSED,
    absent,
    approved,
    booked,
    busy,
    failed,
    missing,
    nested,
    pushed,
    refused,
    transaction,
)

# --- in progress ----------------------------------------------------------------------------------------------------


@IN_DOUBT
@pytest.mark.parametrize("running", [IN_PROGRESS, nested(busy(SERVICE_ID))])
def test_in_progress_asks_again_later(stage: Stage, running: Evidence) -> None:
    assert_only_asks(decided(transaction(stage), running), after_s=5)
    assert_only_asks(decided(transaction(stage, checks=3), running), after_s=40)


@pytest.mark.parametrize("running", [IN_PROGRESS, nested(busy(SERVICE_ID)), busy(SERVICE_ID)])
def test_a_payment_that_runs_after_it_was_not_performed_is_unknown_alarmed_and_aborted(running: Evidence) -> None:
    decision = decided(transaction(Stage.NOT_PERFORMED, checks=2), running)

    assert believed(decision.after) == (State.UNKNOWN, None, Reason.NO_ANSWER)
    assert decision.alarm == Alarm.STARTED_AFTER_CONCLUSION
    assert planned(decision) == {SEND_ABORT: 0, CHECK: 5, TELL: 0}
    assert not decision.after.sentinel
    assert decision.after.concluded_at is None
    assert planned(decided(decision.after, IN_PROGRESS))[SEND_ABORT] == 0


def test_a_payment_that_runs_although_it_expired_unsent_is_unknown_alarmed_and_aborted() -> None:
    expired = transaction(Stage.NOT_PERFORMED, sent_at=None, sentinel=False, reason=Reason.EXPIRED)

    decision = decided(expired, IN_PROGRESS)

    assert decision.after.state is State.UNKNOWN
    assert decision.alarm == Alarm.STARTED_AFTER_CONCLUSION
    assert planned(decision) == {SEND_ABORT: 0, CHECK: 5, TELL: 0}


def test_what_runs_after_absence_was_reconciled_is_alarmed_aborted_and_watched() -> None:
    decision = decided(absent(checks=1), IN_PROGRESS)

    assert decision.alarm == Alarm.STARTED_AFTER_CONCLUSION
    assert planned(decision)[SEND_ABORT] == 0
    assert CHECK in planned(decision)


@pytest.mark.parametrize("running", [IN_PROGRESS, nested(busy(SERVICE_ID)), pushed(busy(SERVICE_ID), tagged=True)])
def test_in_progress_teaches_nothing_where_no_sentinel_watches(running: Evidence) -> None:
    for outcome in (Outcome.DECLINED, Outcome.CANCELLED, Outcome.ABORTED):
        assert_nothing(decided(transaction(Stage.RECONCILED_NOT_CHARGED, outcome=outcome), running))


@pytest.mark.parametrize("stage", [Stage.NOT_CHARGED, Stage.CHARGED, Stage.RECONCILED_CHARGED, Stage.DISPUTED])
def test_in_progress_after_the_terminals_own_result_changes_nothing(stage: Stage) -> None:
    assert_nothing(decided(transaction(stage), IN_PROGRESS))


# --- not found ------------------------------------------------------------------------------------------------------


def test_not_found_before_the_window_has_passed_is_only_noted() -> None:
    decision = decided(transaction(Stage.SENT), NOT_FOUND)

    assert_only_asks(decision, after_s=5)
    assert decision.after.not_found_at is None


def test_the_second_not_found_thirty_seconds_after_the_first_concludes() -> None:
    first = decided(transaction(Stage.UNKNOWN), NOT_FOUND)
    second = decided(first.after, NOT_FOUND, NOW + timedelta(seconds=30))

    assert_only_asks(first, after_s=30.05)
    assert believed(second.after) == (State.CONFIRMED, Outcome.NOT_PERFORMED, Reason.NOT_FOUND)
    assert second.after.sentinel
    assert second.after.checks == 0
    assert planned(second) == {CHECK: 300, TELL: 0}
    assert CHECK not in second.obsolete
    assert second.alarm is None


def test_a_second_not_found_that_comes_too_soon_concludes_nothing() -> None:
    first = decided(transaction(Stage.UNKNOWN), NOT_FOUND)
    second = decided(first.after, NOT_FOUND, NOW + timedelta(seconds=29.9))

    assert second.after.state is State.UNKNOWN
    assert planned(second)[CHECK] == 10


def test_a_not_found_before_the_window_does_not_count_as_the_first() -> None:
    after = told_through(
        transaction(Stage.SENT), (0, NOT_FOUND), (60, WINDOW_PASSED.evidence), (61, NOT_FOUND), (90, NOT_FOUND)
    )

    assert after.state is State.UNKNOWN


@pytest.mark.parametrize(
    "running", [IN_PROGRESS, nested(busy(SERVICE_ID)), pushed(busy(SERVICE_ID), tagged=True), busy(SERVICE_ID)]
)
def test_in_progress_between_two_not_founds_starts_anew(running: Evidence) -> None:
    after = told_through(transaction(Stage.UNKNOWN), (0, NOT_FOUND), (20, running), (40, NOT_FOUND))
    end = told_through(after, (71, NOT_FOUND))

    assert after.state is State.UNKNOWN
    assert end.outcome is Outcome.NOT_PERFORMED


def test_an_inconclusive_check_between_two_not_founds_does_not_start_anew() -> None:
    after = told_through(transaction(Stage.UNKNOWN), (0, NOT_FOUND), (20, missing(Exchange.STATUS)), (40, NOT_FOUND))

    assert after.outcome is Outcome.NOT_PERFORMED


@pytest.mark.parametrize(
    "teaches_nothing",
    [NotFoundReported(last_service_id=SERVICE_ID), NotFoundReported(terminal_reassigned=True)],
)
def test_not_found_from_a_terminal_that_saw_ours_last_or_was_re_assigned_teaches_nothing(
    teaches_nothing: Evidence,
) -> None:
    after = told_through(transaction(Stage.UNKNOWN), (0, teaches_nothing), (40, teaches_nothing), (80, NOT_FOUND))
    waiting = told_through(transaction(Stage.UNKNOWN), (0, NOT_FOUND), (40, teaches_nothing))

    assert after.state is State.UNKNOWN
    assert waiting.state is State.UNKNOWN


def test_not_found_that_names_another_as_the_last_request_counts() -> None:
    other = NotFoundReported(last_service_id="0123456789")

    after = told_through(transaction(Stage.UNKNOWN), (0, other), (40, other))

    assert after.outcome is Outcome.NOT_PERFORMED


def test_not_found_is_no_proof_once_the_terminal_may_have_forgotten() -> None:
    old = transaction(Stage.UNKNOWN, not_found_at=PAST_HORIZON - timedelta(hours=1), checks=50)

    decision = decided(old, NOT_FOUND, PAST_HORIZON)

    assert decision.after.state is State.UNKNOWN
    assert decision.alarm == Alarm.CHECKS_EXHAUSTED


@pytest.mark.parametrize("stage", [Stage.NOT_CHARGED, Stage.CHARGED, Stage.RECONCILED_CHARGED, Stage.DISPUTED])
def test_not_found_after_a_conclusion_changes_nothing(stage: Stage) -> None:
    assert_nothing(decided(transaction(stage), NOT_FOUND))


@pytest.mark.parametrize("tx", [transaction(Stage.NOT_PERFORMED, checks=1), absent(checks=1)])
@pytest.mark.parametrize("answer", [NOT_FOUND, missing(Exchange.STATUS), refused(Exchange.STATUS)])
def test_the_sentinel_goes_on_to_its_last_look_and_changes_nothing(tx: Transaction, answer: Evidence) -> None:
    concluded = tx.evolve(concluded_at=NOW)
    decision = decided(concluded, answer, NOW + timedelta(seconds=900))
    last = decided(concluded, answer, NOW + timedelta(hours=47))

    assert believed(decision.after) == believed(tx)
    assert decision.after.sentinel
    assert planned(decision) == {CHECK: 2700}
    assert planned(last) == {}
    assert last.alarm is None


@pytest.mark.parametrize("answer", [NOT_FOUND, missing(Exchange.STATUS), refused(Exchange.STATUS)])
def test_six_quick_checks_take_no_look_from_the_sentinel(answer: Evidence) -> None:
    tx = transaction(Stage.NOT_PERFORMED, concluded_at=NOW)

    for after_s in range(6):
        decision = decided(decided(tx, CheckAsked(asked_by="mira")).after, answer, NOW + timedelta(seconds=after_s))
        assert planned(decision) == {CHECK: 300 - after_s}
        tx = decision.after
    looked_at_s = [300.0]
    while CHECK in planned(decision := decided(tx, answer, NOW + timedelta(seconds=looked_at_s[-1]))):
        looked_at_s.append(looked_at_s[-1] + planned(decision)[CHECK])
        tx = decision.after

    assert looked_at_s == [300, 900, 3600, 6 * 3600, 24 * 3600, 47 * 3600]


def test_what_starts_to_run_at_the_sentinels_last_look_is_still_stopped() -> None:
    tx = transaction(Stage.NOT_PERFORMED, concluded_at=NOW, checks=60)

    decision = decided(tx, IN_PROGRESS, NOW + timedelta(hours=47))

    assert decision.after.state is State.UNKNOWN
    assert planned(decision)[SEND_ABORT] == 0


@pytest.mark.parametrize("answer", [NOT_FOUND, missing(Exchange.STATUS)])
def test_where_nothing_was_concluded_from_absence_no_sentinel_starts(answer: Evidence) -> None:
    assert_nothing(decided(transaction(Stage.NOT_PERFORMED, sentinel=False, reason=Reason.TERMINAL_BUSY), answer))
    assert_nothing(decided(transaction(Stage.RECONCILED_NOT_CHARGED), answer))


# --- rejected -------------------------------------------------------------------------------------------------------


@IN_DOUBT
@pytest.mark.parametrize("second", [NOT_FOUND, refused(Exchange.STATUS)])
def test_a_refusal_that_the_status_confirms_concludes_at_once(stage: Stage, second: Evidence) -> None:
    rejected = decided(transaction(stage), refused()).after

    decision = decided(rejected, second)

    assert believed(decision.after) == (State.CONFIRMED, Outcome.NOT_PERFORMED, Reason.REFUSED_BY_PLATFORM)
    assert decision.after.sentinel
    assert planned(decision) == {CHECK: 300, TELL: 0}


@IN_DOUBT
@pytest.mark.parametrize(
    "second",
    [
        refused(Exchange.STATUS, "http-403"),
        refused(Exchange.ABORT),
        missing(Exchange.STATUS),
        NotFoundReported(last_service_id=SERVICE_ID),
        NotFoundReported(terminal_reassigned=True),
    ],
)
def test_a_refusal_that_the_status_does_not_confirm_stays_open(stage: Stage, second: Evidence) -> None:
    rejected = decided(transaction(stage), refused()).after

    decision = decided(rejected, second)

    assert decision.after.outcome is None
    assert CHECK in planned(decision)


@IN_DOUBT
@pytest.mark.parametrize("running", [IN_PROGRESS, nested(busy(SERVICE_ID)), pushed(busy(SERVICE_ID), tagged=True)])
@pytest.mark.parametrize("second", [NOT_FOUND, refused(Exchange.STATUS)])
def test_a_refusal_is_void_once_the_payment_was_seen_running(stage: Stage, running: Evidence, second: Evidence) -> None:
    after = told_through(transaction(stage), (0, refused()), (1, running), (2, second))

    assert after.refused_with is None
    assert after.outcome is None


@IN_DOUBT
def test_a_refused_status_request_alone_proves_nothing(stage: Stage) -> None:
    assert_only_asks(decided(transaction(stage), refused(Exchange.STATUS)), after_s=5)


# --- status checks that teach nothing -------------------------------------------------------------------------------


@IN_DOUBT
def test_an_unanswered_status_check_is_repeated_on_schedule(stage: Stage) -> None:
    tx = transaction(stage)
    waits = []
    for _ in range(8):
        decision = decided(tx, missing(Exchange.STATUS))
        waits.append(planned(decision)[CHECK])
        tx = decision.after

    assert waits == [5, 10, 20, 40, 80, 160, 320, 3600]


def test_running_out_of_checks_raises_an_alarm_and_changes_nothing_else() -> None:
    decision = decided(transaction(Stage.UNKNOWN, checks=50), missing(Exchange.STATUS), PAST_HORIZON)

    assert believed(decision.after) == believed(decision.before)
    assert decision.commands == ()
    assert decision.alarm == Alarm.CHECKS_EXHAUSTED


def test_somebody_may_ask_for_a_check_whenever_something_was_sent() -> None:
    for stage in Stage:
        decision = decided(transaction(stage), CheckAsked(asked_by="mira"))

        assert believed(decision.after) == believed(decision.before)
        assert planned(decision) == ({} if stage is Stage.QUEUED else {CHECK: 0})


@pytest.mark.parametrize("again", [NOT_FOUND, refused(Exchange.STATUS)])
def test_the_sentinel_behind_a_refusal_goes_on_when_the_refusal_is_repeated(again: Evidence) -> None:
    refused_once = transaction(Stage.NOT_PERFORMED, reason=Reason.REFUSED_BY_PLATFORM, refused_with="http-401")

    decision = decided(refused_once.evolve(concluded_at=NOW), again, NOW + timedelta(seconds=300))

    assert believed(decision.after) == believed(refused_once)
    assert planned(decision) == {CHECK: 600}


def test_a_refusal_that_comes_after_the_conclusion_is_not_remembered() -> None:
    assert decided(transaction(Stage.NOT_PERFORMED), refused()).after.refused_with is None
    assert decided(transaction(Stage.SENT), refused()).after.refused_with == "http-401"


def test_an_abort_that_was_asked_for_stays_on_record() -> None:
    assert decided(transaction(Stage.CHARGED, abort_asked=True), ABORT).after.abort_asked


def test_only_an_answer_to_a_status_check_counts_as_one() -> None:
    for said in (busy(SERVICE_ID), approved(), failed("SomethingNew")):
        asked = decided(transaction(Stage.UNKNOWN), nested(said)).after
        told = decided(transaction(Stage.UNKNOWN), pushed(said, tagged=True)).after

        assert (asked.checked_at, asked.checks) == (NOW, 1)
        assert (told.checked_at, told.checks) == (None, 0)


def test_a_refusal_in_the_books_does_not_keep_two_not_founds_from_concluding() -> None:
    tx = transaction(Stage.UNKNOWN, books=booked(authorised=False))

    assert told_through(tx, (0, NOT_FOUND), (31, NOT_FOUND)).outcome is Outcome.NOT_PERFORMED
