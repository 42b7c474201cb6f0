"""The delicate cells, one claim each: what a terminal says of its own payment, in every stage."""

from typing import Any

import pytest

from orchestrator.commands import DROPPABLE, CommandKind
from orchestrator.evidence import (
    Evidence,
    Exchange,
)
from orchestrator.meaning import Alarm
from orchestrator.model import Money, Outcome, Reason, Stage, State
from tests.cells import (
    CHARGED,
    IN_DOUBT,
    IN_PROGRESS,
    NOT_FOUND,
    REFUSED,
    ROUTES,
    TELL,
    UNCHARGED,
    Route,
    assert_disputed,
    assert_late,
    assert_nothing,
    assert_only_asks,
    believed,
    decided,
    planned,
)
from tests.factories import (
    AMOUNT,
    CLAIMED,
    NOW,
    OTHER_PSP,
    PSP,
    SERVICE_ID,
    approved,
    authorisation,
    booked,
    busy,
    by_books,
    failed,
    missing,
    nested,
    pushed,
    refused,
    result,
    transaction,
)

# --- an authentic result --------------------------------------------------------------------------------------------


def test_a_charge_that_was_never_sent_is_confirmed_loudly_and_never_sent_afterwards() -> None:
    decision = decided(transaction(), pushed(approved(), tagged=True))

    assert_late(decision)
    assert {CommandKind.SEND, CommandKind.EXPIRE} <= decision.obsolete


@pytest.mark.parametrize(
    "evidence",
    [
        failed(),
        failed("Busy"),
        failed("SomethingNew"),
        nested(failed("SomethingNew")),
        pushed(failed("Cancel"), tagged=True),
        IN_PROGRESS,
        busy(SERVICE_ID),
        missing(),
        refused(),
    ],
)
def test_any_other_news_of_what_was_never_sent_is_unknown_with_an_alarm(evidence: Evidence) -> None:
    decision = decided(transaction(), evidence)

    assert_disputed(decision, Reason.NEVER_SENT)
    assert decision.alarm == Alarm.ANSWER_TO_WHAT_WAS_NEVER_SENT
    assert {CommandKind.SEND, CommandKind.EXPIRE} <= decision.obsolete


@pytest.mark.parametrize("evidence", [NOT_FOUND, missing(Exchange.STATUS), missing(Exchange.ABORT)])
def test_a_terminal_that_knows_nothing_of_what_was_never_sent_changes_nothing(evidence: Evidence) -> None:
    assert_nothing(decided(transaction(), evidence))


@IN_DOUBT
@ROUTES
def test_an_authentic_charge_concludes_in_pending_as_in_unknown(stage: Stage, route: Route) -> None:
    decision = decided(transaction(stage), route(approved()))

    assert believed(decision.after) == (State.CONFIRMED, Outcome.APPROVED, None)
    assert (decision.after.authorised_minor, decision.after.psp_reference) == (1099, PSP)
    assert decision.after.tender_reference == approved().tender_reference
    assert decision.after.concluded_at == NOW
    assert not decision.after.late
    assert planned(decision) == {TELL: 0}
    assert decision.obsolete == DROPPABLE
    assert decision.alarm is None


@IN_DOUBT
@ROUTES
@pytest.mark.parametrize(
    ("condition", "outcome", "reason"),
    [
        ("Refusal", Outcome.DECLINED, None),
        ("InvalidCard", Outcome.DECLINED, None),
        ("WrongPIN", Outcome.DECLINED, None),
        ("PaymentRestriction", Outcome.DECLINED, None),
        ("Cancel", Outcome.CANCELLED, None),
        ("Aborted", Outcome.ABORTED, None),
        ("Busy", Outcome.NOT_PERFORMED, Reason.TERMINAL_BUSY),
        ("DeviceOut", Outcome.NOT_PERFORMED, Reason.TERMINAL_UNAVAILABLE),
        ("LoggedOut", Outcome.NOT_PERFORMED, Reason.TERMINAL_UNAVAILABLE),
        ("MessageFormat", Outcome.NOT_PERFORMED, Reason.NOT_ALLOWED),
        ("NotAllowed", Outcome.NOT_PERFORMED, Reason.NOT_ALLOWED),
        ("InsertedCard", Outcome.NOT_PERFORMED, Reason.TERMINAL_UNAVAILABLE),
        ("UnavailableDevice", Outcome.NOT_PERFORMED, Reason.TERMINAL_UNAVAILABLE),
        ("UnavailableService", Outcome.NOT_PERFORMED, Reason.TERMINAL_UNAVAILABLE),
    ],
)
def test_an_error_condition_that_is_listed_concludes(
    stage: Stage, route: Route, condition: str, outcome: Outcome, reason: Reason | None
) -> None:
    decision = decided(transaction(stage), route(failed(condition)))

    assert believed(decision.after) == (State.CONFIRMED, outcome, reason)
    assert decision.after.charged is False
    assert not decision.after.sentinel
    assert planned(decision) == {TELL: 0}
    assert decision.alarm is None


