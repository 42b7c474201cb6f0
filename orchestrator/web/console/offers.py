"""What may be done about a payment now, and by whom. Pure: the page offers it, and the server asks again on each act.

Whatever is refused here would have changed nothing, or would have been refused by what does it; here the reason is a
sentence for whoever pressed the button.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from orchestrator.keys import Role
from orchestrator.model import Stage, State, Transaction
from orchestrator.policy import Policy
from orchestrator.terminal_api import money


class Act(StrEnum):
    """What a person may do about a payment."""

    CHECK = "check"
    ABORT = "abort"
    REFUND = "refund"
    RULE = "rule"


#: The role that each needs.
NEEDS: Final[Mapping[Act, Role]] = {
    Act.CHECK: Role.OPERATE,
    Act.ABORT: Role.OPERATE,
    Act.REFUND: Role.FINANCE,
    Act.RULE: Role.FINANCE,
}

_STOPPABLE: Final = frozenset({Stage.QUEUED, Stage.SENT, Stage.UNKNOWN})


@dataclass(frozen=True, slots=True)
class Situation:
    """What decides whether an act makes sense: the payment, what is left to pay back, and now."""

    tx: Transaction
    left_minor: int
    at: datetime
    policy: Policy


def objection(act: Act, now: Situation) -> str | None:
    """Say why an act makes no sense any more; None where it does."""
    match act:
        case Act.CHECK:
            return _against_a_check(now)
        case Act.ABORT:
            return _against_an_abort(now.tx)
        case Act.REFUND:
            return _against_a_refund(now)
        case Act.RULE:
            return _against_a_ruling(now.tx)


def offered(now: Situation, role: Role) -> frozenset[Act]:
    """The acts that make sense, and that a role allows."""
    return frozenset(act for act in Act if role.includes(NEEDS[act]) and objection(act, now) is None)


def withheld(now: Situation, role: Role) -> frozenset[Role]:
    """The roles of others who could do something about it that this role cannot."""
    sensible = {act for act in Act if objection(act, now) is None}
    return frozenset(NEEDS[act] for act in sensible if not role.includes(NEEDS[act]))


def _against_a_check(now: Situation) -> str | None:
    if now.tx.sent_at is None:
        return "It was never sent, so there is no terminal to ask."
    remembered = timedelta(seconds=now.policy.check_horizon_s)
    if now.tx.outcome is not None and now.at - now.tx.sent_at > remembered:
        return "It has ended, and terminals remember a payment for 48 hours only."
    return None


def _against_an_abort(tx: Transaction) -> str | None:
    if tx.outcome is not None:
        return "It has ended: there is nothing left to stop."
    if tx.stage not in _STOPPABLE:
        return "What is heard of it contradicts itself; it is settled by a ruling, not by stopping it."
    return None


def _against_a_refund(now: Situation) -> str | None:
    if now.tx.outcome is None:
        return "It is not known to be charged, so there is nothing to pay back yet."
    if not now.tx.charged:
        return "It is not charged, so there is nothing to pay back."
    if now.left_minor <= 0:
        authorised = money.in_words(now.tx.amount.currency, now.tx.authorised_minor or 0)
        return f"Nothing is left to pay back of {authorised}, refunds under way counted."
    return None


def _against_a_ruling(tx: Transaction) -> str | None:
    if tx.state is State.UNKNOWN:
        return None
    if tx.outcome is not None:
        return "It has an outcome; only what is unknown is ruled on."
    return "It can still end by itself; only what is unknown is ruled on."
