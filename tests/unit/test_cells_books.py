"""The delicate cells, one claim each: what the platform's books say, in every stage."""

from datetime import datetime, timedelta

import pytest

from orchestrator.evidence import (
    BooksEntry,
    Evidence,
    Exchange,
    NotFoundReported,
)
from orchestrator.meaning import Alarm
from orchestrator.model import Books, Money, Outcome, Reason, Stage, State, Transaction
from tests.cells import (
    CANCELLATION,
    CHARGED,
    CHECK,
    COVERS,
    IN_DOUBT,
    IN_PROGRESS,
    NOT_FOUND,
    PAST_HORIZON,
    REFUSED,
    SILENT,
    TELL,
    UNCHARGED,
    assert_disputed,
    assert_nothing,
    assert_only_asks,
    believed,
    decided,
    planned,
    told_through,
)
from tests.factories import (
    NOW,
    OTHER_PSP,
    PSP,
    SERVICE_ID,
    WINDOW_PASSED,
    approved,
    authorisation,
    booked,
    books,
    failed,
    missing,
    nested,
    refused,
    transaction,
)

# --- AUTHORISATION true ---------------------------------------------------------------------------------------------


def test_an_authorisation_before_the_send_is_no_outcome_but_asks_with_an_alarm() -> None:
    decision = decided(transaction(), authorisation())

    assert decision.after.stage is Stage.QUEUED
    assert decision.alarm == Alarm.BOOKED_BEFORE_SEND
    assert planned(decision) == {CHECK: 0}


def test_an_authorisation_of_a_sent_payment_asks_for_the_status_and_is_no_outcome() -> None:
    decision = decided(transaction(Stage.SENT), authorisation())

    assert_only_asks(decision)
    assert decision.after.books == booked()


@IN_DOUBT
@pytest.mark.parametrize("said", [authorisation(), authorisation(psp_reference=None, amount=None)])
def test_an_agreeing_result_after_an_authorisation_confirms_and_reconciles_at_once(
    stage: Stage, said: Evidence
) -> None:
    tx = decided(transaction(stage), said).after

    decision = decided(tx, approved(), NOW + timedelta(seconds=5))

    assert believed(decision.after) == (State.RECONCILED, Outcome.APPROVED, None)
    assert decision.after.concluded_at == decision.after.reconciled_at == NOW + timedelta(seconds=5)
    assert decision.after.psp_reference == PSP
    assert decision.alarm is None
    assert planned(decision) == {TELL: 0}


@pytest.mark.parametrize("stage", [Stage.QUEUED, Stage.NOT_PERFORMED])
def test_a_late_charge_that_the_books_already_have_is_reconciled_loudly(stage: Stage) -> None:
    decision = decided(transaction(stage, books=booked()), approved())

    assert (decision.after.state, decision.after.outcome) == (State.RECONCILED, Outcome.APPROVED)
    assert decision.after.late
    assert decision.alarm == Alarm.LATE_APPROVAL
    assert planned(decision) == {TELL: 0}


@IN_DOUBT
def test_an_amount_above_the_request_is_alarmed_even_when_the_books_agree(stage: Stage) -> None:
    decision = decided(transaction(stage, books=booked(amount=Money("EUR", 1300))), approved(1300))

    assert decision.after.stage is Stage.RECONCILED_CHARGED
    assert decision.alarm == Alarm.AMOUNT_ABOVE_REQUEST


@IN_DOUBT
@pytest.mark.parametrize(
    "memory",
    [booked(psp_reference=OTHER_PSP), booked(amount=Money("EUR", 500)), booked(amount=Money("EUR", 1300))],
)
def test_a_result_that_the_books_do_not_name_is_confirmed_with_an_alarm(stage: Stage, memory: Books) -> None:
    decision = decided(transaction(stage, books=memory), approved())

    assert believed(decision.after) == (State.CONFIRMED, Outcome.APPROVED, None)
    assert decision.after.authorised_minor == 1099
    assert decision.alarm == Alarm.BOOKS_DIFFER
    assert planned(decision) == {TELL: 0}


def test_an_authorisation_settles_an_unknown_after_one_inconclusive_check() -> None:
    waiting = decided(transaction(Stage.UNKNOWN), authorisation())
    settled = decided(waiting.after, missing(Exchange.STATUS))

    assert_only_asks(waiting)
    assert believed(settled.after) == (State.RECONCILED, Outcome.APPROVED, Reason.BOOKS)
    assert (settled.after.authorised_minor, settled.after.psp_reference) == (1099, PSP)
    assert planned(settled) == {TELL: 0}
    assert settled.alarm is None


