"""What we believe about a transaction: frozen data, no behaviour beyond reading itself.

Standard library only; no I/O, no clock. The words are those of ``docs/glossary.md``.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Self
from uuid import UUID


class State(StrEnum):
    """Where a transaction is in its life: the four words that are stored, shown and sent."""

    PENDING = "pending"
    UNKNOWN = "unknown"
    CONFIRMED = "confirmed"
    RECONCILED = "reconciled"


class Outcome(StrEnum):
    """Our conclusion about the money."""

    APPROVED = "approved"
    PARTIALLY_APPROVED = "partially_approved"
    DECLINED = "declined"
    CANCELLED = "cancelled"
    ABORTED = "aborted"
    NOT_PERFORMED = "not_performed"

    @property
    def charged(self) -> bool:
        """Whether the shopper's money moved."""
        return self in CHARGED_OUTCOMES


CHARGED_OUTCOMES = frozenset({Outcome.APPROVED, Outcome.PARTIALLY_APPROVED})


class Reason(StrEnum):
    """Why a transaction is where it is, where the state and the outcome alone do not say it."""

    NO_ANSWER = "no_answer"
    CONTRADICTION = "contradiction"
    NEVER_SENT = "never_sent"
    EXPIRED = "expired"
    ABORTED_BEFORE_SEND = "aborted_before_send"
    NOT_DELIVERED = "not_delivered"
    REFUSED_BY_PLATFORM = "refused_by_platform"
    NOT_FOUND = "not_found"
    TERMINAL_BUSY = "terminal_busy"
    TERMINAL_UNAVAILABLE = "terminal_unavailable"
    NOT_ALLOWED = "not_allowed"
    BOOKS = "books"
    ABSENT_FROM_REPORT = "absent_from_report"
    RULED = "ruled"


class Stage(StrEnum):
    """The rows of the transition table: a state, split where the next move depends on more than the four words."""

    QUEUED = "queued"
    SENT = "sent"
    UNKNOWN = "unknown"
    DISPUTED = "disputed"
    NOT_PERFORMED = "not_performed"
    NOT_CHARGED = "not_charged"
    CHARGED = "charged"
    RECONCILED_NOT_CHARGED = "reconciled_not_charged"
    RECONCILED_CHARGED = "reconciled_charged"


#: Evidence that contradicts itself, or news about what we never sent: only the books or a person settle these.
DISPUTED_REASONS = frozenset({Reason.CONTRADICTION, Reason.NEVER_SENT})


class Transport(StrEnum):
    """How a request reaches its terminal."""

    ASYNC = "async"
    SYNC = "sync"
    LOCAL = "local"


@dataclass(frozen=True, slots=True)
class Money:
    """An amount in minor units of the platform's currency table."""

    currency: str
    minor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Books:
    """The latest effective word of the platform's books about one PSP reference."""

    authorised: bool
    psp_reference: str | None
    amount: Money | None
    effective_at: str | None = None  # RFC 3339 in UTC, so that texts compare as instants do


@dataclass(frozen=True, slots=True, kw_only=True)
class Transaction:
    """One money-moving message pair with a terminal, as the row holds it."""

    id: UUID
    reference: str
    merchant_account: str
    poi_id: str
    sale_id: str
    service_id: str
    amount: Money
    transport: Transport = Transport.ASYNC
    sequence: int = 1  # the number of its journal lines
    state: State = State.PENDING
    outcome: Outcome | None = None
    reason: Reason | None = None
    sent_at: datetime | None = None
    concluded_at: datetime | None = None
    reconciled_at: datetime | None = None
    authorised_minor: int | None = None
    psp_reference: str | None = None
    tender_reference: str | None = None
    late: bool = False
    provisional: bool = False
    abort_asked: bool = False
    refused_with: str | None = None  # the platform's refusal of the payment request, waiting to be confirmed
    not_found_at: datetime | None = None  # the first NotFound after the answer window
    checked_at: datetime | None = None  # the latest status check that ended
    checks: int = 0  # status checks since the window passed, or since a fenced conclusion
    asked_since_unknown: bool = False  # a status answer came that leaves the terminal free for the next payment
    sentinel: bool = False  # concluded by absence: the terminal is asked again up to 48 h
    books: Books | None = None

    @property
    def stage(self) -> Stage:
        """The row of the transition table that this transaction stands in."""
        match self.state:
            case State.PENDING:
                return Stage.SENT if self.sent_at else Stage.QUEUED
            case State.UNKNOWN:
                return Stage.DISPUTED if self.reason in DISPUTED_REASONS else Stage.UNKNOWN
            case State.CONFIRMED if self.outcome is Outcome.NOT_PERFORMED:
                return Stage.NOT_PERFORMED
            case State.CONFIRMED:
                return Stage.CHARGED if self.charged else Stage.NOT_CHARGED
            case State.RECONCILED:
                return Stage.RECONCILED_CHARGED if self.charged else Stage.RECONCILED_NOT_CHARGED

    @property
    def charged(self) -> bool | None:
        """True, false, or None for not known."""
        return None if self.outcome is None else self.outcome.charged

    def evolve(self, **changes: Any) -> Self:
        """Return a copy with these fields changed."""
        return replace(self, **changes)
