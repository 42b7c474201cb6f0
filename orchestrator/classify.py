"""What a piece of evidence means for a transaction, now. Every guard of the state machine is here; the table has none.

Pure. ``classify`` names the event, what a step that moves would conclude, and what is remembered in any case.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from orchestrator.books import (
    booked_as_charged,
    books_agree,
    books_contradict,
    books_meaning,
    cancelled,
    may_be_one_try,
    older_than_horizon,
    proven,
)
from orchestrator.errors import Defect
from orchestrator.evidence import (
    AbortAsked,
    AbortSent,
    AnswerMissing,
    AnswerWindowPassed,
    BooksReported,
    Channel,
    CheckAsked,
    Evidence,
    Exchange,
    InProgressReported,
    NotDelivered,
    NotFoundReported,
    RejectPushed,
    ReportSilent,
    RequestRejected,
    ResultReported,
    Ruled,
    SendByPassed,
    SendStarted,
)
from orchestrator.meaning import Alarm, Meaning
from orchestrator.model import Outcome, Reason, Stage, Transaction
from orchestrator.policy import Policy
from orchestrator.transitions import Event

#: What the terminal's error condition says about the money (cells, "error conditions"). Any other asks for the status.
CONDITIONS: Final[Mapping[str, Outcome]] = {
    "Refusal": Outcome.DECLINED,
    "InvalidCard": Outcome.DECLINED,
    "WrongPIN": Outcome.DECLINED,
    "PaymentRestriction": Outcome.DECLINED,
    "Cancel": Outcome.CANCELLED,
    "Aborted": Outcome.ABORTED,
    "Busy": Outcome.NOT_PERFORMED,
    "DeviceOut": Outcome.NOT_PERFORMED,
    "LoggedOut": Outcome.NOT_PERFORMED,
    "MessageFormat": Outcome.NOT_PERFORMED,
    "NotAllowed": Outcome.NOT_PERFORMED,
    "InsertedCard": Outcome.NOT_PERFORMED,
    "UnavailableDevice": Outcome.NOT_PERFORMED,
    "UnavailableService": Outcome.NOT_PERFORMED,
}

_REASONS: Final[Mapping[str, Reason]] = {
    "Busy": Reason.TERMINAL_BUSY,
    "DeviceOut": Reason.TERMINAL_UNAVAILABLE,
    "LoggedOut": Reason.TERMINAL_UNAVAILABLE,
    "InsertedCard": Reason.TERMINAL_UNAVAILABLE,
    "UnavailableDevice": Reason.TERMINAL_UNAVAILABLE,
    "UnavailableService": Reason.TERMINAL_UNAVAILABLE,
    "MessageFormat": Reason.NOT_ALLOWED,
    "NotAllowed": Reason.NOT_ALLOWED,
}

#: Why nothing was delivered, where whoever listens at a terminal's address is not that terminal.
WRONG_TERMINAL: Final = frozenset({"certificate-name", "certificate-not-trusted"})

_IN_DOUBT: Final = frozenset({Stage.SENT, Stage.UNKNOWN})
_OPEN: Final = _IN_DOUBT | {Stage.QUEUED}


def classify(tx: Transaction, evidence: Evidence, at: datetime, policy: Policy) -> Meaning:
    """Say what ``evidence`` means for ``tx`` at the instant ``at``.

    Raises:
        Defect: for a kind of evidence that this function does not know.
    """
    match evidence:
        case ResultReported():
            return _result(tx, evidence, at)
        case RejectPushed():
            return Meaning(Event.HEARSAY)
        case AnswerMissing(exchange=Exchange.PAYMENT):
            return Meaning(Event.ANSWER_MISSING)
        case RequestRejected(exchange=Exchange.PAYMENT):
            return Meaning(Event.REFUSED, {}, {"refused_with": evidence.refusal} if tx.stage in _OPEN else {})
        case AnswerMissing() | RequestRejected() | InProgressReported() | NotFoundReported():
            return _status_answer(tx, evidence, at, policy)
        case BooksReported():
            return books_meaning(tx, evidence, at, policy)
        case ReportSilent():
            return Meaning(Event.BOOKS_SILENT, {"reason": Reason.ABSENT_FROM_REPORT})
        case Ruled():
            return _ruling(tx, evidence)
        case _:
            return _at_our_end(tx, evidence)


def _at_our_end(tx: Transaction, evidence: Evidence) -> Meaning:
    """What our own workers, our clocks and the caller do. Nobody ends unsent what the books have as a charge."""
    booked_unsent = tx.stage is Stage.QUEUED and booked_as_charged(tx)
    match evidence:
        case SendStarted():
            return Meaning(Event.SEND_STARTED)
        case NotDelivered() if tx.stage in _IN_DOUBT and booked_as_charged(tx):
            return Meaning(Event.RESULT_CONTRADICTS, alarm=Alarm.CONTRADICTION)
        case NotDelivered():
            alarm = Alarm.WRONG_TERMINAL if evidence.why in WRONG_TERMINAL else None
            return Meaning(Event.NOT_DELIVERED, {"reason": Reason.NOT_DELIVERED}, alarm=alarm)
        case SendByPassed() | AbortAsked() if booked_unsent:
            return Meaning(Event.ENDED_THOUGH_BOOKED, alarm=Alarm.BOOKED_BEFORE_SEND)
        case SendByPassed():
            return Meaning(Event.SEND_BY_PASSED, {"reason": Reason.EXPIRED})
        case AnswerWindowPassed():
            return Meaning(Event.WINDOW_PASSED)
        case AbortAsked():
            concludes = {"outcome": Outcome.ABORTED, "reason": Reason.ABORTED_BEFORE_SEND}
            return Meaning(Event.ABORT_ASKED, concludes, {"abort_asked": tx.outcome is None or tx.abort_asked})
        case AbortSent():
            return Meaning(Event.ABORT_SENT)
        case CheckAsked():
            return Meaning(Event.CHECK_ASKED)
        case _:
            message = f"no meaning is defined for evidence of kind {type(evidence).__name__}"
            raise Defect(message)


def _result(tx: Transaction, evidence: ResultReported, at: datetime) -> Meaning:
    """Judge a terminal's result: first what it says, then whether it may say so, then what we already believed."""
    if _names_us_as_running(tx, evidence):
        running = _running(tx)
        return _ended_check(tx, evidence, at, running) if evidence.authentic else _hearsay(tx)
    outcome = _outcome(tx, evidence)
    if outcome is None:
        if not evidence.authentic:
            return _hearsay(tx)
        if evidence.channel is Channel.STATUS and tx.stage is not Stage.QUEUED:
            return _ended_check(tx, evidence, at, _inconclusive(tx))
        return Meaning(Event.ANSWER_MISSING)
    meaning = _concluding(tx, evidence, outcome)
    if not evidence.authentic:
        return _hearsay(tx, disagrees=meaning.event is not Event.RESULT_NOTED)
    return _ended_check(tx, evidence, at, meaning) if evidence.channel is Channel.STATUS else meaning


