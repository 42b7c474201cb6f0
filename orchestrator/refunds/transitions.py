"""THE TABLE of refunds, by the rules of ``orchestrator.transitions``: total, without a condition, every cell filled.

There is no disputed stage. The terminal only passes a refund on; the platform moves the money, and its books settle
what they contradict, aloud. So the latest effective word of the books always wins, forwards and back.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from orchestrator.refunds.model import RefundStage


class RefundEvent(StrEnum):
    """What a piece of evidence means for this refund, now."""

    APPROVED = "approved"
    SEND_STARTED = "send_started"
    NOT_DELIVERED = "not_delivered"
    SEND_BY_PASSED = "send_by_passed"
    ANSWER_MISSING = "answer_missing"
    REFUSED = "refused"
    REFUSAL_CONFIRMED = "refusal_confirmed"
    WINDOW_PASSED = "window_passed"
    # a terminal's authentic word
    RECEIVED = "received"
    PAID = "paid"
    NOT_PAID = "not_paid"
    # status checks
    CHECK_ASKED = "check_asked"
    IN_PROGRESS = "in_progress"
    NOT_FOUND = "not_found"
    NOT_FOUND_PROVEN = "not_found_proven"
    CHECK_INCONCLUSIVE = "check_inconclusive"
    # the books, and their silence
    BOOKED_PAID = "booked_paid"
    BOOKED_NOT_PAID = "booked_not_paid"
    BOOKS_AGREE = "books_agree"
    BOOKS_DIFFER = "books_differ"
    BOOKS_OUTDATED = "books_outdated"
    OVERDUE = "overdue"


class RefundDo(StrEnum):
    """What a step asks for, beyond moving the refund."""

    SEND = "send"
    EXPECT_ANSWER = "expect_answer"
    EXPECT_OUTCOME = "expect_outcome"
    CHECK_NOW = "check_now"
    CHECK_LATER = "check_later"
    WATCH = "watch"  # the sentinel's next look
    ALARM = "alarm"


@dataclass(frozen=True, slots=True)
class Step:
    """Where the refund goes and what has to be done. ``after`` None stays where it is."""

    after: RefundStage | None
    do: tuple[RefundDo, ...] = ()


IGNORE: Final = Step(None)
DEFECT: Final = "defect"

_A, _Q, _S, _U = RefundStage.AWAITING, RefundStage.QUEUED, RefundStage.SENT, RefundStage.UNKNOWN
_W, _N, _P = RefundStage.RECEIVED, RefundStage.NOT_PAID, RefundStage.PAID
_B0, _B1 = RefundStage.BOOKED_NOT_PAID, RefundStage.BOOKED_PAID
_E, _D = RefundEvent, RefundDo


def _to(after: RefundStage, *do: RefundDo) -> Step:
    return Step(after, do)


def _stay(*do: RefundDo) -> Step:
    return Step(None, do)


_LOUD: Final = _D.ALARM
_TAKEN: Final = (_W, _D.EXPECT_OUTCOME)

#: One block per event; stages in the order of a refund's life.
_ROWS: Final[Mapping[RefundEvent, Mapping[RefundStage, Step | str]]] = {
    _E.APPROVED: {
        _A: _to(_Q, _D.SEND),
        _Q: IGNORE, _S: IGNORE, _U: IGNORE, _W: IGNORE, _N: IGNORE, _P: IGNORE, _B0: IGNORE, _B1: IGNORE,
    },
    _E.SEND_STARTED: {
        _A: DEFECT,
        _Q: _to(_S, _D.EXPECT_ANSWER),
        _S: DEFECT, _U: DEFECT, _W: DEFECT, _N: DEFECT, _P: DEFECT, _B0: DEFECT, _B1: DEFECT,
    },
    _E.NOT_DELIVERED: {
        _A: IGNORE, _Q: IGNORE,
        _S: _to(_N), _U: _to(_N),
        _W: _stay(_LOUD), _N: IGNORE, _P: _stay(_LOUD), _B0: IGNORE, _B1: _stay(_LOUD),
    },
    _E.SEND_BY_PASSED: {
        _A: _to(_N), _Q: _to(_N),
        _S: IGNORE, _U: IGNORE, _W: IGNORE, _N: IGNORE, _P: IGNORE, _B0: IGNORE, _B1: IGNORE,
    },
    _E.ANSWER_MISSING: {
        _A: _to(_U, _LOUD, _D.CHECK_NOW), _Q: _to(_U, _LOUD, _D.CHECK_NOW),
        _S: _stay(_D.CHECK_NOW), _U: _stay(_D.CHECK_NOW),
        _W: IGNORE, _N: IGNORE, _P: IGNORE, _B0: IGNORE, _B1: IGNORE,
    },
    _E.REFUSED: {
        _A: _to(_U, _LOUD, _D.CHECK_NOW), _Q: _to(_U, _LOUD, _D.CHECK_NOW),
        _S: _stay(_D.CHECK_NOW), _U: _stay(_D.CHECK_NOW),
        _W: IGNORE, _N: IGNORE, _P: IGNORE, _B0: IGNORE, _B1: IGNORE,
    },
    _E.REFUSAL_CONFIRMED: {
        _A: DEFECT, _Q: DEFECT,
        _S: _to(_N, _D.WATCH), _U: _to(_N, _D.WATCH),
        _W: DEFECT, _N: DEFECT, _P: DEFECT, _B0: DEFECT, _B1: DEFECT,
    },
    _E.WINDOW_PASSED: {
        _A: DEFECT, _Q: DEFECT,
        _S: _to(_U, _D.CHECK_NOW),
        _U: IGNORE, _W: IGNORE, _N: IGNORE, _P: IGNORE, _B0: IGNORE, _B1: IGNORE,
    },
    _E.RECEIVED: {
        _A: _to(*_TAKEN, _LOUD), _Q: _to(*_TAKEN, _LOUD),
        _S: _to(*_TAKEN), _U: _to(*_TAKEN),
        _W: IGNORE,
        _N: _to(*_TAKEN, _LOUD),
        _P: IGNORE, _B0: IGNORE, _B1: IGNORE,
    },
    _E.PAID: {
        _A: _to(_P, _LOUD), _Q: _to(_P, _LOUD),
        _S: _to(_P), _U: _to(_P), _W: _to(_P),
        _N: _to(_P, _LOUD),
        _P: IGNORE, _B0: _stay(_LOUD), _B1: IGNORE,
    },
    _E.NOT_PAID: {
        _A: _to(_N, _LOUD), _Q: _to(_N, _LOUD),
        _S: _to(_N), _U: _to(_N),
        _W: _stay(_LOUD), _N: IGNORE, _P: _stay(_LOUD), _B0: IGNORE, _B1: _stay(_LOUD),
    },
    _E.CHECK_ASKED: {
        _A: IGNORE, _Q: IGNORE,
        _S: _stay(_D.CHECK_NOW), _U: _stay(_D.CHECK_NOW),
        _W: IGNORE, _N: IGNORE, _P: IGNORE, _B0: IGNORE, _B1: IGNORE,
    },
    _E.IN_PROGRESS: {
        _A: _to(_U, _LOUD, _D.CHECK_LATER), _Q: _to(_U, _LOUD, _D.CHECK_LATER),
        _S: _stay(_D.CHECK_LATER), _U: _stay(_D.CHECK_LATER),
        _W: IGNORE,
        _N: _to(_U, _LOUD, _D.CHECK_LATER),
        _P: IGNORE, _B0: IGNORE, _B1: IGNORE,
    },
    _E.NOT_FOUND: {
        _A: IGNORE, _Q: IGNORE,
        _S: _stay(_D.CHECK_LATER), _U: _stay(_D.CHECK_LATER),
        _W: IGNORE,
        _N: _stay(_D.WATCH),
        _P: IGNORE, _B0: IGNORE, _B1: IGNORE,
    },
    _E.NOT_FOUND_PROVEN: {
        _A: DEFECT, _Q: DEFECT, _S: DEFECT,
        _U: _to(_N, _D.WATCH),
        _W: DEFECT, _N: DEFECT, _P: DEFECT, _B0: DEFECT, _B1: DEFECT,
    },
    _E.CHECK_INCONCLUSIVE: {
        _A: IGNORE, _Q: IGNORE,
        _S: _stay(_D.CHECK_LATER), _U: _stay(_D.CHECK_LATER),
        _W: IGNORE,
        _N: _stay(_D.WATCH),
        _P: IGNORE, _B0: IGNORE, _B1: IGNORE,
    },
    _E.BOOKED_PAID: {
        _A: _to(_B1, _LOUD), _Q: _to(_B1, _LOUD),
        _S: _to(_B1), _U: _to(_B1), _W: _to(_B1),
        _N: _to(_B1, _LOUD),
        _P: _to(_B1),
        _B0: _to(_B1, _LOUD),
        _B1: _to(_B1),
    },
    _E.BOOKED_NOT_PAID: {
        _A: _to(_B0, _LOUD), _Q: _to(_B0, _LOUD),
        _S: _to(_B0), _U: _to(_B0), _W: _to(_B0), _N: _to(_B0),
        _P: _to(_B0, _LOUD),
        _B0: _to(_B0),
        _B1: _to(_B0, _LOUD),
    },
    _E.BOOKS_AGREE: {
        _A: DEFECT, _Q: DEFECT, _S: DEFECT, _U: DEFECT, _W: DEFECT, _N: DEFECT, _P: DEFECT,
        _B0: IGNORE, _B1: IGNORE,
    },
    _E.BOOKS_DIFFER: {
        _A: _stay(_LOUD), _Q: _stay(_LOUD), _S: _stay(_LOUD), _U: _stay(_LOUD), _W: _stay(_LOUD),
        _N: _stay(_LOUD), _P: _stay(_LOUD), _B0: _stay(_LOUD), _B1: _stay(_LOUD),
    },
    _E.BOOKS_OUTDATED: {
        _A: IGNORE, _Q: IGNORE, _S: IGNORE, _U: IGNORE, _W: IGNORE,
        _N: IGNORE, _P: IGNORE, _B0: IGNORE, _B1: IGNORE,
    },
    _E.OVERDUE: {
        _A: DEFECT, _Q: DEFECT, _S: DEFECT, _U: IGNORE,
        _W: _stay(_LOUD),
        _N: IGNORE, _P: IGNORE, _B0: IGNORE, _B1: IGNORE,
    },
}  # fmt: skip

#: Every (stage, event), once.
TRANSITIONS: Final[Mapping[tuple[RefundStage, RefundEvent], Step | str]] = {
    (stage, event): cell for event, row in _ROWS.items() for stage, cell in row.items()
}