@IN_DOUBT
@pytest.mark.parametrize(
    "condition",
    ["InProgress", "NotFound", "UnreachableHost", "Communication timeout", "refusal", "SomethingNew", "", None],
)
def test_any_other_error_condition_asks_for_the_status(stage: Stage, condition: str | None) -> None:
    assert_only_asks(decided(transaction(stage), failed(condition)))
    assert_only_asks(decided(transaction(stage), nested(failed(condition))), after_s=5)


@ROUTES
def test_a_charge_after_not_performed_is_late_alarmed_and_told(route: Route) -> None:
    decision = decided(transaction(Stage.NOT_PERFORMED), route(approved()))

    assert_late(decision)
    assert not decision.after.sentinel
    assert decision.after.reason is None


@pytest.mark.parametrize(
    ("said", "outcome"),
    [(failed(), Outcome.DECLINED), (failed("Cancel"), Outcome.CANCELLED), (failed("Aborted"), Outcome.ABORTED)],
)
def test_a_refusal_after_not_performed_takes_that_outcome_without_alarm(said: Evidence, outcome: Outcome) -> None:
    decision = decided(transaction(Stage.NOT_PERFORMED), said)

    assert believed(decision.after) == (State.CONFIRMED, outcome, None)
    assert decision.alarm is None
    assert planned(decision) == {TELL: 0}


def test_not_performed_said_twice_changes_nothing() -> None:
    assert_nothing(decided(transaction(Stage.NOT_PERFORMED), failed("Busy")))


@UNCHARGED
@ROUTES
def test_approval_never_wins_over_the_terminals_own_refusal(stage: Stage, route: Route) -> None:
    decision = decided(transaction(stage), route(approved()))

    assert_disputed(decision)
    assert decision.alarm == Alarm.CONTRADICTION


@CHARGED
@ROUTES
def test_a_refusal_after_a_charge_is_a_contradiction(stage: Stage, route: Route) -> None:
    decision = decided(transaction(stage), route(failed()))

    assert_disputed(decision)
    assert decision.alarm == Alarm.CONTRADICTION


@pytest.mark.parametrize("said", [approved(), failed(), busy(), failed("SomethingNew"), IN_PROGRESS, NOT_FOUND])
def test_no_word_of_a_terminal_leaves_a_contradiction(said: Evidence) -> None:
    assert_nothing(decided(transaction(Stage.DISPUTED), said))


@CHARGED
@ROUTES
def test_the_same_charge_again_changes_nothing(stage: Stage, route: Route) -> None:
    assert_nothing(decided(transaction(stage), route(approved())))


@UNCHARGED
@ROUTES
def test_the_same_refusal_again_changes_nothing(stage: Stage, route: Route) -> None:
    assert_nothing(decided(transaction(stage), route(failed())))


# --- another amount -------------------------------------------------------------------------------------------------


@IN_DOUBT
def test_more_than_asked_with_a_tip_named_is_approved(stage: Stage) -> None:
    decision = decided(transaction(stage), approved(1249, extra_minor=150))

    assert (decision.after.outcome, decision.after.authorised_minor) == (Outcome.APPROVED, 1249)
    assert decision.alarm is None


@IN_DOUBT
def test_more_than_asked_with_tip_cashback_and_surcharge_named_is_approved_with_each(stage: Stage) -> None:
    named = approved(1249, extra_minor=150, tip_minor=100, cashback_minor=30, surcharge_minor=20)
    decision = decided(transaction(stage), named)

    assert (decision.after.outcome, decision.after.authorised_minor) == (Outcome.APPROVED, 1249)
    assert decision.alarm is None


@IN_DOUBT
def test_what_the_shopper_pays_in_another_currency_is_no_other_amount(stage: Stage) -> None:
    decision = decided(
        transaction(stage), approved(dcc_amount=Money("GBP", 961), dcc_rate="0.874431", dcc_accepted=True)
    )

    assert (decision.after.outcome, decision.after.authorised_minor) == (Outcome.APPROVED, AMOUNT.minor)
    assert decision.alarm is None


@IN_DOUBT
@pytest.mark.parametrize("extra_minor", [0, 149])
def test_more_than_asked_and_named_is_approved_with_an_alarm(stage: Stage, extra_minor: int) -> None:
    decision = decided(transaction(stage), approved(1249, extra_minor=extra_minor))

    assert (decision.after.outcome, decision.after.authorised_minor) == (Outcome.APPROVED, 1249)
    assert decision.alarm == Alarm.AMOUNT_ABOVE_REQUEST


@IN_DOUBT
def test_less_than_asked_with_success_is_partially_approved_with_an_alarm(stage: Stage) -> None:
    decision = decided(transaction(stage), approved(700))

    assert (decision.after.outcome, decision.after.authorised_minor) == (Outcome.PARTIALLY_APPROVED, 700)
    assert decision.alarm is not None


@IN_DOUBT
def test_partial_moves_money_and_is_what_was_allowed(stage: Stage) -> None:
    decision = decided(transaction(stage), approved(700, result="Partial"))

    assert (decision.after.outcome, decision.after.charged) == (Outcome.PARTIALLY_APPROVED, True)
    assert decision.after.authorised_minor == 700
    assert decision.alarm is None