def _names_us_as_running(tx: Transaction, evidence: ResultReported) -> bool:
    """A terminal that is busy with our own ServiceID is performing this very payment."""
    return evidence.error_condition == "Busy" and evidence.busy_with == tx.service_id


def _outcome(tx: Transaction, evidence: ResultReported) -> Outcome | None:
    """Read Result and ErrorCondition; None where they settle nothing."""
    match evidence.result:
        case "Success" | "Partial" if not _is_a_charge(tx, evidence):
            return None
        case "Partial":
            return Outcome.PARTIALLY_APPROVED
        case "Success":
            less = evidence.authorised is not None and evidence.authorised.minor < tx.amount.minor
            return Outcome.PARTIALLY_APPROVED if less else Outcome.APPROVED
        case "Failure":
            return CONDITIONS.get(evidence.error_condition or "")
        case _:
            return None


def _is_a_charge(tx: Transaction, evidence: ResultReported) -> bool:
    """An approval has an amount, above zero, in the currency that was asked for; else it has to be asked about."""
    authorised = evidence.authorised
    return authorised is not None and authorised.minor > 0 and authorised.currency == tx.amount.currency


def _hearsay(tx: Transaction, *, disagrees: bool = False) -> Meaning:
    concluded = tx.stage not in _OPEN and tx.stage is not Stage.DISPUTED
    if concluded and disagrees:
        return Meaning(Event.HEARSAY_DISAGREES)
    return Meaning(Event.HEARSAY, alarm=Alarm.HEARSAY_BEFORE_SEND if tx.stage is Stage.QUEUED else None)


