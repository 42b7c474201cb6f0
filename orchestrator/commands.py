"""What we must do, and when. A command is a row with a due time; a step of the table asks for them by name.

Pure: due times are waits in seconds, counted from the database transaction that writes them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, Protocol

from orchestrator.errors import Defect
from orchestrator.meaning import Alarm, Meaning
from orchestrator.model import Stage, Transaction
from orchestrator.policy import Policy
from orchestrator.transitions import Do, Event, Step

#: The second NotFound must not come a hair before the gap is over.
_GAP_MARGIN_S: Final = 0.05


class CommandKind(StrEnum):
    """The imperatives. At most one of a kind is open for a payment, or for a refund."""

    SEND = "send"
    EXPIRE = "expire"
    EXPECT_ANSWER = "expect_answer"
    CHECK_STATUS = "check_status"
    SEND_ABORT = "send_abort"
    TELL_CALLER = "tell_caller"
    # of refunds
    SEND_REFUND = "send_refund"
    CHECK_REFUND = "check_refund"
    EXPECT_REFUND = "expect_refund"  # by whichever instant is its next deadline


@dataclass(frozen=True, slots=True)
class Plan:
    """A command to be written, due ``after_s`` seconds from now; an open one of its kind keeps the earlier time."""

    kind: CommandKind
    after_s: float


#: What may still be open when a transaction has just arrived in a stage. Stages of absence keep the sentinel's check.
_KEPT: Final[dict[Stage, frozenset[CommandKind]]] = {
    Stage.SENT: frozenset({CommandKind.EXPECT_ANSWER, CommandKind.CHECK_STATUS, CommandKind.SEND_ABORT}),
    Stage.UNKNOWN: frozenset({CommandKind.CHECK_STATUS, CommandKind.SEND_ABORT}),
    Stage.DISPUTED: frozenset({CommandKind.SEND_ABORT}),
}

#: Every kind of a payment's but the telling, which outlives any move.
DROPPABLE: Final = frozenset(
    {
        CommandKind.SEND,
        CommandKind.EXPIRE,
        CommandKind.EXPECT_ANSWER,
        CommandKind.CHECK_STATUS,
        CommandKind.SEND_ABORT,
    }
)


def obsolete(before: Transaction, after: Transaction) -> frozenset[CommandKind]:
    """Name the kinds of open commands that a move leaves without a purpose."""
    if before.stage is after.stage:
        return frozenset()
    kept = _KEPT.get(after.stage, frozenset())
    return DROPPABLE - kept - ({CommandKind.CHECK_STATUS} if after.sentinel else frozenset())


def plan(after: Transaction, meaning: Meaning, step: Step, at: datetime, policy: Policy) -> tuple[Plan, ...]:
    """Give each thing that the step asks for its due time."""
    return tuple(p for do in step.do for p in _planned(do, after, at, policy))


#: Events whose steps are quiet by themselves, and whose meaning may name an alarm.
_MAY_ALARM: Final = frozenset(
    {Event.CHARGED, Event.CHARGED_AS_BOOKED, Event.NOT_DELIVERED, Event.BOOKS_AUTHORISED_PROVEN}
)


def alarm(after: Transaction, meaning: Meaning, step: Step, at: datetime, policy: Policy) -> Alarm | None:
    """Name the alarm to raise, if the step, the meaning, or the end of the schedule asks for one."""
    if Do.ALARM in step.do:
        return meaning.alarm or Alarm.ANSWER_TO_WHAT_WAS_NEVER_SENT
    if meaning.event in _MAY_ALARM:
        return meaning.alarm
    if Do.CHECK_LATER in step.do and check_wait_s(after, at, policy) is None:
        return Alarm.CHECKS_EXHAUSTED
    return None


def _planned(do: Do, after: Transaction, at: datetime, policy: Policy) -> Iterator[Plan]:
    match do:
        case Do.EXPECT_ANSWER:
            yield Plan(CommandKind.EXPECT_ANSWER, policy.answer_window_s)
        case Do.CHECK_NOW:
            yield Plan(CommandKind.CHECK_STATUS, 0.0)
        case Do.CHECK_ONCE:
            if after.checked_at is None or at - after.checked_at >= timedelta(seconds=policy.hearsay_quiet_s):
                yield Plan(CommandKind.CHECK_STATUS, 0.0)
        case Do.CHECK_LATER:
            wait_s = check_wait_s(after, at, policy)
            if wait_s is not None:
                yield Plan(CommandKind.CHECK_STATUS, wait_s)
        case Do.WATCH:
            wait_s = watch_wait_s(after, at, policy)
            if wait_s is not None:
                yield Plan(CommandKind.CHECK_STATUS, wait_s)
        case Do.ABORT:
            yield Plan(CommandKind.SEND_ABORT, 0.0)
        case Do.ABORT_IF_ASKED:
            if after.abort_asked:
                yield Plan(CommandKind.SEND_ABORT, 0.0)
        case Do.ALARM:
            return


class Asked(Protocol):
    """What the schedule of status checks looks at; payments and refunds have it."""

    @property
    def sent_at(self) -> datetime | None: ...
    @property
    def concluded_at(self) -> datetime | None: ...
    @property
    def not_found_at(self) -> datetime | None: ...
    @property
    def checks(self) -> int: ...
    @property
    def sentinel(self) -> bool: ...


def watch_wait_s(after: Asked, at: datetime, policy: Policy) -> float | None:
    """The wait before the sentinel's next look; None where there is no sentinel, or after its last one."""
    if not after.sentinel or after.concluded_at is None:
        return None
    return policy.next_sentinel_s((at - after.concluded_at).total_seconds())


def check_wait_s(after: Asked, at: datetime, policy: Policy) -> float | None:
    """The wait before the next status check; a first NotFound asks for its second one no earlier than the gap."""
    if after.sent_at is None:
        message = "a status check was planned for a request that was never sent"
        raise Defect(message)
    wait_s = policy.next_check_s(max(after.checks - 1, 0), (at - after.sent_at).total_seconds())
    if wait_s is None or after.not_found_at is None:
        return wait_s
    until_second_s = policy.not_found_gap_s + _GAP_MARGIN_S - (at - after.not_found_at).total_seconds()
    return max(wait_s, until_second_s)
