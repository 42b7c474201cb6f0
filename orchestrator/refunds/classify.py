"""What a piece of evidence means for a refund, now. Every guard of the refunds' state machine is here."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from orchestrator.classify import WRONG_TERMINAL
from orchestrator.errors import Defect
from orchestrator.evidence import (
    AnswerMissing,
    AnswerWindowPassed,
    Channel,
    CheckAsked,
    Evidence,
    Exchange,
    InProgressReported,
    NotDelivered,
    NotFoundReported,
    RequestRejected,
    SendByPassed,
    SendStarted,
)
from orchestrator.meaning import Alarm
from orchestrator.policy import Policy
from orchestrator.refunds.evidence import OutcomeOverdue, RefundApproved, RefundBooked, RefundEntry, RefundReported
from orchestrator.refunds.model import Refund, RefundBooks, RefundOutcome, RefundReason, RefundStage
from orchestrator.refunds.transitions import RefundEvent

_DECLINED, _FAILED = RefundOutcome.DECLINED, RefundOutcome.FAILED
_R = RefundReason

#: What the terminal's error condition concludes. Any other, and any new one, asks for the status.
CONDITIONS: Final[Mapping[str, tuple[RefundOutcome, RefundReason | None]]] = {
    "Refusal": (_DECLINED, None),
    "InvalidCard": (_DECLINED, None),
    "WrongPIN": (_DECLINED, None),
    "PaymentRestriction": (_DECLINED, None),
    "NotFound": (_DECLINED, _R.UNKNOWN_ORIGINAL),
    "NotAllowed": (_DECLINED, _R.NOT_ALLOWED),
    "MessageFormat": (_DECLINED, _R.NOT_ALLOWED),
    "Cancel": (_FAILED, _R.STOPPED),
    "Aborted": (_FAILED, _R.STOPPED),
    "Busy": (_FAILED, _R.TERMINAL_BUSY),
    "DeviceOut": (_FAILED, _R.TERMINAL_UNAVAILABLE),
    "LoggedOut": (_FAILED, _R.TERMINAL_UNAVAILABLE),
    "InsertedCard": (_FAILED, _R.TERMINAL_UNAVAILABLE),
    "UnavailableDevice": (_FAILED, _R.TERMINAL_UNAVAILABLE),
    "UnavailableService": (_FAILED, _R.TERMINAL_UNAVAILABLE),
}

#: What the books' word concludes; and which of two words that bear no time, or the same, is the later step.
_BOOKED: Final[Mapping[RefundEntry, tuple[RefundOutcome, RefundReason | None]]] = {
    RefundEntry.DECLINED: (_DECLINED, None),
    RefundEntry.REFUNDED: (RefundOutcome.REFUNDED, None),
    RefundEntry.CANCELLED: (RefundOutcome.CANCELLED, None),
    RefundEntry.FAILED: (_FAILED, None),
    RefundEntry.VOIDED: (_FAILED, _R.VOIDED),
    RefundEntry.REVERSED: (RefundOutcome.REVERSED, None),
}
_STEP: Final[Mapping[str, int]] = {
    RefundEntry.RECEIVED: 0,
    RefundEntry.DECLINED: 1,
    RefundEntry.REFUNDED: 2,
    RefundEntry.CANCELLED: 2,
    RefundEntry.FAILED: 3,
    RefundEntry.VOIDED: 3,
    RefundEntry.REVERSED: 3,
}

_UNSENT: Final = frozenset({RefundStage.AWAITING, RefundStage.QUEUED})
_IN_DOUBT: Final = frozenset({RefundStage.SENT, RefundStage.UNKNOWN})


@dataclass(frozen=True, slots=True)
class Meaning:
    """The event; what a step that moves concludes; what is remembered even when nothing moves; and the alarm's name."""

    event: RefundEvent
    concludes: Mapping[str, Any] = field(default_factory=dict)
    remembers: Mapping[str, Any] = field(default_factory=dict)
    alarm: Alarm = Alarm.REFUND_CONTRADICTS


