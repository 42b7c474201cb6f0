"""(refund, evidence) -> decision. Pure, like ``orchestrator.decide``, and replayed from the journal in the same way."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from orchestrator.commands import CommandKind, Plan, check_wait_s, watch_wait_s
from orchestrator.errors import Defect
from orchestrator.evidence import Evidence
from orchestrator.meaning import Alarm
from orchestrator.model import State
from orchestrator.policy import Policy
from orchestrator.refunds.classify import Meaning, classify
from orchestrator.refunds.model import Refund, RefundReason, RefundStage
from orchestrator.refunds.transitions import TRANSITIONS, RefundDo, RefundEvent, Step

#: What may still be open when a refund has just arrived in a stage.
_KEPT: Final[dict[RefundStage, frozenset[CommandKind]]] = {
    RefundStage.QUEUED: frozenset({CommandKind.EXPECT_REFUND}),
    RefundStage.SENT: frozenset({CommandKind.CHECK_REFUND}),
    RefundStage.UNKNOWN: frozenset({CommandKind.CHECK_REFUND}),
}
_KINDS: Final = frozenset({CommandKind.SEND_REFUND, CommandKind.CHECK_REFUND, CommandKind.EXPECT_REFUND})


@dataclass(frozen=True, slots=True, kw_only=True)
class RefundDecision:
    """What a piece of evidence did: the event, the refund before and after, and what is to be done."""

    event: RefundEvent
    before: Refund
    after: Refund
    commands: tuple[Plan, ...]
    obsolete: frozenset[CommandKind]
    alarm: Alarm | None

    @property
    def told(self) -> bool:
        """Whether the caller has to hear of it."""
        return _public(self.before) != _public(self.after)

    @property
    def paid_back_minor(self) -> int:
        """By how much the sum of what was paid back changes."""
        return self.after.amount.minor * (bool(self.after.paid_back) - bool(self.before.paid_back))


def decide(refund: Refund, evidence: Evidence, at: datetime, policy: Policy) -> RefundDecision:
    """Apply one piece of evidence to a refund at the instant ``at`` (UTC, the database's clock).

    Raises:
        Defect: when the table says that this cannot happen.
    """
    meaning = classify(refund, evidence, at, policy)
    cell = TRANSITIONS[(refund.stage, meaning.event)]
    if not isinstance(cell, Step):
        message = f"{meaning.event} cannot happen to a refund that is {refund.stage} ({cell})"
        raise Defect(message)
    after = _apply(refund, meaning, cell, at)
    commands = tuple(plan for do in cell.do for plan in _planned(do, after, at, policy))
    if _public(refund) != _public(after):
        commands = (*commands, Plan(CommandKind.TELL_CALLER, 0.0))
    return RefundDecision(
        event=meaning.event,
        before=refund,
        after=after,
        commands=commands,
        obsolete=_obsolete(refund, after) - {plan.kind for plan in commands},
        alarm=_alarm(after, meaning, cell, at, policy),
    )


def _public(refund: Refund) -> tuple[object, ...]:
    return (refund.state, refund.outcome, refund.reason, refund.psp_reference)


def _apply(refund: Refund, meaning: Meaning, step: Step, at: datetime) -> Refund:
    changes: dict[str, Any] = {"sequence": refund.sequence + 1, **meaning.remembers}
    if step.after is not None:
        changes |= {"reason": None, "sentinel": False, **meaning.concludes, **_arrival(refund, step.after, at)}
    after = refund.evolve(**changes)
    if step.after is not None and after.stage is not step.after:
        message = f"{meaning.event} leads to {step.after}, but the conclusion makes it {after.stage}"
        raise Defect(message)
    return after


def _arrival(refund: Refund, stage: RefundStage, at: datetime) -> dict[str, Any]:
    """What a stage demands whatever was concluded. Whatever is past the queue was sent, by whomever."""
    was_sent = {"sent_at": refund.sent_at or at}
    reopened = {"outcome": None, "concluded_at": None, "reconciled_at": None}
    match stage:
        case RefundStage.QUEUED:
            return {}
        case RefundStage.SENT:
            return {"sent_at": at}
        case RefundStage.UNKNOWN:
            reason = {"state": State.UNKNOWN, "reason": RefundReason.NO_ANSWER}
            return {**was_sent, **reopened, **reason, "checks": 0, "not_found_at": None}
        case RefundStage.RECEIVED:
            return {**was_sent, **reopened, "state": State.PENDING}
        case RefundStage.NOT_PAID | RefundStage.PAID:
            return {"state": State.CONFIRMED, "concluded_at": at}
        case RefundStage.BOOKED_PAID | RefundStage.BOOKED_NOT_PAID:
            return {
                "state": State.RECONCILED,
                "concluded_at": refund.concluded_at or at,
                "reconciled_at": at,
                **was_sent,
            }
        case RefundStage.AWAITING:
            message = "nothing leads back to waiting for approval"
            raise Defect(message)


def _obsolete(before: Refund, after: Refund) -> frozenset[CommandKind]:
    if before.stage is after.stage:
        return frozenset()
    sentinel = frozenset({CommandKind.CHECK_REFUND}) if after.sentinel else frozenset()
    return _KINDS - _KEPT.get(after.stage, frozenset()) - sentinel


def _planned(do: RefundDo, after: Refund, at: datetime, policy: Policy) -> Iterator[Plan]:
    match do:
        case RefundDo.SEND:
            yield Plan(CommandKind.SEND_REFUND, 0.0)
        case RefundDo.EXPECT_ANSWER:
            yield Plan(CommandKind.EXPECT_REFUND, policy.answer_window_s)
        case RefundDo.EXPECT_OUTCOME:
            yield Plan(CommandKind.EXPECT_REFUND, policy.refund_overdue_s)
        case RefundDo.CHECK_NOW:
            yield Plan(CommandKind.CHECK_REFUND, 0.0)
        case RefundDo.CHECK_LATER:
            wait_s = check_wait_s(after, at, policy)
            if wait_s is not None:
                yield Plan(CommandKind.CHECK_REFUND, wait_s)
        case RefundDo.WATCH:
            wait_s = watch_wait_s(after, at, policy)
            if wait_s is not None:
                yield Plan(CommandKind.CHECK_REFUND, wait_s)
        case RefundDo.ALARM:
            return


def _alarm(after: Refund, meaning: Meaning, step: Step, at: datetime, policy: Policy) -> Alarm | None:
    if RefundDo.ALARM in step.do or meaning.alarm is Alarm.WRONG_TERMINAL:
        return meaning.alarm
    if RefundDo.CHECK_LATER in step.do and check_wait_s(after, at, policy) is None:
        return Alarm.CHECKS_EXHAUSTED
    return None
