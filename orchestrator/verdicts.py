"""What a store clerk is told about a payment: may I hand over the goods, may I try again, or must I wait.

One source for the console and the command line. Pure and total: whatever a row may say has a sentence here, why it is
so, and what to do now. "Charged" and "Not charged" stand only where the outcome says it; without one the word does not
occur at all, so that nobody reads it in passing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from orchestrator.model import DISPUTED_REASONS, Outcome, Reason, State
from orchestrator.terminal_api import money


class Tone(StrEnum):
    """How a verdict looks, by the names of the console's style."""

    GOOD = "good"
    BAD = "bad"
    DOUBT = "doubt"
    WAIT = "wait"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What is said about the money, why, and what to do now. ``charged`` is None for not known."""

    says: str
    because: str | None = None
    do: str
    tone: Tone
    charged: bool | None

    @property
    def sentence(self) -> str:
        """What is said and why, as one sentence."""
        if self.because is None:
            return f"{self.says}."
        return f"{self.says}{'; ' if ':' in self.says or self.charged else ': '}{self.because}."


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """What a payment that was not sent waits for: how many are before it, and who holds its terminal back."""

    ahead: int = 0
    held_by: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where a payment stands, as far as a verdict looks at it."""

    state: State
    outcome: Outcome | None = None
    reason: Reason | None = None
    currency: str
    asked_minor: int
    authorised_minor: int | None = None
    added_minor: int = 0  # what the terminal's answer names as tip, cashback and surcharge
    refunded_minor: int = 0
    refunding_minor: int = 0  # refunds under way
    poi_id: str
    is_sent: bool = True
    is_overdue: bool = False  # the answer window has passed, and nothing has been learned
    is_late: bool = False
    is_provisional: bool = False
    is_stopping: bool = False
    wait: Wait = Wait()


def standing_of(row: Mapping[str, Any], at: datetime, wait: Wait | None = None, refunding_minor: int = 0) -> Standing:
    """Read a payment's row as it stands at the instant ``at``; what is not in the row is given beside it."""
    result = row.get("result") or {}
    return Standing(
        state=State(row["state"]),
        outcome=Outcome(row["outcome"]) if row["outcome"] else None,
        reason=Reason(row["reason"]) if row["reason"] else None,
        currency=row["currency"],
        asked_minor=row["amount_minor"],
        authorised_minor=row["authorised_minor"],
        added_minor=sum(result.get(f"{name}_minor") or 0 for name in ("tip", "cashback", "surcharge")),
        refunded_minor=row.get("refunded_minor") or 0,
        refunding_minor=refunding_minor,
        poi_id=row["poi_id"],
        is_sent=row["sent_at"] is not None,
        is_overdue=row["answer_by"] is not None and row["answer_by"] <= at,
        is_late=bool(row.get("late")),
        is_provisional=bool(row["provisional"]),
        is_stopping=bool(row["abort_asked"]),
        wait=wait or Wait(),
    )


def verdict(standing: Standing) -> Verdict:
    """What is said about the money."""
    if standing.outcome is None:
        return _disputed(standing) if standing.reason in DISPUTED_REASONS else _open(standing)
    return _charged(standing) if standing.outcome.charged else _not_charged(standing, standing.outcome)


# -- charged -----------------------------------------------------------------------------------------------------------


def _charged(s: Standing) -> Verdict:
    charged_minor = s.asked_minor if s.authorised_minor is None else s.authorised_minor
    left_minor = max(0, charged_minor - s.refunded_minor)
    return Verdict(
        says=_how_much(s, charged_minor) + _paid_back(s, left_minor),
        because=_how_we_know(s, charged_minor),
        do=_after_a_charge(s, charged_minor, left_minor),
        tone=_tone_of_a_charge(s, charged_minor, left_minor),
        charged=True,
    )


def _how_much(s: Standing, charged_minor: int) -> str:
    charged, more_minor = _money(s, charged_minor), charged_minor - s.asked_minor
    if more_minor < 0:
        return f"Charged only {charged} of {_money(s, s.asked_minor)}"
    return f"Charged {charged}" + (f", {_money(s, more_minor)} more than asked" if more_minor else "")


