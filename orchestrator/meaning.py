"""What classification answers with: the event, what it would conclude, what is remembered, and the alarm's name."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from orchestrator.transitions import Event


class Alarm(StrEnum):
    """What a person is told, each with a section of the runbook."""

    LATE_APPROVAL = "late_approval"
    CONTRADICTION = "contradiction"
    ANSWER_TO_WHAT_WAS_NEVER_SENT = "answer_to_what_was_never_sent"
    HEARSAY_BEFORE_SEND = "hearsay_before_send"
    STARTED_AFTER_CONCLUSION = "started_after_conclusion"
    AMOUNT_ABOVE_REQUEST = "amount_above_request"
    AMOUNT_BELOW_REQUEST = "amount_below_request"
    CHECKS_EXHAUSTED = "checks_exhausted"
    BOOKS_DIFFER = "books_differ"
    BOOKED_BEFORE_SEND = "booked_before_send"
    OFFLINE_APPROVAL_REFUSED = "offline_approval_refused"
    WRONG_TERMINAL = "wrong_terminal"
    COMMAND_FAILS = "command_fails"
    REFUND_OVERDUE = "refund_overdue"
    REFUND_FAILED_LATER = "refund_failed_later"
    REFUND_CONTRADICTS = "refund_contradicts"
    WEBHOOK_SIGNATURE = "webhook_signature"
    WEBHOOK_MISDIRECTED = "webhook_misdirected"
    DIFFERENCES_FOUND = "differences_found"
    RECONCILIATION_FAILED = "reconciliation_failed"
    CALLBACK_PARKED = "callback_parked"
    TERMINAL_OUT_OF_ORDER = "terminal_out_of_order"
    TERMINAL_TAMPERED = "terminal_tampered"
    DEFECT = "defect"


#: Alarms about money and the books: whoever settles those says so, without waiting for somebody who operates.
MONEY_ALARMS: Final = frozenset(
    {
        Alarm.LATE_APPROVAL,
        Alarm.CONTRADICTION,
        Alarm.AMOUNT_ABOVE_REQUEST,
        Alarm.AMOUNT_BELOW_REQUEST,
        Alarm.CHECKS_EXHAUSTED,
        Alarm.BOOKS_DIFFER,
        Alarm.BOOKED_BEFORE_SEND,
        Alarm.OFFLINE_APPROVAL_REFUSED,
        Alarm.REFUND_OVERDUE,
        Alarm.REFUND_FAILED_LATER,
        Alarm.REFUND_CONTRADICTS,
        Alarm.DIFFERENCES_FOUND,
        Alarm.RECONCILIATION_FAILED,
    }
)


@dataclass(frozen=True, slots=True)
class Meaning:
    """The event; what a step that moves concludes; what is remembered even when nothing moves; and the alarm's name."""

    event: Event
    concludes: Mapping[str, Any] = field(default_factory=dict)
    remembers: Mapping[str, Any] = field(default_factory=dict)
    alarm: Alarm | None = None