def classify(refund: Refund, evidence: Evidence, at: datetime, policy: Policy) -> Meaning:
    """Say what ``evidence`` means for ``refund`` at the instant ``at``.

    Raises:
        Defect: for a kind of evidence that this function does not know.
    """
    match evidence:
        case RefundReported(channel=Channel.STATUS):
            return _ended_check(refund, _reported(refund, evidence))
        case RefundReported():
            return _reported(refund, evidence)
        case RefundBooked():
            return _booked(refund, evidence)
        case AnswerMissing(exchange=Exchange.PAYMENT):
            return _loud_if_unsent(refund, Meaning(RefundEvent.ANSWER_MISSING))
        case RequestRejected(exchange=Exchange.PAYMENT):
            refused = {"refused_with": evidence.refusal} if refund.stage in _IN_DOUBT else {}
            return _loud_if_unsent(refund, Meaning(RefundEvent.REFUSED, {}, refused))
        case AnswerMissing() | RequestRejected() | InProgressReported() | NotFoundReported():
            return _ended_check(refund, _status_answer(refund, evidence, at, policy))
        case _:
            return _at_our_end(evidence)


def _at_our_end(evidence: Evidence) -> Meaning:
    """What our own workers, our clocks and people do."""
    match evidence:
        case RefundApproved():
            return Meaning(RefundEvent.APPROVED, {"approved_by": evidence.approved_by})
        case SendStarted():
            return Meaning(RefundEvent.SEND_STARTED)
        case NotDelivered():
            alarm = Alarm.WRONG_TERMINAL if evidence.why in WRONG_TERMINAL else Alarm.REFUND_CONTRADICTS
            return Meaning(RefundEvent.NOT_DELIVERED, _failed(_R.NOT_DELIVERED), alarm=alarm)
        case SendByPassed():
            return Meaning(RefundEvent.SEND_BY_PASSED, _failed(_R.EXPIRED))
        case AnswerWindowPassed():
            return Meaning(RefundEvent.WINDOW_PASSED)
        case CheckAsked():
            return Meaning(RefundEvent.CHECK_ASKED)
        case OutcomeOverdue():
            return Meaning(RefundEvent.OVERDUE, alarm=Alarm.REFUND_OVERDUE)
        case _:
            message = f"no meaning is defined for evidence of kind {type(evidence).__name__}"
            raise Defect(message)


def _failed(reason: RefundReason) -> dict[str, Any]:
    return {"outcome": _FAILED, "reason": reason}


def _loud_if_unsent(refund: Refund, meaning: Meaning) -> Meaning:
    """An answer to what was never sent comes from a database that was restored: a person has to look."""
    alarm = Alarm.ANSWER_TO_WHAT_WAS_NEVER_SENT if refund.stage in _UNSENT else meaning.alarm
    return Meaning(meaning.event, meaning.concludes, meaning.remembers, alarm)


def _reported(refund: Refund, evidence: RefundReported) -> Meaning:
    """Judge a terminal's answer. Of a reversal, Success means received; it concludes nothing.

    Another amount than was to be paid out settles nothing either: the status is asked for, and then the books tell.
    """
    if evidence.error_condition == "Busy" and evidence.busy_with == refund.service_id:
        return _running(refund)
    if evidence.result in {"Success", "Partial"} and (
        refund.payment_id is not None or evidence.amount == refund.amount
    ):
        return _loud_if_unsent(refund, _positive(refund, evidence))
    verdict = CONDITIONS.get(evidence.error_condition or "") if evidence.result == "Failure" else None
    if verdict is not None:
        concludes = {"outcome": verdict[0], "reason": verdict[1]}
        return _loud_if_unsent(refund, Meaning(RefundEvent.NOT_PAID, concludes))
    asked = evidence.channel is Channel.STATUS and refund.stage not in _UNSENT
    return _loud_if_unsent(refund, Meaning(RefundEvent.CHECK_INCONCLUSIVE if asked else RefundEvent.ANSWER_MISSING))


def _positive(refund: Refund, evidence: RefundReported) -> Meaning:
    psp_reference = refund.psp_reference or evidence.psp_reference
    if refund.payment_id is not None:
        return Meaning(RefundEvent.RECEIVED, {"reason": _R.RECEIVED, "psp_reference": psp_reference})
    return Meaning(RefundEvent.PAID, {"outcome": RefundOutcome.REFUNDED, "psp_reference": psp_reference})


# --- status checks -----------------------------------------------------------------------------------------------


def _ended_check(refund: Refund, meaning: Meaning) -> Meaning:
    return Meaning(meaning.event, meaning.concludes, {"checks": refund.checks + 1, **meaning.remembers}, meaning.alarm)


def _status_answer(refund: Refund, evidence: Evidence, at: datetime, policy: Policy) -> Meaning:
    match evidence:
        case InProgressReported():
            return _running(refund)
        case RequestRejected() if refund.stage in _IN_DOUBT and refund.refused_with == evidence.refusal:
            return Meaning(RefundEvent.REFUSAL_CONFIRMED, _absent(_R.REFUSED_BY_PLATFORM))
        case NotFoundReported():
            return _not_found(refund, evidence, at, policy)
        case _:
            return Meaning(RefundEvent.CHECK_INCONCLUSIVE)


