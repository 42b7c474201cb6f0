"""The words that columns hold, apart from the tables: who only runs statements need not import those.

A process that starts with SQLModel, SQLAlchemy and Alembic takes half a second longer.
"""

from enum import StrEnum
from typing import Final

#: Lines that counters read. The first two of each journal are left out: the row itself says as much.
COUNTED_LINES: Final = "number IS NOT NULL AND event NOT IN ('accepted', 'send_started')"


class DifferenceKind(StrEnum):
    """How our rows and the platform's books disagree."""

    MISSING_THERE = "missing_there"  # we have a charge, and a report that covers its day has no line for it
    MISSING_HERE = "missing_here"  # the books have a charge of a sale of ours, and none of our payments is it
    AMBIGUOUS = "ambiguous"  # several payments of ours could be it, or several charges could be one payment
    ORPHAN = "orphan"  # the books have a charge of which we know nothing
    AMOUNT_DIFFERS = "amount_differs"
    CURRENCY_DIFFERS = "currency_differs"
    STATE_DIFFERS = "state_differs"  # charged there and not here, or the other way round
    DUPLICATE_LINE = "duplicate_line"  # one report says the same thing twice
    REFUND_ELSEWHERE = "refund_elsewhere"  # paid back without us; it lowers what is left to refund
    REFUND_DIFFERS = "refund_differs"  # a refund of ours, with another amount or another end
    CAPTURE_FAILED = "capture_failed"
    EXPIRED = "expired"
    CHARGEBACK = "chargeback"


class DifferenceState(StrEnum):
    """The life of a difference. A person explains and closes; only changed facts open it again."""

    OPEN = "open"
    EXPLAINED = "explained"
    CLOSED = "closed"


class RunState(StrEnum):
    """The life of a run."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    REFUSED = "refused"  # a report could not be read: nothing was applied
    FAILED = "failed"


class KeyLevel(StrEnum):
    """Where a shared key is set; the most specific one wins."""

    COMPANY = "company"
    MERCHANT = "merchant"
    STORE = "store"
    TERMINAL = "terminal"


class Became(StrEnum):
    """What became of a webhook."""

    RECORDED = "recorded"  # as evidence of a payment or a refund of ours
    DIFFERENCE = "difference"  # it fits nothing of ours, or several things, and a person has to look
    NOTED = "noted"  # it says nothing that moves money
    UNKNOWN = "unknown"  # its code is not known, or it cannot be read whole
    IGNORED = "ignored"  # it is about no sale and no terminal of ours: an online payment, most likely
    MISDIRECTED = "misdirected"  # it is from the other environment
