"""Decide first, do afterwards: (transaction, evidence) -> decision. Pure, so that a journal can be replayed.

No I/O and no clock: the instant is an argument. A lost race is handled by loading and deciding again.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from orchestrator.classify import classify
from orchestrator.commands import CommandKind, Plan, alarm, obsolete, plan
from orchestrator.errors import Defect
from orchestrator.evidence import Evidence, SubmissionAccepted
from orchestrator.meaning import Alarm, Meaning
from orchestrator.model import Outcome, Reason, Stage, State, Transaction
from orchestrator.policy import Policy
from orchestrator.transitions import TRANSITIONS, Event, Step


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What a piece of evidence did: the event, the transaction before and after, and what is to be done."""

    event: Event
    before: Transaction
    after: Transaction
    commands: tuple[Plan, ...]
    obsolete: frozenset[CommandKind]
    alarm: Alarm | None

    @property
    def told(self) -> bool:
        """Whether the caller has to hear of it: what is shown of the payment moved, and not only by the claim."""
        return _public(self.before) != _public(self.after) and self.event is not Event.SEND_STARTED


def decide(tx: Transaction, evidence: Evidence, at: datetime, policy: Policy) -> Decision:
    """Apply one piece of evidence to a transaction at the instant ``at`` (UTC, the database's clock).

    Raises:
        Defect: when the table says that this cannot happen.
    """
    meaning = classify(tx, evidence, at, policy)
    cell = TRANSITIONS[(tx.stage, meaning.event)]
    if not isinstance(cell, Step):
        message = f"{meaning.event} cannot happen to a transaction that is {tx.stage} ({cell})"
        raise Defect(message)
    after = _apply(tx, meaning, cell, at)
    commands = plan(after, meaning, cell, at, policy)
    decision = Decision(
        event=meaning.event,
        before=tx,
        after=after,
        commands=commands,
        obsolete=obsolete(tx, after) - {p.kind for p in commands},
        alarm=alarm(after, meaning, cell, at, policy),
    )
    if decision.told:
        return _with_telling(decision)
    return decision


def replay(tx: Transaction, lines: Iterable[tuple[datetime, Evidence]], policy: Policy) -> Transaction:
    """Fold a journal over the transaction as it was accepted: the result is what the row must say."""
    for at, evidence in lines:
        if not isinstance(evidence, SubmissionAccepted):
            tx = decide(tx, evidence, at, policy).after
    return tx


def _with_telling(decision: Decision) -> Decision:
    return Decision(
        event=decision.event,
        before=decision.before,
        after=decision.after,
        commands=(*decision.commands, Plan(CommandKind.TELL_CALLER, 0.0)),
        obsolete=decision.obsolete,
        alarm=decision.alarm,
    )


def _public(tx: Transaction) -> tuple[object, ...]:
    return (tx.state, tx.outcome, tx.reason, tx.authorised_minor, tx.psp_reference)


def _apply(tx: Transaction, meaning: Meaning, step: Step, at: datetime) -> Transaction:
    changes: dict[str, Any] = {"sequence": tx.sequence + 1, **meaning.remembers}
    if step.after is not None:
        changes |= _arrival(tx, step.after, at) | dict(meaning.concludes) | _fixed(tx, step.after)
    after = tx.evolve(**changes)
    if step.after is not None and after.stage is not step.after:
        message = f"{meaning.event} leads to {step.after}, but the conclusion makes it {after.stage}"
        raise Defect(message)
    return after


#: What a transaction without a conclusion does not have.
_OPEN_AGAIN: dict[str, Any] = {
    "outcome": None,
    "concluded_at": None,
    "reconciled_at": None,
    "authorised_minor": None,
    "sentinel": False,
    "provisional": False,
}


def _arrival(tx: Transaction, stage: Stage, at: datetime) -> dict[str, Any]:
    """What arriving in a stage sets, before the conclusion adds to it."""
    match stage:
        case Stage.SENT:
            return {"sent_at": at}
        case Stage.UNKNOWN:
            sent_at = tx.sent_at or at  # it runs although we never sent it: the checks count from here
            return _OPEN_AGAIN | {"sent_at": sent_at, "checks": 0, "not_found_at": None, "asked_since_unknown": False}
        case Stage.DISPUTED:
            return dict(_OPEN_AGAIN)
        case Stage.NOT_PERFORMED | Stage.NOT_CHARGED | Stage.CHARGED:
            return {"concluded_at": at, "sentinel": False, "reason": None}
        case Stage.RECONCILED_CHARGED | Stage.RECONCILED_NOT_CHARGED:
            return {"concluded_at": tx.concluded_at or at, "reconciled_at": at}
        case Stage.QUEUED:
            message = "nothing leads back to the queue"
            raise Defect(message)


def _fixed(tx: Transaction, stage: Stage) -> dict[str, Any]:
    """What a stage demands whatever was concluded."""
    match stage:
        case Stage.UNKNOWN:
            return {"state": State.UNKNOWN, "reason": Reason.NO_ANSWER}
        case Stage.DISPUTED:
            never_sent = tx.stage is Stage.QUEUED
            reason = Reason.NEVER_SENT if never_sent else Reason.CONTRADICTION
            return {**_OPEN_AGAIN, "state": State.UNKNOWN, "reason": reason}
        case Stage.NOT_PERFORMED:
            return {"state": State.CONFIRMED, "outcome": Outcome.NOT_PERFORMED}
        case Stage.NOT_CHARGED | Stage.CHARGED:
            return {"state": State.CONFIRMED}
        case Stage.RECONCILED_CHARGED | Stage.RECONCILED_NOT_CHARGED:
            return {"state": State.RECONCILED}
        case _:
            return {}
