"""The delicate cells, one claim each: a report that says nothing, and people who settle what nobody else could."""

from datetime import timedelta

import pytest

from orchestrator.evidence import (
    Evidence,
)
from orchestrator.model import Outcome, Reason, Stage, State, Transaction
from tests.cells import (
    CANCELLATION,
    CHECK,
    NOT_FOUND,
    REFUSED,
    SILENT,
    TELL,
    assert_disputed,
    assert_nothing,
    believed,
    decided,
    planned,
)
from tests.factories import (
    NOW,
    approved,
    authorisation,
    busy,
    failed,
    pushed,
    ruled,
    ruling,
    transaction,
)

# --- a silent report ------------------------------------------------------------------------------------------------


def test_a_silent_report_reconciles_absence_and_the_sentinel_goes_on() -> None:
    decision = decided(transaction(Stage.NOT_PERFORMED), SILENT)

    assert believed(decision.after) == (State.RECONCILED, Outcome.NOT_PERFORMED, Reason.ABSENT_FROM_REPORT)
    assert decision.after.sentinel
    assert CHECK not in decision.obsolete
    assert decision.alarm is None
    assert planned(decision) == {TELL: 0}


def test_a_silent_report_reconciles_a_refusal() -> None:
    decision = decided(transaction(Stage.NOT_CHARGED), SILENT)

    assert believed(decision.after) == (State.RECONCILED, Outcome.DECLINED, Reason.ABSENT_FROM_REPORT)


@pytest.mark.parametrize(
    "stage",
    [
        Stage.QUEUED,
        Stage.SENT,
        Stage.UNKNOWN,
        Stage.DISPUTED,
        Stage.CHARGED,
        Stage.RECONCILED_NOT_CHARGED,
        Stage.RECONCILED_CHARGED,
    ],
)
def test_a_silent_report_concludes_nothing(stage: Stage) -> None:
    assert_nothing(decided(transaction(stage), SILENT))


# --- rulings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", [Stage.UNKNOWN, Stage.DISPUTED])
@pytest.mark.parametrize("outcome", list(Outcome))
def test_a_ruling_settles_an_unknown(stage: Stage, outcome: Outcome) -> None:
    decision = decided(transaction(stage), ruling(outcome))

    assert believed(decision.after) == (State.RECONCILED, outcome, Reason.RULED)
    assert decision.after.authorised_minor == (1099 if outcome.charged else None)
    assert planned(decision) == ({TELL: 0} if outcome.charged else {CHECK: 300, TELL: 0})
    assert decision.after.sentinel is (not outcome.charged)
    assert decision.alarm is None


@pytest.mark.parametrize("stage", [stage for stage in Stage if stage not in {Stage.UNKNOWN, Stage.DISPUTED}])
@pytest.mark.parametrize("outcome", [Outcome.APPROVED, Outcome.DECLINED])
def test_a_ruling_on_anything_else_changes_nothing(stage: Stage, outcome: Outcome) -> None:
    assert_nothing(decided(transaction(stage), ruling(outcome)))


@pytest.mark.parametrize("agreeing", [approved(), authorisation(), pushed(approved(), tagged=True)])
@pytest.mark.parametrize("minor", [1099, None])
def test_evidence_that_agrees_with_a_ruled_charge_changes_nothing(agreeing: Evidence, minor: int | None) -> None:
    tx = decided(transaction(Stage.UNKNOWN), ruling(Outcome.APPROVED, authorised_minor=minor)).after

    assert_nothing(decided(tx, agreeing))


@pytest.mark.parametrize("agreeing", [failed(), failed("Cancel"), busy(), REFUSED, CANCELLATION, SILENT])
def test_evidence_that_agrees_with_a_ruled_refusal_changes_nothing(agreeing: Evidence) -> None:
    assert_nothing(decided(ruled(Outcome.DECLINED), agreeing))


@pytest.mark.parametrize(
    ("tx", "disagreeing"),
    [
        (ruled(Outcome.APPROVED), failed()),
        (ruled(Outcome.APPROVED), approved(1098)),
        (ruled(Outcome.APPROVED), CANCELLATION),
        (ruled(Outcome.DECLINED), approved()),
        (ruled(Outcome.DECLINED), authorisation()),
        (ruled(Outcome.NOT_PERFORMED), approved()),
    ],
)
def test_evidence_that_disagrees_with_a_ruling_is_unknown_with_an_alarm(tx: Transaction, disagreeing: Evidence) -> None:
    assert_disputed(decided(tx, disagreeing))


def test_the_sentinel_outlives_a_ruling_that_nothing_was_charged() -> None:
    tx = decided(transaction(Stage.UNKNOWN, checks=40), ruling(Outcome.NOT_PERFORMED)).after

    assert tx.checks == 0
    waits, at = [], NOW + timedelta(seconds=300)
    while CHECK in planned(decision := decided(tx, NOT_FOUND, at)):
        waits.append(planned(decision)[CHECK])
        tx, at = decision.after, at + timedelta(seconds=waits[-1])

    assert waits == [600, 2700, 18000, 64800, 82800]
    assert decision.after.outcome is Outcome.NOT_PERFORMED


@pytest.mark.parametrize(("outcome", "minor"), [(Outcome.APPROVED, 1099), (Outcome.PARTIALLY_APPROVED, None)])
def test_a_ruling_without_an_amount_means_the_whole_one_or_none(outcome: Outcome, minor: int | None) -> None:
    assert decided(transaction(Stage.UNKNOWN), ruling(outcome, authorised_minor=None)).after.authorised_minor == minor