def _paid_back(s: Standing, left_minor: int) -> str:
    if not s.refunded_minor:
        return ""
    return f", and {_money(s, s.refunded_minor)} of it paid back" if left_minor else ", and all of it paid back"


def _how_we_know(s: Standing, charged_minor: int) -> str | None:
    """What is unusual about it; nothing where the terminal simply said so."""
    more_minor = charged_minor - s.asked_minor
    why = []
    if more_minor > 0 and s.added_minor:
        why.append("a tip, cashback or surcharge was added at the terminal")
    elif more_minor > 0:
        why.append("nothing says what for")
    if s.is_provisional:
        why.append("offline: the bank has yet to confirm it")
    if s.is_late:
        why.append("its approval came late, after the payment had been taken for not performed")
    if s.reason is Reason.BOOKS:
        why.append("the platform's books say so, and the terminal never did")
    if s.reason is Reason.RULED:
        why.append("a person ruled so")
    return "; ".join(why) or None


def _after_a_charge(s: Standing, charged_minor: int, left_minor: int) -> str:
    if not left_minor:
        return "Nothing is left to pay back. If the goods are wanted after all, take a new payment."
    if s.refunding_minor:
        return f"{_money(s, s.refunding_minor)} is on its way back: do not pay it back again, and take no payment anew."
    if s.is_late:
        return (
            "Look at the other payments of this sale: where it was paid twice, pay one of them back. "
            "Otherwise the sale is paid."
        )
    if charged_minor < s.asked_minor:
        rest = _money(s, s.asked_minor - charged_minor)
        return f"Take the rest, {rest}, under the same reference, or pay this one back."
    if charged_minor > s.asked_minor and not s.added_minor:
        return "The sale is paid. Compare the amount with the receipt, and pay the difference back if it is wrong."
    if s.refunded_minor:
        return "The rest of the sale stays paid. Do not take the payment again."
    if s.is_provisional:
        return "The sale counts as paid. Should the bank refuse it later, this page says so and an alarm is raised."
    return "The sale is paid. Do not take the payment again."


def _tone_of_a_charge(s: Standing, charged_minor: int, left_minor: int) -> Tone:
    if not left_minor:
        return Tone.BAD  # nothing of it pays for the goods any more
    unexplained = charged_minor > s.asked_minor and not s.added_minor
    unsettled = s.is_late or s.is_provisional or s.refunding_minor > 0
    return Tone.DOUBT if charged_minor < s.asked_minor or unexplained or unsettled else Tone.GOOD


# -- not charged -------------------------------------------------------------------------------------------------------

_AGAIN: Final = "You may take the payment again."
_ANOTHER: Final = "Ask for another card or another way to pay; you may take the payment again."

#: Why, and what to do, by the outcome.
_ENDED: Final[Mapping[Outcome, tuple[str, str]]] = {
    Outcome.DECLINED: ("the card was declined", _ANOTHER),
    Outcome.CANCELLED: ("it was cancelled at the terminal", f"Ask the shopper. {_AGAIN}"),
    Outcome.ABORTED: ("it was stopped before the shopper had paid", _AGAIN),
    Outcome.NOT_PERFORMED: ("the payment did not take place", _AGAIN),
}

#: And by the reason, which says more.
_REASONS: Final[Mapping[Reason, tuple[str, str]]] = {
    Reason.EXPIRED: ("it could not be sent in time, and the terminal never heard of it", _AGAIN),
    Reason.ABORTED_BEFORE_SEND: ("it was stopped before it was sent", _AGAIN),
    Reason.NOT_DELIVERED: (
        "the request did not reach the terminal",
        f"See whether the terminal is switched on and connected. {_AGAIN}",
    ),
    Reason.REFUSED_BY_PLATFORM: (
        "the platform refused the request",
        (
            "The next one will be refused as well: let whoever runs Counterfoil look at its API key and at the "
            "terminal's registration. Until then, take the payment another way."
        ),
    ),
    Reason.NOT_FOUND: ("the terminal never got the request", _AGAIN),
    Reason.TERMINAL_BUSY: (
        "the terminal was busy with something else",
        "Wait until the terminal is free; you may take the payment again then.",
    ),
    Reason.TERMINAL_UNAVAILABLE: (
        "the terminal was not ready to take it",
        f"See that the terminal is on, logged in, and holds no card. {_AGAIN}",
    ),
    Reason.NOT_ALLOWED: (
        "the terminal does not allow it",
        "Take the payment at another terminal, or another way; let whoever runs the terminals look at its settings.",
    ),
}

