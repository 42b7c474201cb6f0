"""What the platform's books mean for a transaction: webhooks and report lines. Guards, like those of ``classify``."""

from datetime import datetime, timedelta
from typing import Any

from orchestrator.evidence import BooksEntry, BooksReported, ResultReported
from orchestrator.meaning import Alarm, Meaning
from orchestrator.model import Books, Outcome, Reason, Stage, Transaction
from orchestrator.policy import Policy
from orchestrator.transitions import Event


def books_meaning(tx: Transaction, evidence: BooksReported, at: datetime, policy: Policy) -> Meaning:
    match evidence.entry:
        case BooksEntry.REFUNDED_ELSEWHERE | BooksEntry.DIFFERENCE:
            return Meaning(Event.BOOKS_DIFFER, alarm=Alarm.BOOKS_DIFFER)
        case _ if _outdated(tx, evidence):
            return Meaning(Event.BOOKS_OUTDATED)
        case BooksEntry.AUTHORISED:
            return _authorised(tx, evidence)
        case BooksEntry.REFUSED:
            return _refused(tx, evidence, at, policy)
        case BooksEntry.CANCELLED:
            return _cancelled(tx, evidence)


def _outdated(tx: Transaction, evidence: BooksReported) -> bool:
    """The latest effective fact for one PSP reference is the books' word; an older one that comes later is not."""
    known = tx.books
    if known is None or known.effective_at is None or evidence.effective_at is None:
        return False
    return known.psp_reference == evidence.psp_reference and evidence.effective_at < known.effective_at


def _cancelled(tx: Transaction, evidence: BooksReported) -> Meaning:
    """The platform took an authorisation back: this payment's, unless it names another try of the dialogue, or this one
    was never sent and the books know no charge of it.
    """
    of_nothing_sent = tx.stage is Stage.QUEUED and not booked_as_charged(tx)
    if of_nothing_sent or _of_another_try(tx, evidence.psp_reference):
        return Meaning(Event.BOOKS_REFUSED)
    remembers = {"books": _word(evidence, authorised=False)}
    return Meaning(Event.BOOKS_CANCELLED, cancelled(tx), remembers, Alarm.CONTRADICTION if tx.charged else None)


def cancelled(tx: Transaction) -> dict[str, Any]:
    """Conclude by a cancellation: nothing is charged any more, and what was concluded without a charge stays."""
    return {
        "outcome": tx.outcome or Outcome.DECLINED,
        "reason": tx.reason if tx.outcome else Reason.BOOKS,
        "sentinel": False,
    }


def may_be_one_try(one: str | None, other: str | None) -> bool:
    """Whether two PSP references, either of which may not have been named, can be the same try of a dialogue."""
    return one is None or other is None or one == other


def _of_another_try(tx: Transaction, psp_reference: str | None) -> bool:
    known = tx.psp_reference or (tx.books.psp_reference if tx.books and tx.books.authorised else None)
    return not may_be_one_try(known, psp_reference)


def _word(evidence: BooksReported, *, authorised: bool) -> Books:
    return Books(
        authorised=authorised,
        psp_reference=evidence.psp_reference,
        amount=evidence.amount,
        effective_at=evidence.effective_at,
    )


def booked(tx: Transaction, books: Books) -> dict[str, Any]:
    """Conclude by the books alone: their amount is the authorised one."""
    minor = books.amount.minor if books.amount else tx.amount.minor
    return {
        "outcome": Outcome.PARTIALLY_APPROVED if minor < tx.amount.minor else Outcome.APPROVED,
        "reason": Reason.BOOKS,
        "authorised_minor": minor,
        "psp_reference": books.psp_reference or tx.psp_reference,
        "late": tx.late or tx.stage is Stage.NOT_PERFORMED,
        "provisional": False,
        "sentinel": False,
    }


def proven(tx: Transaction, books: Books) -> Meaning:
    """Conclude an unknown by the books' charge, with an alarm where they name another amount than was asked for."""
    minor = books.amount.minor if books.amount else tx.amount.minor
    alarm = None
    if minor > tx.amount.minor:
        alarm = Alarm.AMOUNT_ABOVE_REQUEST
    elif minor < tx.amount.minor:
        alarm = Alarm.AMOUNT_BELOW_REQUEST
    return Meaning(Event.BOOKS_AUTHORISED_PROVEN, booked(tx, books), {"books": books}, alarm)