@pytest.mark.parametrize(
    ("amount", "alarm"),
    [
        (Money("EUR", 1100), Alarm.AMOUNT_ABOVE_REQUEST),
        (Money("EUR", 1099), None),
        (Money("EUR", 1098), Alarm.AMOUNT_BELOW_REQUEST),
        (None, None),
    ],
)
def test_an_unknown_that_the_books_settle_at_another_amount_is_an_alarm(
    amount: Money | None, alarm: Alarm | None
) -> None:
    asked = transaction(Stage.UNKNOWN, asked_since_unknown=True)

    at_once = decided(asked, authorisation(amount=amount))
    after_a_check = decided(
        decided(transaction(Stage.UNKNOWN), authorisation(amount=amount)).after, missing(Exchange.STATUS)
    )

    for settled in (at_once, after_a_check):
        assert settled.after.state is State.RECONCILED
        assert settled.after.authorised_minor == (amount.minor if amount else 1099)
        assert settled.alarm is alarm


@pytest.mark.parametrize(
    "inconclusive",
    [
        missing(Exchange.STATUS),
        refused(Exchange.STATUS),
        NOT_FOUND,
        nested(failed("SomethingNew")),
        NotFoundReported(last_service_id=SERVICE_ID),
    ],
)
def test_any_inconclusive_check_will_do_before_or_after_the_authorisation(inconclusive: Evidence) -> None:
    before = told_through(transaction(Stage.UNKNOWN), (0, inconclusive), (1, authorisation()))
    after = told_through(transaction(Stage.UNKNOWN), (0, authorisation()), (1, inconclusive))

    assert believed(before) == believed(after) == (State.RECONCILED, Outcome.APPROVED, Reason.BOOKS)


def test_a_check_that_says_in_progress_is_not_inconclusive() -> None:
    before = told_through(transaction(Stage.UNKNOWN), (0, IN_PROGRESS), (1, authorisation()))
    after = told_through(transaction(Stage.UNKNOWN), (0, authorisation()), (1, IN_PROGRESS))

    assert before.state is after.state is State.UNKNOWN


@pytest.mark.parametrize("inconclusive", [missing(Exchange.STATUS), NOT_FOUND])
def test_a_check_before_the_window_passed_does_not_count_as_the_inconclusive_one(inconclusive: Evidence) -> None:
    tx = told_through(transaction(Stage.SENT), (0, inconclusive), (1, WINDOW_PASSED.evidence), (2, authorisation()))

    assert tx.state is State.UNKNOWN


def test_not_found_behind_the_fence_never_beats_the_books() -> None:
    tx = transaction(Stage.UNKNOWN, not_found_at=NOW - timedelta(seconds=31), books=booked())

    assert decided(tx, NOT_FOUND).after.outcome is Outcome.APPROVED


def test_books_that_name_less_settle_an_unknown_as_partially_approved() -> None:
    less = authorisation(amount=Money("EUR", 700))

    tx = told_through(transaction(Stage.UNKNOWN), (0, missing(Exchange.STATUS)), (1, less))

    assert (tx.outcome, tx.authorised_minor) == (Outcome.PARTIALLY_APPROVED, 700)


def test_books_that_name_no_amount_mean_the_one_that_was_asked_for() -> None:
    bare = authorisation(psp_reference=None, amount=None)

    tx = told_through(transaction(Stage.UNKNOWN), (0, missing(Exchange.STATUS)), (1, bare))

    assert (tx.outcome, tx.authorised_minor, tx.psp_reference) == (Outcome.APPROVED, 1099, None)


def test_an_authorisation_after_not_performed_is_late_reconciled_and_alarmed() -> None:
    decision = decided(transaction(Stage.NOT_PERFORMED), authorisation())

    assert believed(decision.after) == (State.RECONCILED, Outcome.APPROVED, Reason.BOOKS)
    assert decision.after.late
    assert not decision.after.sentinel
    assert CHECK in decision.obsolete
    assert decision.alarm == Alarm.LATE_APPROVAL
    assert planned(decision) == {TELL: 0}


@pytest.mark.parametrize("said", [authorisation(), authorisation(psp_reference=None, amount=None)])
def test_an_authorisation_reconciles_a_charge(said: Evidence) -> None:
    decision = decided(transaction(Stage.CHARGED, outcome=Outcome.APPROVED), said)

    assert believed(decision.after) == (State.RECONCILED, Outcome.APPROVED, None)
    assert (decision.after.authorised_minor, decision.after.psp_reference) == (1099, PSP)
    assert decision.alarm is None