def _concluding(tx: Transaction, evidence: ResultReported, outcome: Outcome) -> Meaning:
    """An authentic outcome against what we believe."""
    stage = tx.stage
    if stage is Stage.DISPUTED:
        return Meaning(Event.RESULT_NOTED)
    if stage in _OPEN or (stage is Stage.NOT_PERFORMED and outcome is not Outcome.NOT_PERFORMED):
        return _news(tx, evidence, outcome)
    if outcome.charged is not tx.charged:
        return Meaning(Event.RESULT_CONTRADICTS, alarm=Alarm.CONTRADICTION)
    if not outcome.charged:
        return Meaning(Event.RESULT_NOTED)
    other_amount = evidence.authorised is not None and evidence.authorised.minor != tx.authorised_minor
    if not other_amount and may_be_one_try(tx.psp_reference, evidence.psp_reference):
        return Meaning(Event.RESULT_NOTED)
    if tx.reason is Reason.BOOKS:
        return Meaning(Event.BOOKS_DIFFER, alarm=Alarm.BOOKS_DIFFER)
    return Meaning(Event.RESULT_CONTRADICTS, alarm=Alarm.CONTRADICTION)  # two amounts, or two charges


def _news(tx: Transaction, evidence: ResultReported, outcome: Outcome) -> Meaning:
    """An authentic outcome for a transaction that has none yet, or was concluded from absence."""
    concludes: dict[str, Any] = {
        "outcome": outcome,
        "reason": _REASONS.get(evidence.error_condition or "") if outcome is Outcome.NOT_PERFORMED else None,
        "psp_reference": evidence.psp_reference or tx.psp_reference,
        "tender_reference": evidence.tender_reference or tx.tender_reference,
    }
    if books_contradict(tx, evidence, outcome):
        return Meaning(Event.RESULT_CONTRADICTS, alarm=Alarm.CONTRADICTION)
    if not outcome.charged:
        event = Event.NOT_PERFORMED if outcome is Outcome.NOT_PERFORMED else Event.NOT_CHARGED
        alarm = Alarm.ANSWER_TO_WHAT_WAS_NEVER_SENT if tx.stage is Stage.QUEUED else None
        return Meaning(event, concludes, alarm=alarm)
    authorised = evidence.authorised
    if authorised is None:
        message = "a charge was concluded without an amount"
        raise Defect(message)
    agreed = tx.books if tx.books is not None and books_agree(tx.books, evidence) else None
    if agreed is not None:
        concludes["psp_reference"] = concludes["psp_reference"] or agreed.psp_reference
    late = tx.stage in {Stage.QUEUED, Stage.NOT_PERFORMED}
    concludes |= {"authorised_minor": authorised.minor, "late": late}
    if late:
        alarm = Alarm.LATE_APPROVAL
    elif authorised.minor > tx.amount.minor + evidence.extra_minor:
        alarm = Alarm.AMOUNT_ABOVE_REQUEST
    elif evidence.result == "Success" and outcome is Outcome.PARTIALLY_APPROVED:
        alarm = Alarm.AMOUNT_BELOW_REQUEST
    elif booked_as_charged(tx) and agreed is None:
        alarm = Alarm.BOOKS_DIFFER
    else:
        alarm = None
    concludes["provisional"] = evidence.online is False and agreed is None
    return Meaning(Event.CHARGED if agreed is None else Event.CHARGED_AS_BOOKED, concludes, alarm=alarm)


# --- status checks -----------------------------------------------------------------------------------------------


def _ended_check(tx: Transaction, evidence: Evidence, at: datetime, meaning: Meaning) -> Meaning:
    """Count the check, and note whether its answer leaves the terminal free for the next payment."""
    if isinstance(evidence, ResultReported) and evidence.channel is not Channel.STATUS:
        return meaning
    counted = {
        "checked_at": at,
        "checks": tx.checks + 1,
        "asked_since_unknown": tx.stage is Stage.UNKNOWN and meaning.event is not Event.IN_PROGRESS,
    }
    return Meaning(meaning.event, meaning.concludes, counted | dict(meaning.remembers), meaning.alarm)