def _authorised(tx: Transaction, evidence: BooksReported) -> Meaning:
    books = _word(evidence, authorised=True)
    if evidence.amount is not None and evidence.amount.currency != tx.amount.currency:
        return Meaning(Event.BOOKS_DIFFER, alarm=Alarm.BOOKS_DIFFER)
    remembers = {"books": books}
    match tx.stage:
        case Stage.QUEUED:
            return Meaning(Event.BOOKS_AUTHORISED, {}, remembers, Alarm.BOOKED_BEFORE_SEND)
        case Stage.SENT:
            return Meaning(Event.BOOKS_AUTHORISED, {}, remembers)
        case Stage.UNKNOWN if not tx.asked_since_unknown:
            return Meaning(Event.BOOKS_AUTHORISED, {}, remembers)
        case Stage.UNKNOWN | Stage.DISPUTED:
            return proven(tx, books)
        case Stage.NOT_PERFORMED:
            return Meaning(Event.BOOKS_AUTHORISED_PROVEN, booked(tx, books), remembers, Alarm.LATE_APPROVAL)
        case Stage.NOT_CHARGED | Stage.RECONCILED_NOT_CHARGED:
            return Meaning(Event.BOOKS_CONTRADICT, {}, remembers, Alarm.CONTRADICTION)
        case Stage.CHARGED | Stage.RECONCILED_CHARGED:
            return _booked_again(tx, books)


def _booked_again(tx: Transaction, books: Books) -> Meaning:
    """A charge that the books confirm, unless they name another amount or another PSP reference."""
    other_amount = books.amount is not None and books.amount.minor != tx.authorised_minor
    if other_amount or not may_be_one_try(tx.psp_reference, books.psp_reference):
        return Meaning(Event.BOOKS_DIFFER, alarm=Alarm.BOOKS_DIFFER)
    agreed = {
        "outcome": tx.outcome,
        "reason": tx.reason,
        "provisional": False,
        "psp_reference": tx.psp_reference or books.psp_reference,
    }
    return Meaning(Event.BOOKS_AUTHORISED_PROVEN, agreed, {"books": books})


def _refused(tx: Transaction, evidence: BooksReported, at: datetime, policy: Policy) -> Meaning:
    """A refused authorisation: one try of a dialogue that may have had several, unless something proves more."""
    books = _word(evidence, authorised=False)
    same_psp = evidence.psp_reference is not None and evidence.psp_reference == tx.psp_reference
    declined = {"outcome": Outcome.DECLINED, "reason": Reason.BOOKS, "authorised_minor": None, "provisional": False}
    match tx.stage:
        case Stage.UNKNOWN | Stage.DISPUTED if not _refuses_what_is_booked(tx, evidence):
            return Meaning(Event.BOOKS_REFUSED)
        case Stage.UNKNOWN | Stage.DISPUTED if evidence.covers_day or older_than_horizon(tx, at, policy):
            return Meaning(Event.BOOKS_REFUSED_PROVEN, declined, {"books": books})
        case Stage.CHARGED if same_psp and tx.provisional:
            return Meaning(Event.BOOKS_REFUSED_OFFLINE, declined, {"books": books}, Alarm.OFFLINE_APPROVAL_REFUSED)
        case Stage.CHARGED | Stage.RECONCILED_CHARGED if same_psp:
            return Meaning(Event.BOOKS_CONTRADICT, {}, {"books": books}, Alarm.CONTRADICTION)
        case Stage.NOT_CHARGED:
            return Meaning(Event.BOOKS_REFUSED, {"outcome": tx.outcome, "reason": tx.reason}, {"books": books})
        case _:
            return Meaning(Event.BOOKS_REFUSED)


def _refuses_what_is_booked(tx: Transaction, evidence: BooksReported) -> bool:
    """Whether no charge is in the books, or the very one that is refused here."""
    if tx.books is None or not tx.books.authorised:
        return True
    return evidence.psp_reference is not None and evidence.psp_reference == tx.books.psp_reference


def older_than_horizon(tx: Transaction, at: datetime, policy: Policy) -> bool:
    return tx.sent_at is not None and at - tx.sent_at >= timedelta(seconds=policy.check_horizon_s)


def booked_as_charged(tx: Transaction) -> bool:
    """Whether the books have said that the money moved."""
    return tx.books is not None and tx.books.authorised


def books_agree(books: Books, evidence: ResultReported) -> bool:
    """Whether a terminal's charge is the one that the books name."""
    one_try = may_be_one_try(books.psp_reference, evidence.psp_reference)
    return books.authorised and one_try and books.amount in {None, evidence.authorised}


def books_contradict(tx: Transaction, evidence: ResultReported, outcome: Outcome) -> bool:
    """Whether the books said before the terminal did that the money went the other way."""
    if tx.books is None or tx.books.authorised is outcome.charged:
        return False
    return tx.books.authorised or may_be_one_try(tx.books.psp_reference, evidence.psp_reference)