def test_an_authorisation_names_the_reference_that_the_terminal_did_not() -> None:
    decision = decided(transaction(Stage.CHARGED, psp_reference=None), authorisation())

    assert decision.after.stage is Stage.RECONCILED_CHARGED
    assert decision.after.psp_reference == PSP


def test_an_authorisation_again_changes_nothing() -> None:
    assert_nothing(decided(transaction(Stage.RECONCILED_CHARGED), authorisation()))


@UNCHARGED
def test_an_authorisation_against_a_refusal_is_a_contradiction(stage: Stage) -> None:
    assert_disputed(decided(transaction(stage), authorisation()))


def test_an_authorisation_leaves_a_contradiction() -> None:
    decision = decided(transaction(Stage.DISPUTED), authorisation())

    assert believed(decision.after) == (State.RECONCILED, Outcome.APPROVED, Reason.BOOKS)
    assert planned(decision) == {TELL: 0}


@pytest.mark.parametrize("stage", list(Stage))
def test_an_authorisation_in_another_currency_is_a_difference_everywhere(stage: Stage) -> None:
    decision = decided(transaction(stage), authorisation(amount=Money("USD", 1099)))

    assert believed(decision.after) == believed(decision.before)
    assert decision.alarm == Alarm.BOOKS_DIFFER
    assert decision.commands == ()


# --- AUTHORISATION false --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", [Stage.QUEUED, Stage.SENT, Stage.UNKNOWN, Stage.DISPUTED, Stage.NOT_PERFORMED])
def test_a_refused_authorisation_is_only_journalled(stage: Stage) -> None:
    assert_nothing(decided(transaction(stage), REFUSED))


@pytest.mark.parametrize("stage", [Stage.UNKNOWN, Stage.DISPUTED])
@pytest.mark.parametrize(("said", "at"), [(REFUSED, PAST_HORIZON), (COVERS, NOW)])
def test_a_refused_authorisation_settles_an_unknown_past_48_h_or_with_a_report_that_covers_the_day(
    stage: Stage, said: Evidence, at: datetime
) -> None:
    decision = decided(transaction(stage), said, at)

    assert believed(decision.after) == (State.RECONCILED, Outcome.DECLINED, Reason.BOOKS)
    assert planned(decision) == {TELL: 0}


def test_a_refused_authorisation_settles_nothing_a_second_before_48_h() -> None:
    assert_nothing(decided(transaction(Stage.UNKNOWN), REFUSED, PAST_HORIZON - timedelta(seconds=1)))


def test_a_refused_authorisation_never_settles_by_age_what_was_never_sent() -> None:
    assert_nothing(decided(transaction(Stage.DISPUTED, sent_at=None, reason=Reason.NEVER_SENT), REFUSED, PAST_HORIZON))


@CHARGED
def test_a_refused_authorisation_contradicts_a_charge_of_the_same_reference(stage: Stage) -> None:
    decision = decided(transaction(stage), REFUSED)

    assert_disputed(decision)
    assert decision.alarm == Alarm.CONTRADICTION


@CHARGED
@pytest.mark.parametrize("psp_reference", [OTHER_PSP, None])
def test_a_refused_authorisation_of_another_reference_is_another_try(stage: Stage, psp_reference: str | None) -> None:
    assert_nothing(decided(transaction(stage), authorisation(success=False, psp_reference=psp_reference)))


@pytest.mark.parametrize("outcome", [Outcome.DECLINED, Outcome.CANCELLED])
def test_a_refused_authorisation_reconciles_a_refusal_and_keeps_its_outcome(outcome: Outcome) -> None:
    decision = decided(transaction(Stage.NOT_CHARGED, outcome=outcome), REFUSED)

    assert believed(decision.after) == (State.RECONCILED, outcome, None)
    assert decision.alarm is None


# --- CANCELLATION, and the rest of the books ------------------------------------------------------------------------


@pytest.mark.parametrize("stage", [Stage.UNKNOWN, Stage.DISPUTED])
def test_a_cancellation_settles_an_unknown_as_declined(stage: Stage) -> None:
    decision = decided(transaction(stage), CANCELLATION)

    assert believed(decision.after) == (State.RECONCILED, Outcome.DECLINED, Reason.BOOKS)
    assert planned(decision) == {TELL: 0}
    assert decision.alarm is None


@pytest.mark.parametrize("outcome", [Outcome.DECLINED, Outcome.ABORTED, Outcome.CANCELLED])
def test_a_cancellation_reconciles_a_refusal_and_keeps_its_outcome(outcome: Outcome) -> None:
    decision = decided(transaction(Stage.NOT_CHARGED, outcome=outcome), CANCELLATION)

    assert believed(decision.after) == (State.RECONCILED, outcome, None)