def _running(refund: Refund) -> Meaning:
    """It is being performed: every sign of its absence is void."""
    void = {"not_found_at": None, "refused_with": None}
    return _loud_if_unsent(refund, Meaning(RefundEvent.IN_PROGRESS, {}, void))


def _absent(reason: RefundReason) -> dict[str, Any]:
    """A conclusion from absence: the sentinel goes on looking."""
    return {**_failed(reason), "sentinel": True, "checks": 0}


def _not_found(refund: Refund, evidence: NotFoundReported, at: datetime, policy: Policy) -> Meaning:
    """Only the second NotFound, behind the fence, is proof, as for payments."""
    if evidence.last_service_id == refund.service_id or evidence.terminal_reassigned:
        return Meaning(RefundEvent.CHECK_INCONCLUSIVE)
    if refund.refused_with is not None and refund.stage in _IN_DOUBT:
        return Meaning(RefundEvent.REFUSAL_CONFIRMED, _absent(_R.REFUSED_BY_PLATFORM))
    if refund.stage is not RefundStage.UNKNOWN:
        return Meaning(RefundEvent.NOT_FOUND)
    if refund.sent_at is not None and at - refund.sent_at >= timedelta(seconds=policy.check_horizon_s):
        return Meaning(RefundEvent.CHECK_INCONCLUSIVE)  # the terminal may have forgotten
    if refund.not_found_at is None:
        return Meaning(RefundEvent.NOT_FOUND, {}, {"not_found_at": at})
    if at - refund.not_found_at < timedelta(seconds=policy.not_found_gap_s):
        return Meaning(RefundEvent.NOT_FOUND)
    return Meaning(RefundEvent.NOT_FOUND_PROVEN, _absent(_R.NOT_FOUND))


# --- the books ---------------------------------------------------------------------------------------------------


def _booked(refund: Refund, evidence: RefundBooked) -> Meaning:
    """The latest effective word of the books is what became of the refund, whatever was believed before."""
    if _outdated(refund, evidence):
        return Meaning(RefundEvent.BOOKS_OUTDATED)
    if _another(refund, evidence):
        return Meaning(RefundEvent.BOOKS_DIFFER)
    psp_reference = evidence.psp_reference or refund.psp_reference
    if evidence.entry is RefundEntry.RECEIVED:
        received = Meaning(RefundEvent.RECEIVED, {"reason": _R.RECEIVED, "psp_reference": psp_reference})
        return _loud_if_unsent(refund, received)
    outcome, reason = _BOOKED[evidence.entry]
    books = RefundBooks(entry=evidence.entry, psp_reference=evidence.psp_reference, effective_at=evidence.effective_at)
    remembers = {"books": books, "psp_reference": psp_reference}
    if refund.books is not None and refund.outcome is outcome:
        return Meaning(RefundEvent.BOOKS_AGREE, {}, remembers)
    concludes = {"outcome": outcome, "reason": reason}
    if outcome.paid_back:
        return _loud_if_unsent(refund, Meaning(RefundEvent.BOOKED_PAID, concludes, remembers))
    failed_later = refund.paid_back is True
    alarm = Alarm.REFUND_FAILED_LATER if failed_later else Alarm.REFUND_CONTRADICTS
    return _loud_if_unsent(refund, Meaning(RefundEvent.BOOKED_NOT_PAID, concludes, remembers, alarm))


def _outdated(refund: Refund, evidence: RefundBooked) -> bool:
    """An older word that comes later; without times, an earlier step of the same story."""
    known = refund.books
    if known is None:
        return False
    if known.effective_at and evidence.effective_at and known.effective_at != evidence.effective_at:
        return evidence.effective_at < known.effective_at
    return _STEP[evidence.entry] < _STEP[known.entry]


def _another(refund: Refund, evidence: RefundBooked) -> bool:
    """Another amount than was asked for, or a second time that the money went back."""
    cancelled = evidence.entry is RefundEntry.CANCELLED  # takes back the whole payment, and may name no amount
    no_amount = evidence.amount is None or (cancelled and evidence.amount.minor == 0)
    if not no_amount and evidence.amount != refund.amount:
        return True
    known = refund.books.psp_reference if refund.books is not None else None
    outcome = _BOOKED[evidence.entry][0] if evidence.entry in _BOOKED else None
    twice = outcome is not None and outcome.paid_back and refund.paid_back is True
    return twice and known is not None and evidence.psp_reference not in {None, known}
