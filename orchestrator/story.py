"""What a line of a journal says, for people: what was learned, from whom, and what followed. Of payments and refunds.

Pure and total: every kind of evidence and every event has its words, and a line whose detail retention has expunged
still says what kind of thing it was. Nothing here decides anything.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from orchestrator.commands import CommandKind
from orchestrator.evidence import BooksEntry, Channel, Exchange
from orchestrator.model import Outcome
from orchestrator.refunds.evidence import RefundEntry
from orchestrator.refunds.transitions import RefundEvent
from orchestrator.terminal_api import money
from orchestrator.transitions import Event

Detail = Mapping[str, Any]

# -- what was learned --------------------------------------------------------------------------------------------------

_REQUESTS: Final[Mapping[str, str]] = {
    Exchange.PAYMENT: "the request",
    Exchange.STATUS: "the status check",
    Exchange.ABORT: "the request to stop it",
}
_ENTRIES: Final[Mapping[str, str]] = {
    BooksEntry.AUTHORISED: "it was authorised",
    BooksEntry.REFUSED: "it was refused",
    BooksEntry.CANCELLED: "it was cancelled",
    BooksEntry.REFUNDED_ELSEWHERE: "it was paid back without us",
    BooksEntry.DIFFERENCE: "something happened to it that moves nothing here",
    RefundEntry.RECEIVED: "the refund was received",
    RefundEntry.DECLINED: "the refund was declined",
    RefundEntry.REFUNDED: "it was paid back",
    RefundEntry.FAILED: "the refund failed",
    RefundEntry.VOIDED: "the refund was taken back before it was paid",
    RefundEntry.REVERSED: "the money came back",
}
_OUTCOMES: Final[Mapping[str, str]] = {
    Outcome.APPROVED: "charged",
    Outcome.PARTIALLY_APPROVED: "charged in part",
    Outcome.DECLINED: "declined",
    Outcome.CANCELLED: "cancelled by the shopper",
    Outcome.ABORTED: "stopped by the till",
    Outcome.NOT_PERFORMED: "never performed",
}


def learned(kind: str, detail: Detail | None, currency: str | None = None) -> str:
    """Say what a piece of evidence is, in one sentence; ``currency`` is that of amounts which name none."""
    say = _LEARNED.get(kind)
    if say is None:
        return f"{kind.replace('_', ' ').capitalize()}."
    if detail is None:
        return f"{_EXPUNGED[kind]} What exactly was expunged when it had become old."
    return say({"currency": currency, **detail})


def _accepted(d: Detail) -> str:
    text = f"Accepted: {_money(d.get('amount'))} at {d.get('poi_id', 'its terminal')}."
    if d.get("override_by"):
        text += f" {d['override_by']} let the sale be paid again: {_quoted(d.get('override_reason'))}."
    return text


def _refund_accepted(d: Detail) -> str:
    text = f"{d.get('asked_by', 'Somebody')} asked to pay {_money(d.get('amount'))} back."
    return text + (f" Reason: {_quoted(d['reason'])}." if d.get("reason") else "")


def _reported(d: Detail) -> str:
    who = "The terminal reported" if d.get("authentic", True) else "Somebody without our tag reported"
    condition = f" ({d['error_condition']})" if d.get("error_condition") else ""
    match d.get("result"):
        case "Success":
            what = f"approved, {_money(d.get('authorised') or d.get('amount'))}"
        case "Partial":
            what = f"approved for a part, {_money(d.get('authorised') or d.get('amount'))}"
        case "Failure":
            what = f"it failed{condition}"
        case other:
            what = f"{_quoted(other)}{condition}"
    extras = [_card(d), "offline, without asking the bank" if d.get("online") is False else ""]
    refusal = f" The reason given: {_quoted(d['refusal_reason'])}." if d.get("refusal_reason") else ""
    return f"{who}: {', '.join(filter(None, (what, *extras)))}.{refusal}"


def _refund_reported(d: Detail) -> str:
    condition = f" ({d['error_condition']})" if d.get("error_condition") else ""
    said = "it was taken" if d.get("result") == "Success" else f"it was refused{condition}"
    refusal = f" The reason given: {_quoted(d['refusal_reason'])}." if d.get("refusal_reason") else ""
    return f"The terminal answered to the refund: {said}.{refusal}"


def _card(d: Detail) -> str:
    parts = (d.get("card_brand"), d.get("card_last4") and f"…{d['card_last4']}")
    return " ".join(filter(None, parts))


def _not_found(d: Detail) -> str:
    text = "The terminal does not know it."
    if d.get("terminal_reassigned"):
        text += " It was re-assigned since, so that proves nothing."
    elif d.get("last_service_id"):
        text += f" The last request that it saw was {d['last_service_id']}."
    return text


def _booked(d: Detail) -> str:
    amount = f", {_money(d['amount'])}" if d.get("amount") else ""
    return f"The platform's books say that {_ENTRIES.get(d.get('entry', ''), _quoted(d.get('entry')))}{amount}."


def _ruled(d: Detail) -> str:
    amount = ""
    if d.get("authorised_minor") is not None:
        amount = f", {money.in_words(str(d['currency'] or 'the payment'), d['authorised_minor'])}"
    second = f" {d['second']} agreed." if d.get("second") else ""
    outcome = _OUTCOMES.get(d.get("outcome", ""), _quoted(d.get("outcome")))
    return f"{d.get('ruled_by', 'Somebody')} ruled: {outcome}{amount}. Reason: {_quoted(d.get('reason'))}.{second}"


def _exchange(d: Detail) -> str:
    return _REQUESTS.get(d.get("exchange", ""), "a request")


_LEARNED: Final[Mapping[str, Callable[[Detail], str]]] = {
    "submission_accepted": _accepted,
    "send_started": lambda _: "A worker took it, and began to send the request.",
    "not_delivered": lambda d: f"The request was not delivered ({d.get('why')}): no byte of it left.",
    "answer_missing": lambda d: f"No usable answer came to {_exchange(d)} ({d.get('why')}).",
    "request_rejected": lambda d: f"The platform refused {_exchange(d)} ({d.get('refusal')}).",
    "result_reported": _reported,
    "reject_pushed": lambda d: f"A pushed event says that a request was rejected: {_quoted(d.get('why'))}.",
    "in_progress_reported": lambda d: (
        "The terminal says that it is still running" + (f" ({d['detail']})." if d.get("detail") else ".")
    ),
    "not_found_reported": _not_found,
    "abort_asked": lambda d: f"{d.get('asked_by', 'Somebody')} asked for it to be stopped.",
    "abort_sent": lambda d: f"The request to stop it was sent; its answer ({d.get('answer')}) proves nothing.",
    "check_asked": lambda d: f"{d.get('asked_by', 'Somebody')} asked what became of it.",
    "send_by_passed": lambda _: "It was not sent in its time, and will not be sent any more.",
    "answer_window_passed": lambda _: "The time in which every payment ends is over, and no conclusive answer came.",
    "books_reported": _booked,
    "report_silent": lambda _: "A report that covers its day has no line for it.",
    "ruled": _ruled,
    "refund_accepted": _refund_accepted,
    "refund_approved": lambda d: f"{d.get('approved_by', 'Somebody')} agreed to it.",
    "refund_reported": _refund_reported,
    "refund_booked": _booked,
    "outcome_overdue": lambda _: "The books have said nothing for as long as a refund may take.",
}

#: What a line says whose detail is gone.
_EXPUNGED: Final[Mapping[str, str]] = {
    "submission_accepted": "It was accepted.",
    "send_started": "A worker took it, and began to send the request.",
    "not_delivered": "The request was not delivered.",
    "answer_missing": "No usable answer came to a request.",
    "request_rejected": "The platform refused a request.",
    "result_reported": "A terminal's result came in.",
    "reject_pushed": "A pushed event said that a request was rejected.",
    "in_progress_reported": "The terminal said that it was still running.",
    "not_found_reported": "The terminal did not know it.",
    "abort_asked": "Somebody asked for it to be stopped.",
    "abort_sent": "The request to stop it was sent.",
    "check_asked": "Somebody asked what became of it.",
    "send_by_passed": "It was not sent in its time.",
    "answer_window_passed": "The time for an answer was over.",
    "books_reported": "The platform's books spoke of it.",
    "report_silent": "A report had no line for it.",
    "ruled": "A person ruled on it.",
    "refund_accepted": "The refund was accepted.",
    "refund_approved": "A second person agreed to it.",
    "refund_reported": "The terminal answered to the refund.",
    "refund_booked": "The platform's books spoke of it.",
    "outcome_overdue": "The books had said nothing for too long.",
}

# -- from whom ---------------------------------------------------------------------------------------------------------

_CHANNELS: Final[Mapping[str, str]] = {
    Channel.CONNECTION: "the answer to our request",
    Channel.STATUS: "the answer to a status check",
    Channel.NOTIFICATION: "a notification",
}
_SOURCES: Final[Mapping[str, str]] = {
    "submission_accepted": "the caller",
    "refund_accepted": "the caller",
    "send_started": "our worker",
    "not_delivered": "our worker",
    "answer_missing": "our worker",
    "request_rejected": "the platform",
    "reject_pushed": "a notification",
    "in_progress_reported": "the answer to a status check",
    "not_found_reported": "the answer to a status check",
    "abort_asked": "a person or a till",
    "abort_sent": "our worker",
    "check_asked": "a person or a till",
    "send_by_passed": "the clock",
    "answer_window_passed": "the clock",
    "outcome_overdue": "the clock",
    "ruled": "a person",
    "refund_approved": "a person",
}


def source(kind: str, detail: Detail | None) -> str:
    """Say from whom it was learned."""
    said = detail or {}
    if "channel" in said:
        return _CHANNELS.get(said["channel"], "a terminal")
    if "source" in said:
        door, _, name = str(said["source"]).partition(":")
        return f"a {door}, {name}" if name else door
    return _SOURCES.get(kind, "the terminal" if kind.endswith("reported") else "the platform's books")


# -- what followed -----------------------------------------------------------------------------------------------------

#: What an event means, for those whose name and move do not say it all.
MEANINGS: Final[Mapping[str, str]] = {
    "accepted": "It is durable from here on.",
    Event.SEND_STARTED: "From now on the request may be on the wire: it is never sent again, only asked about.",
    Event.NOT_DELIVERED: "Proof that nothing was performed.",
    Event.SEND_BY_PASSED: "Nobody at the terminal was asked to pay.",
    Event.ENDED_THOUGH_BOOKED: "The books know a charge of what was never sent: a person has to look.",
    Event.ANSWER_MISSING: "That proves nothing: the terminal is asked.",
    Event.REFUSED: "One status check has to confirm the refusal.",
    Event.REFUSAL_CONFIRMED: "Refused twice: it was never performed.",
    Event.WINDOW_PASSED: "It is not known what became of it: the terminal is asked until it tells.",
    Event.CHARGED: "An authentic result: the money moved.",
    Event.CHARGED_AS_BOOKED: "The terminal and the books agree: the money moved.",
    Event.NOT_CHARGED: "An authentic result: no money moved.",
    Event.NOT_PERFORMED: "An authentic result: the payment did not take place.",
    Event.RESULT_NOTED: "It says nothing new about the money.",
    Event.RESULT_CONTRADICTS: "It contradicts what was known: only the books or a person settle it now.",
    Event.HEARSAY: "Without proof of where it is from, it only has the terminal asked.",
    Event.HEARSAY_DISAGREES: "Without proof it moves nothing; the terminal is asked.",
    Event.CHECK_ASKED: "The terminal is asked.",
    Event.IN_PROGRESS: "It is asked again later.",
    Event.NOT_FOUND: "No proof yet: the request may still be in flight.",
    Event.NOT_FOUND_PROVEN: "The second time, long enough after the first: it was never performed.",
    Event.CHECK_INCONCLUSIVE: "The check taught nothing.",
    Event.ABORT_ASKED: "The terminal is asked to stop, once it runs there.",
    Event.ABORT_SENT: "Only its own result says whether it was stopped.",
    Event.BOOKS_AUTHORISED: "The terminal is asked before the books are believed.",
    Event.BOOKS_AUTHORISED_PROVEN: "The books prove that the money moved.",
    Event.BOOKS_REFUSED: "One refused try: it proves nothing against another one.",
    Event.BOOKS_REFUSED_PROVEN: "The books prove that no money moved.",
    Event.BOOKS_REFUSED_OFFLINE: "The bank refused what the terminal had approved offline.",
    Event.BOOKS_CANCELLED: "The platform took the authorisation back.",
    Event.BOOKS_CONTRADICT: "The books contradict what was known.",
    Event.BOOKS_DIFFER: "The books differ; nothing is moved by that, and a person is told.",
    Event.BOOKS_SILENT: "The books agree that there was no charge.",
    Event.BOOKS_OUTDATED: "The books have said something later already.",
    Event.RULED_CHARGED: "A person settled it: the money moved.",
    Event.RULED_NOT_CHARGED: "A person settled it: no money moved.",
    RefundEvent.APPROVED: "Two people want it: it is sent.",
    RefundEvent.RECEIVED: "The platform took it; its books will say what became of it.",
    RefundEvent.PAID: "The money went back.",
    RefundEvent.NOT_PAID: "The money did not go back.",
    RefundEvent.BOOKED_PAID: "The books say that the money went back.",
    RefundEvent.BOOKED_NOT_PAID: "The books say that the money did not go back.",
    RefundEvent.BOOKS_AGREE: "The books say so again.",
    RefundEvent.OVERDUE: "Nothing is decided by silence: a person is told.",
}


def followed(event: str, before: str | None, after: str) -> str:
    """Say what it means and what it moved."""
    meaning = MEANINGS.get(event, event.replace("_", " ").capitalize() + ".")
    if before is None or before == after:
        return meaning
    return f"{meaning} {before.capitalize()} became {after}."


# -- what is planned ---------------------------------------------------------------------------------------------------

PLANNED: Final[Mapping[str, str]] = {
    CommandKind.SEND: "Send the request, when it is its turn",
    CommandKind.EXPIRE: "End it unsent, if it has not been sent by then",
    CommandKind.EXPECT_ANSWER: "Ask the terminal, if no answer has come by then",
    CommandKind.CHECK_STATUS: "Ask the terminal what became of it",
    CommandKind.SEND_ABORT: "Ask the terminal to stop",
    CommandKind.TELL_CALLER: "Tell the caller",
    CommandKind.SEND_REFUND: "Send the refund",
    CommandKind.CHECK_REFUND: "Ask the terminal what became of the refund",
    CommandKind.EXPECT_REFUND: "Look after the refund, if nothing has been heard of it by then",
}


def _money(amount: Any) -> str:
    """An amount as details keep it."""
    if not isinstance(amount, Mapping):
        return "an amount that it does not name"
    return money.in_words(str(amount.get("currency")), int(amount.get("minor") or 0))


def _quoted(value: Any) -> str:
    return f"“{value}”"