def test_a_cancellation_ends_the_sentinel_of_what_was_not_performed() -> None:
    decision = decided(transaction(Stage.NOT_PERFORMED), CANCELLATION)

    assert believed(decision.after) == (State.RECONCILED, Outcome.NOT_PERFORMED, Reason.NOT_FOUND)
    assert not decision.after.sentinel
    assert CHECK in decision.obsolete


def test_a_cancellation_of_what_is_reconciled_without_a_charge_changes_nothing() -> None:
    assert_nothing(decided(transaction(Stage.RECONCILED_NOT_CHARGED), CANCELLATION))


@CHARGED
def test_a_cancellation_of_a_charge_is_unknown_with_an_alarm(stage: Stage) -> None:
    decision = decided(transaction(stage), CANCELLATION)

    assert_disputed(decision)
    assert decision.alarm == Alarm.CONTRADICTION


def test_a_cancellation_of_a_sent_payment_waits_for_the_terminal() -> None:
    assert_nothing(decided(transaction(Stage.SENT), CANCELLATION))


@pytest.mark.parametrize("stage", list(Stage))
@pytest.mark.parametrize("entry", [BooksEntry.DIFFERENCE, BooksEntry.REFUNDED_ELSEWHERE])
def test_a_chargeback_or_a_refund_made_elsewhere_is_a_difference_and_never_a_move(
    stage: Stage, entry: BooksEntry
) -> None:
    decision = decided(transaction(stage), books(entry))

    assert believed(decision.after) == believed(decision.before)
    assert decision.alarm == Alarm.BOOKS_DIFFER
    assert decision.commands == ()


# --- what is remembered of the books --------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", [Stage.QUEUED, Stage.SENT, Stage.UNKNOWN, Stage.CHARGED, Stage.DISPUTED])
def test_the_latest_word_of_the_books_is_remembered(stage: Stage) -> None:
    assert decided(transaction(stage), authorisation()).after.books == booked()
    cancelled = decided(transaction(stage, books=booked()), CANCELLATION).after
    assert cancelled.books == booked(authorised=False)


def test_what_was_taken_back_before_anything_was_sent_is_another_payment() -> None:
    """Else a lost answer to what is sent later would be declined by it."""
    decision = decided(transaction(Stage.QUEUED), CANCELLATION)

    assert_nothing(decision)
    assert decision.after.books is None


@pytest.mark.parametrize(
    ("tx", "said"),
    [
        (transaction(Stage.UNKNOWN), COVERS),
        (transaction(Stage.NOT_CHARGED), REFUSED),
        (transaction(Stage.CHARGED), REFUSED),
        (transaction(Stage.CHARGED, provisional=True), REFUSED),
    ],
)
def test_a_refusal_in_the_books_that_moves_is_remembered(tx: Transaction, said: Evidence) -> None:
    assert decided(tx, said).after.books == booked(authorised=False)


@CHARGED
def test_a_refusal_without_a_reference_is_not_the_same_as_a_charge_without_one(stage: Stage) -> None:
    assert_nothing(decided(transaction(stage, psp_reference=None), authorisation(success=False, psp_reference=None)))


def test_what_was_late_stays_late_when_the_books_settle_it() -> None:
    assert decided(transaction(Stage.DISPUTED, late=True), authorisation()).after.late
    assert not decided(transaction(Stage.DISPUTED), authorisation()).after.late


# --- the books are loud only where they disagree --------------------------------------------------------------------


def test_a_cancellation_before_the_send_is_remembered_and_moves_nothing() -> None:
    assert_nothing(decided(transaction(), CANCELLATION))


@pytest.mark.parametrize(
    ("tx", "said"),
    [
        (transaction(Stage.DISPUTED), authorisation()),
        (transaction(Stage.DISPUTED), COVERS),
        (transaction(Stage.UNKNOWN), COVERS),
        (transaction(Stage.CHARGED), authorisation()),
        (transaction(Stage.NOT_CHARGED), REFUSED),
        (transaction(Stage.NOT_CHARGED), CANCELLATION),
        (transaction(Stage.NOT_PERFORMED), CANCELLATION),
        (transaction(Stage.NOT_CHARGED), SILENT),
    ],
)
def test_books_that_settle_or_agree_raise_no_alarm_and_ask_nothing(tx: Transaction, said: Evidence) -> None:
    decision = decided(tx, said)

    assert decision.after.state is State.RECONCILED
    assert decision.alarm is None
    assert planned(decision) == {TELL: 0}