def _status_answer(tx: Transaction, evidence: Evidence, at: datetime, policy: Policy) -> Meaning:
    match evidence:
        case AnswerMissing(exchange=Exchange.ABORT) | RequestRejected(exchange=Exchange.ABORT):
            return Meaning(Event.ABORT_SENT)
        case InProgressReported():
            meaning = _running(tx)
        case RequestRejected() if _refused_again(tx, evidence):
            meaning = Meaning(Event.REFUSAL_CONFIRMED, _absent(Reason.REFUSED_BY_PLATFORM))
        case NotFoundReported():
            meaning = _not_found(tx, evidence, at, policy)
        case _:
            meaning = _inconclusive(tx)
    return _ended_check(tx, evidence, at, meaning)


def _refused_again(tx: Transaction, evidence: RequestRejected) -> bool:
    """The status request is refused as the payment was: what the platform refuses twice was never carried out."""
    open_still = tx.stage in _IN_DOUBT and not booked_as_charged(tx)
    return open_still and tx.refused_with == evidence.refusal


def _running(tx: Transaction) -> Meaning:
    """The payment is being performed: every sign of its absence is void, and once concluded it has to be stopped."""
    void: dict[str, Any] = {"not_found_at": None, "refused_with": None}
    match tx.stage:
        case Stage.NOT_PERFORMED:
            return Meaning(Event.IN_PROGRESS, {}, {**void, "abort_asked": True}, Alarm.STARTED_AFTER_CONCLUSION)
        case Stage.RECONCILED_NOT_CHARGED if not tx.sentinel:
            return Meaning(Event.CHECK_INCONCLUSIVE)
        case Stage.RECONCILED_NOT_CHARGED:
            return Meaning(Event.IN_PROGRESS, {}, void, Alarm.STARTED_AFTER_CONCLUSION)
        case Stage.QUEUED:
            return Meaning(Event.IN_PROGRESS, {}, void, Alarm.ANSWER_TO_WHAT_WAS_NEVER_SENT)
        case _:
            return Meaning(Event.IN_PROGRESS, {}, void)


def _absent(reason: Reason) -> dict[str, Any]:
    """A conclusion from absence: the sentinel goes on looking."""
    return {"reason": reason, "sentinel": True, "checks": 0}


def _not_found(tx: Transaction, evidence: NotFoundReported, at: datetime, policy: Policy) -> Meaning:
    """NotFound is a statement about now. Only the second one, behind the fence, is proof (cells, "NotFound")."""
    if evidence.last_service_id == tx.service_id or evidence.terminal_reassigned or booked_as_charged(tx):
        return _inconclusive(tx)
    if tx.refused_with is not None and tx.stage in _IN_DOUBT:
        return Meaning(Event.REFUSAL_CONFIRMED, _absent(Reason.REFUSED_BY_PLATFORM))
    if tx.stage is not Stage.UNKNOWN:
        return Meaning(Event.NOT_FOUND)
    if older_than_horizon(tx, at, policy):  # the terminal may have forgotten
        return _inconclusive(tx)
    if tx.not_found_at is None:
        return Meaning(Event.NOT_FOUND, {}, {"not_found_at": at})
    if at - tx.not_found_at < timedelta(seconds=policy.not_found_gap_s):
        return Meaning(Event.NOT_FOUND)
    return Meaning(Event.NOT_FOUND_PROVEN, _absent(Reason.NOT_FOUND))


def _inconclusive(tx: Transaction) -> Meaning:
    """A check that taught nothing; when the books had already spoken, their word now stands."""
    if tx.stage is not Stage.UNKNOWN or tx.books is None:
        return Meaning(Event.CHECK_INCONCLUSIVE)
    if tx.books.authorised:
        return proven(tx, tx.books)
    return Meaning(Event.BOOKS_CANCELLED, cancelled(tx))


def _ruling(tx: Transaction, evidence: Ruled) -> Meaning:
    concludes: dict[str, Any] = {"outcome": evidence.outcome, "reason": Reason.RULED}
    if evidence.outcome.charged:
        whole = tx.amount.minor if evidence.outcome is Outcome.APPROVED else None
        minor = whole if evidence.authorised_minor is None else evidence.authorised_minor
        return Meaning(Event.RULED_CHARGED, concludes | {"authorised_minor": minor})
    return Meaning(Event.RULED_NOT_CHARGED, concludes | {"sentinel": True, "checks": 0})
