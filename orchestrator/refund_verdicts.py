"""What is told about the money of a refund, in one sentence. One source for the console and the command line."""

from collections.abc import Mapping
from typing import Any, Final

from orchestrator.model import State
from orchestrator.refunds.model import RefundOutcome, RefundReason
from orchestrator.terminal_api import money

_PAID_BACK: Final = {
    RefundOutcome.REFUNDED: "Paid back {}.",
    RefundOutcome.CANCELLED: "Paid back {}: the payment was cancelled before it was captured.",
}
_WHY_NOT: Final = {
    RefundReason.EXPIRED: "it could not be sent in time",
    RefundReason.NOT_DELIVERED: "the request did not reach the terminal",
    RefundReason.REFUSED_BY_PLATFORM: "the platform refused the request",
    RefundReason.NOT_FOUND: "the terminal never got the request",
    RefundReason.TERMINAL_BUSY: "the terminal was busy; try again, or over another terminal",
    RefundReason.TERMINAL_UNAVAILABLE: "the terminal was not reachable; try over another terminal",
    RefundReason.NOT_ALLOWED: "the terminal does not allow it",
    RefundReason.UNKNOWN_ORIGINAL: "the platform does not know the payment",
    RefundReason.STOPPED: "it was stopped at the terminal",
    RefundReason.VOIDED: "the platform took it back before it was paid out",
}
_ENDED: Final = {
    RefundOutcome.DECLINED: "it was declined",
    RefundOutcome.FAILED: "it failed after it was taken, and the money did not arrive",
    RefundOutcome.REVERSED: "the money came back",
}


def refund_verdict(row: Mapping[str, Any]) -> str:
    """Say what became of the money, of a row of ``refunds``."""
    amount = money.in_words(row["currency"], row["amount_minor"])
    if row["outcome"] in _PAID_BACK:
        return _PAID_BACK[RefundOutcome(row["outcome"])].format(amount)
    if row["outcome"] is not None:
        why = _WHY_NOT.get(row["reason"]) or _ENDED[RefundOutcome(row["outcome"])]
        return f"Not paid back: {why}."
    if row["reason"] == RefundReason.RECEIVED:
        return f"Received: the platform pays {amount} back; within days its books tell that it did."
    if row["state"] == State.UNKNOWN:
        return "Not known yet: do not refund again; the terminal is asked until it tells."
    return f"Not ended yet, do not refund again: {refund_progress(row)}."


def refund_progress(row: Mapping[str, Any]) -> str:
    """Where a refund stands that is on its way to the terminal."""
    if row["reason"] == RefundReason.PENDING_APPROVAL:
        return "it waits for a second person"
    return f"sent over {row['poi_id']}" if row["sent_at"] else f"about to be sent over {row['poi_id']}"