@IN_DOUBT
@pytest.mark.parametrize(
    "said",
    [
        approved(authorised=Money("USD", 1099)),
        approved(authorised=Money("EUR", 0)),
        approved(authorised=None),
        result("Maybe"),
    ],
)
def test_another_currency_no_amount_or_an_unlisted_result_is_not_our_answer(stage: Stage, said: Evidence) -> None:
    assert_only_asks(decided(transaction(stage), said))


@CHARGED
def test_two_amounts_of_the_terminal_contradict(stage: Stage) -> None:
    assert_disputed(decided(transaction(stage), approved(1098)))


@CHARGED
def test_two_psp_references_of_the_terminal_contradict(stage: Stage) -> None:
    """The same amount under another PSP reference may be a second charge: a person has to look."""
    assert_disputed(decided(transaction(stage), approved(psp_reference=OTHER_PSP)))


def test_the_terminals_amount_against_the_books_is_a_difference() -> None:
    decision = decided(by_books(), approved(1098))

    assert believed(decision.after) == believed(decision.before)
    assert decision.after.authorised_minor == 1099
    assert decision.alarm == Alarm.BOOKS_DIFFER
    assert decision.commands == ()


@CHARGED
@pytest.mark.parametrize("other", [{"amount": Money("EUR", 1098)}, {"psp_reference": OTHER_PSP}])
def test_the_books_amount_or_reference_against_the_terminal_is_a_difference(
    stage: Stage, other: dict[str, Any]
) -> None:
    decision = decided(transaction(stage), authorisation(**other))

    assert believed(decision.after) == believed(decision.before)
    assert decision.after.authorised_minor == 1099
    assert decision.alarm == Alarm.BOOKS_DIFFER
    assert decision.commands == ()


# --- busy -----------------------------------------------------------------------------------------------------------


@IN_DOUBT
@ROUTES
def test_busy_with_somebody_else_is_told_at_once(stage: Stage, route: Route) -> None:
    decision = decided(transaction(stage), route(busy("0123456789")))

    assert believed(decision.after) == (State.CONFIRMED, Outcome.NOT_PERFORMED, Reason.TERMINAL_BUSY)
    assert planned(decision) == {TELL: 0}


def test_a_claim_is_one_way() -> None:
    assert decided(transaction(), CLAIMED.evidence).after.stage is Stage.SENT


# --- offline approvals ----------------------------------------------------------------------------------------------


@IN_DOUBT
def test_an_offline_approval_is_approved_provisionally(stage: Stage) -> None:
    decision = decided(transaction(stage), approved(online=False))

    assert believed(decision.after) == (State.CONFIRMED, Outcome.APPROVED, None)
    assert decision.after.provisional
    assert not decided(transaction(stage), approved(online=True)).after.provisional


def test_books_that_refuse_an_offline_approval_correct_it_loudly() -> None:
    decision = decided(transaction(Stage.CHARGED, provisional=True), REFUSED)

    assert believed(decision.after) == (State.RECONCILED, Outcome.DECLINED, Reason.BOOKS)
    assert (decision.after.authorised_minor, decision.after.provisional) == (None, False)
    assert decision.alarm == Alarm.OFFLINE_APPROVAL_REFUSED
    assert planned(decision) == {TELL: 0}


def test_another_tries_refusal_leaves_an_offline_approval_alone() -> None:
    other = authorisation(success=False, psp_reference=OTHER_PSP)

    assert_nothing(decided(transaction(Stage.CHARGED, provisional=True), other))


def test_books_that_agree_make_an_offline_approval_final_in_either_order() -> None:
    after = decided(transaction(Stage.CHARGED, provisional=True), authorisation()).after
    before = decided(transaction(Stage.SENT, books=booked()), approved(online=False)).after

    assert not after.provisional
    assert not before.provisional


# --- what an answer carries besides ---------------------------------------------------------------------------------


@IN_DOUBT
def test_only_busy_can_name_our_own_request_as_running(stage: Stage) -> None:
    assert decided(transaction(stage), failed("Refusal", busy_with=SERVICE_ID)).after.outcome is Outcome.DECLINED


def test_references_that_a_later_answer_leaves_out_are_kept() -> None:
    tx = transaction(Stage.NOT_PERFORMED, tender_reference="BV5k001", psp_reference=PSP)

    after = decided(tx, approved(tender_reference=None, psp_reference=None)).after

    assert (after.tender_reference, after.psp_reference) == ("BV5k001", PSP)


@UNCHARGED
def test_a_refusal_that_names_an_amount_is_still_a_refusal(stage: Stage) -> None:
    assert_nothing(decided(transaction(stage), failed(authorised=approved().authorised)))


@IN_DOUBT
def test_an_approval_has_no_reason_whatever_condition_comes_with_it(stage: Stage) -> None:
    assert decided(transaction(stage), approved(error_condition="Busy")).after.reason is None
