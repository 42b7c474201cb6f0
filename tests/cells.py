"""What the tests of the delicate cells share: one decision at a fixed instant, and what is claimed of it."""

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest

from orchestrator.commands import CommandKind
from orchestrator.decide import Decision, decide
from orchestrator.evidence import (
    AbortAsked,
    BooksEntry,
    Evidence,
    InProgressReported,
    NotDelivered,
    NotFoundReported,
    ReportSilent,
    ResultReported,
)
from orchestrator.meaning import Alarm
from orchestrator.model import Outcome, Reason, Stage, State, Transaction
from tests.factories import (
    NOW,
    OTHER_PSP,
    POLICY,
    PSP,
    SENT_AT,
    approved,
    authorisation,
    booked,
    books,
    failed,
    nested,
    pushed,
)

ABORT = AbortAsked(asked_by="till-4")
SILENT = ReportSilent(source="report:2025-03-14")
IN_PROGRESS = InProgressReported()
NOT_FOUND = NotFoundReported()
PAST_HORIZON = SENT_AT + timedelta(hours=48)

#: How the same words can reach us.
Route = Callable[[ResultReported], ResultReported]

CHECK, SEND_ABORT = CommandKind.CHECK_STATUS, CommandKind.SEND_ABORT
EXPECT, TELL = CommandKind.EXPECT_ANSWER, CommandKind.TELL_CALLER

ROUTES = pytest.mark.parametrize("route", [lambda said: said, nested, lambda said: pushed(said, tagged=True)])

REFUSED = authorisation(success=False)
COVERS = authorisation(success=False, covers_day=True)
CANCELLATION = books(BooksEntry.CANCELLED)

IN_DOUBT = pytest.mark.parametrize("stage", [Stage.SENT, Stage.UNKNOWN])
CONCLUDED = pytest.mark.parametrize(
    "stage",
    [
        Stage.NOT_PERFORMED,
        Stage.NOT_CHARGED,
        Stage.CHARGED,
        Stage.RECONCILED_NOT_CHARGED,
        Stage.RECONCILED_CHARGED,
    ],
)
CHARGED = pytest.mark.parametrize("stage", [Stage.CHARGED, Stage.RECONCILED_CHARGED])

#: What the books have said, and a terminal or a sender who then says the opposite.
CONTRADICTED = pytest.mark.parametrize(
    ("memory", "said"),
    [
        (booked(), failed()),
        (booked(), failed("Busy")),
        (booked(psp_reference=OTHER_PSP), failed("Cancel", psp_reference=PSP)),
        (booked(), NotDelivered(why="connect-timeout")),
        (booked(authorised=False), approved()),
        (booked(authorised=False), approved(700)),
        (booked(authorised=False, psp_reference=None), approved()),
        (booked(authorised=False), approved(psp_reference=None)),
    ],
)
UNCHARGED = pytest.mark.parametrize("stage", [Stage.NOT_CHARGED, Stage.RECONCILED_NOT_CHARGED])


def decided(tx: Transaction, evidence: Evidence, at: datetime = NOW) -> Decision:
    return decide(tx, evidence, at, POLICY)


def told_through(tx: Transaction, *story: tuple[float, Evidence]) -> Transaction:
    """Apply a story of (seconds after NOW, evidence)."""
    for after_s, evidence in story:
        tx = decided(tx, evidence, NOW + timedelta(seconds=after_s)).after
    return tx


def planned(decision: Decision) -> dict[CommandKind, float]:
    return {plan.kind: plan.after_s for plan in decision.commands}


def believed(tx: Transaction) -> tuple[State, Outcome | None, Reason | None]:
    return tx.state, tx.outcome, tx.reason


def assert_nothing(decision: Decision) -> None:
    assert decision.after.stage is decision.before.stage
    assert believed(decision.after) == believed(decision.before)
    assert decision.after.authorised_minor == decision.before.authorised_minor
    assert decision.commands == ()
    assert decision.obsolete == frozenset()
    assert decision.alarm is None
    assert not decision.told


def assert_disputed(decision: Decision, reason: Reason = Reason.CONTRADICTION) -> None:
    assert believed(decision.after) == (State.UNKNOWN, None, reason)
    assert decision.after.authorised_minor is None
    assert decision.alarm is not None
    assert planned(decision) == {TELL: 0}


def assert_late(decision: Decision, minor: int = 1099) -> None:
    after = decision.after
    assert (after.state, after.outcome, after.late) == (State.CONFIRMED, Outcome.APPROVED, True)
    assert (after.authorised_minor, after.psp_reference) == (minor, PSP)
    assert decision.alarm == Alarm.LATE_APPROVAL
    assert planned(decision) == {TELL: 0}


def assert_only_asks(decision: Decision, after_s: float = 0) -> None:
    assert believed(decision.after) == believed(decision.before)
    assert planned(decision) == {CHECK: after_s}
    assert decision.alarm is None