#: Who settled it, where the terminal did not.
_SETTLED: Final[Mapping[Reason, str]] = {
    Reason.BOOKS: "as the platform's books say",
    Reason.ABSENT_FROM_REPORT: "and the platform's report does not have it either",
    Reason.RULED: "as a person ruled",
}


def _not_charged(s: Standing, outcome: Outcome) -> Verdict:
    because, do = _ENDED[outcome]
    if s.reason is not None and s.reason in _REASONS:
        because, do = _REASONS[s.reason]
    elif s.reason is not None and s.reason in _SETTLED:
        because = f"{because}, {_SETTLED[s.reason]}"
    if s.refunded_minor:
        do = f"Money was paid back for it all the same, {_money(s, s.refunded_minor)}: tell finance."
    return Verdict(says="Not charged", because=because, do=do, tone=Tone.BAD, charged=False)


# -- not known yet -----------------------------------------------------------------------------------------------------

NOT_KNOWN: Final = "Not known yet: do not take the payment again"


def _open(s: Standing) -> Verdict:
    if s.state is State.PENDING and not s.is_sent:
        return _waiting(s)
    if s.state is State.PENDING and not s.is_overdue:
        return _running(s)
    because = f"no answer came, and {s.poi_id} is being asked what became of it"
    do = (
        "Look at the terminal's own screen. The answer usually comes within minutes; keep the goods, or note who the "
        "shopper is."
    )
    return Verdict(says=NOT_KNOWN, because=because, do=do, tone=Tone.DOUBT, charged=None)


def _waiting(s: Standing) -> Verdict:
    if s.wait.held_by is not None:
        because = f"queued for {s.poi_id}, which {s.wait.held_by} holds back"
    elif s.wait.ahead:
        others = "one other payment" if s.wait.ahead == 1 else f"{s.wait.ahead} other payments"
        because = f"queued for {s.poi_id}, behind {others}"
    else:
        because = f"queued for {s.poi_id}"
    return Verdict(
        says="Waiting for its turn: do not take the payment again",
        because=because,
        do="It starts by itself, or ends by itself when its time is over. Abort it if the shopper leaves.",
        tone=Tone.WAIT,
        charged=None,
    )


def _running(s: Standing) -> Verdict:
    if s.is_stopping:
        because, do = f"{s.poi_id} was asked to stop it", "Wait: only its own result says whether it was stopped."
    else:
        because = f"the shopper pays at {s.poi_id}"
        do = "Let the shopper finish. To stop it, cancel at the terminal, or abort it here."
    says = "Running at the terminal now: do not take the payment again"
    return Verdict(says=says, because=because, do=do, tone=Tone.WAIT, charged=None)


def _disputed(s: Standing) -> Verdict:
    because = "the evidence contradicts itself, and a person has to settle it"
    do = "Keep the goods, or note who the shopper is. Finance finds the payment at the platform, and rules on it here."
    if s.reason is Reason.NEVER_SENT:
        because = "it was answered although it was never sent, and a person has to settle it"
        do = f"{do} Whoever is on call finds out whether the database was restored."
    if s.refunded_minor:
        do = f"{do} {_money(s, s.refunded_minor)} was paid back for it already."
    return Verdict(
        says="Not known: do not take the payment again", because=because, do=do, tone=Tone.DOUBT, charged=None
    )


def _money(s: Standing, minor: int) -> str:
    return money.in_words(s.currency, minor)
