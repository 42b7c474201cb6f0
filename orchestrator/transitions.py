"""THE TABLE. If it is not here, it does not happen; every cell is filled.

Rule 1: everything that moves a transaction from one stage to another lives in this file. ``classify`` says what a
piece of evidence means for a transaction (that is where the guards are); this file says what follows, and holds no
condition at all.

Rule 2: a cell is a step, IGNORE or DEFECT. IGNORE is expected and changes nothing, though the journal keeps it.
DEFECT is only for cells that our own code alone can produce, and crashes: evidence from outside never meets one
(a property test feeds it all into every stage).

Rule 3: whatever a step adds to *where* the transaction goes (the outcome, the reason, a memo) comes with the
classified event, and whatever has to be done is a named ``Do``; ``commands`` turns those into due times.

What does not fit a table, and where it went: amounts, PSP references and ages are compared in ``classify``; the
one-way claim and one-payment-per-terminal are statements of the store, because two workers can race for them.

The diagram in ``docs/lifecycle.md`` is drawn from TRANSITIONS, and a test compares the two.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from orchestrator.model import Stage


class Event(StrEnum):
    """What a piece of evidence means for this transaction, now."""

    SEND_STARTED = "send_started"
    NOT_DELIVERED = "not_delivered"
    SEND_BY_PASSED = "send_by_passed"
    ENDED_THOUGH_BOOKED = "ended_though_booked"
    ANSWER_MISSING = "answer_missing"
    REFUSED = "refused"
    REFUSAL_CONFIRMED = "refusal_confirmed"
    WINDOW_PASSED = "window_passed"
    # a terminal's authentic word
    CHARGED = "charged"
    CHARGED_AS_BOOKED = "charged_as_booked"
    NOT_CHARGED = "not_charged"
    NOT_PERFORMED = "not_performed"
    RESULT_NOTED = "result_noted"
    RESULT_CONTRADICTS = "result_contradicts"
    HEARSAY = "hearsay"
    HEARSAY_DISAGREES = "hearsay_disagrees"
    # status checks
    CHECK_ASKED = "check_asked"
    IN_PROGRESS = "in_progress"
    NOT_FOUND = "not_found"
    NOT_FOUND_PROVEN = "not_found_proven"
    CHECK_INCONCLUSIVE = "check_inconclusive"
    # aborts
    ABORT_ASKED = "abort_asked"
    ABORT_SENT = "abort_sent"
    # the books, and people
    BOOKS_AUTHORISED = "books_authorised"
    BOOKS_AUTHORISED_PROVEN = "books_authorised_proven"
    BOOKS_REFUSED = "books_refused"
    BOOKS_REFUSED_PROVEN = "books_refused_proven"
    BOOKS_REFUSED_OFFLINE = "books_refused_offline"
    BOOKS_CANCELLED = "books_cancelled"
    BOOKS_CONTRADICT = "books_contradict"
    BOOKS_DIFFER = "books_differ"
    BOOKS_SILENT = "books_silent"
    BOOKS_OUTDATED = "books_outdated"
    RULED_CHARGED = "ruled_charged"
    RULED_NOT_CHARGED = "ruled_not_charged"


class Do(StrEnum):
    """What a step asks for, beyond moving the transaction. ``commands.plan`` gives each its due time."""

    EXPECT_ANSWER = "expect_answer"
    CHECK_NOW = "check_now"
    CHECK_ONCE = "check_once"
    CHECK_LATER = "check_later"
    WATCH = "watch"  # the sentinel's next look
    ABORT = "abort"
    ABORT_IF_ASKED = "abort_if_asked"
    ALARM = "alarm"


@dataclass(frozen=True, slots=True)
class Step:
    """Where the transaction goes and what has to be done. ``after`` None stays where it is."""

    after: Stage | None
    do: tuple[Do, ...] = ()


IGNORE: Final = Step(None)
DEFECT: Final = "defect"

_Q, _S, _U, _D = Stage.QUEUED, Stage.SENT, Stage.UNKNOWN, Stage.DISPUTED
_N, _C0, _C1 = Stage.NOT_PERFORMED, Stage.NOT_CHARGED, Stage.CHARGED
_R0, _R1 = Stage.RECONCILED_NOT_CHARGED, Stage.RECONCILED_CHARGED
_E = Event


def _to(after: Stage, *do: Do) -> Step:
    return Step(after, do)


def _stay(*do: Do) -> Step:
    return Step(None, do)


_LOUD = Do.ALARM
_DISPUTE = _to(_D, _LOUD)

#: One block per event; stages in the order of a transaction's life.
_ROWS: Final[Mapping[Event, Mapping[Stage, Step | str]]] = {
    _E.SEND_STARTED: {
        _Q: _to(_S, Do.EXPECT_ANSWER),
        _S: DEFECT, _U: DEFECT, _D: DEFECT, _N: DEFECT, _C0: DEFECT, _C1: DEFECT, _R0: DEFECT, _R1: DEFECT,
    },
    _E.NOT_DELIVERED: {
        _Q: IGNORE,
        _S: _to(_N), _U: _to(_N),
        _D: IGNORE, _N: IGNORE, _C0: IGNORE, _C1: _DISPUTE, _R0: IGNORE, _R1: _DISPUTE,
    },
    _E.SEND_BY_PASSED: {
        _Q: _to(_N),
        _S: IGNORE, _U: IGNORE, _D: IGNORE, _N: IGNORE, _C0: IGNORE, _C1: IGNORE, _R0: IGNORE, _R1: IGNORE,
    },
    _E.ENDED_THOUGH_BOOKED: {
        _Q: _DISPUTE,
        _S: DEFECT, _U: DEFECT, _D: DEFECT, _N: DEFECT, _C0: DEFECT, _C1: DEFECT, _R0: DEFECT, _R1: DEFECT,
    },
    _E.ANSWER_MISSING: {
        _Q: _DISPUTE,
        _S: _stay(Do.CHECK_NOW), _U: _stay(Do.CHECK_NOW),
        _D: IGNORE, _N: IGNORE, _C0: IGNORE, _C1: IGNORE, _R0: IGNORE, _R1: IGNORE,
    },
    _E.REFUSED: {
        _Q: _DISPUTE,
        _S: _stay(Do.CHECK_NOW), _U: _stay(Do.CHECK_NOW),
        _D: IGNORE, _N: IGNORE, _C0: IGNORE, _C1: IGNORE, _R0: IGNORE, _R1: IGNORE,
    },
    _E.REFUSAL_CONFIRMED: {
        _Q: DEFECT,
        _S: _to(_N, Do.WATCH), _U: _to(_N, Do.WATCH),
        _D: DEFECT, _N: DEFECT, _C0: DEFECT, _C1: DEFECT, _R0: DEFECT, _R1: DEFECT,
    },
    _E.WINDOW_PASSED: {
        _Q: DEFECT,
        _S: _to(_U, Do.CHECK_NOW),
        _U: IGNORE, _D: IGNORE, _N: IGNORE, _C0: IGNORE, _C1: IGNORE, _R0: IGNORE, _R1: IGNORE,
    },
    _E.CHARGED: {
        _Q: _to(_C1, _LOUD),
        _S: _to(_C1), _U: _to(_C1),
        _D: DEFECT,
        _N: _to(_C1, _LOUD),
        _C0: DEFECT, _C1: DEFECT, _R0: DEFECT, _R1: DEFECT,
    },
    _E.CHARGED_AS_BOOKED: {
        _Q: _to(_R1, _LOUD),
        _S: _to(_R1), _U: _to(_R1),
        _D: DEFECT,
        _N: _to(_R1, _LOUD),
        _C0: DEFECT, _C1: DEFECT, _R0: DEFECT, _R1: DEFECT,
    },
    _E.NOT_CHARGED: {
        _Q: _DISPUTE,
        _S: _to(_C0), _U: _to(_C0),
        _D: DEFECT,
        _N: _to(_C0),
        _C0: DEFECT, _C1: DEFECT, _R0: DEFECT, _R1: DEFECT,
    },
    _E.NOT_PERFORMED: {
        _Q: _DISPUTE,
        _S: _to(_N), _U: _to(_N),
        _D: DEFECT, _N: DEFECT, _C0: DEFECT, _C1: DEFECT, _R0: DEFECT, _R1: DEFECT,
    },
    _E.RESULT_NOTED: {
        _Q: DEFECT, _S: DEFECT, _U: DEFECT,
        _D: IGNORE, _N: IGNORE, _C0: IGNORE, _C1: IGNORE, _R0: IGNORE, _R1: IGNORE,
    },
    _E.RESULT_CONTRADICTS: {
        _Q: _DISPUTE, _S: _DISPUTE, _U: _DISPUTE,
        _D: DEFECT,
        _N: _DISPUTE, _C0: _DISPUTE, _C1: _DISPUTE, _R0: _DISPUTE, _R1: _DISPUTE,
    },
    _E.HEARSAY: {
        _Q: _stay(_LOUD),
        _S: _stay(Do.CHECK_ONCE), _U: _stay(Do.CHECK_ONCE),
        _D: IGNORE, _N: IGNORE, _C0: IGNORE, _C1: IGNORE, _R0: IGNORE, _R1: IGNORE,
    },
    _E.HEARSAY_DISAGREES: {
        _Q: DEFECT, _S: DEFECT, _U: DEFECT,
        _D: DEFECT,
        _N: _stay(Do.CHECK_ONCE), _C0: _stay(Do.CHECK_ONCE), _C1: _stay(Do.CHECK_ONCE),
        _R0: _stay(Do.CHECK_ONCE), _R1: _stay(Do.CHECK_ONCE),
    },
    _E.CHECK_ASKED: {
        _Q: IGNORE,
        _S: _stay(Do.CHECK_NOW), _U: _stay(Do.CHECK_NOW), _D: _stay(Do.CHECK_NOW),
        _N: _stay(Do.CHECK_NOW), _C0: _stay(Do.CHECK_NOW), _C1: _stay(Do.CHECK_NOW),
        _R0: _stay(Do.CHECK_NOW), _R1: _stay(Do.CHECK_NOW),
    },
    _E.IN_PROGRESS: {
        _Q: _DISPUTE,
        _S: _stay(Do.CHECK_LATER, Do.ABORT_IF_ASKED), _U: _stay(Do.CHECK_LATER, Do.ABORT_IF_ASKED),
        _D: IGNORE,
        _N: _to(_U, _LOUD, Do.ABORT, Do.CHECK_LATER),
        _C0: IGNORE, _C1: IGNORE,
        _R0: _stay(_LOUD, Do.ABORT, Do.WATCH),
        _R1: IGNORE,
    },
    _E.NOT_FOUND: {
        _Q: IGNORE,
        _S: _stay(Do.CHECK_LATER), _U: _stay(Do.CHECK_LATER),
        _D: IGNORE,
        _N: _stay(Do.WATCH),
        _C0: IGNORE, _C1: IGNORE,
        _R0: _stay(Do.WATCH),
        _R1: IGNORE,
    },
    _E.NOT_FOUND_PROVEN: {
        _Q: DEFECT, _S: DEFECT,
        _U: _to(_N, Do.WATCH),
        _D: DEFECT, _N: DEFECT, _C0: DEFECT, _C1: DEFECT, _R0: DEFECT, _R1: DEFECT,
    },
    _E.CHECK_INCONCLUSIVE: {
        _Q: IGNORE,
        _S: _stay(Do.CHECK_LATER), _U: _stay(Do.CHECK_LATER),
        _D: IGNORE,
        _N: _stay(Do.WATCH),
        _C0: IGNORE, _C1: IGNORE,
        _R0: _stay(Do.WATCH),
        _R1: IGNORE,
    },
    _E.ABORT_ASKED: {
        _Q: _to(_C0),
        _S: _stay(Do.ABORT), _U: _stay(Do.ABORT), _D: _stay(Do.ABORT),
        _N: IGNORE, _C0: IGNORE, _C1: IGNORE, _R0: IGNORE, _R1: IGNORE,
    },
    _E.ABORT_SENT: {
        _Q: IGNORE,
        _S: _stay(Do.CHECK_LATER), _U: _stay(Do.CHECK_LATER),
        _D: IGNORE, _N: IGNORE, _C0: IGNORE, _C1: IGNORE, _R0: IGNORE, _R1: IGNORE,
    },
    _E.BOOKS_AUTHORISED: {
        _Q: _stay(_LOUD, Do.CHECK_ONCE),
        _S: _stay(Do.CHECK_ONCE), _U: _stay(Do.CHECK_ONCE),
        _D: DEFECT, _N: DEFECT, _C0: DEFECT, _C1: DEFECT, _R0: DEFECT, _R1: DEFECT,
    },
    _E.BOOKS_AUTHORISED_PROVEN: {
        _Q: DEFECT, _S: DEFECT,
        _U: _to(_R1), _D: _to(_R1),
        _N: _to(_R1, _LOUD),
        _C0: DEFECT,
        _C1: _to(_R1),
        _R0: DEFECT,
        _R1: IGNORE,
    },
    _E.BOOKS_REFUSED: {
        _Q: IGNORE, _S: IGNORE, _U: IGNORE, _D: IGNORE, _N: IGNORE,
        _C0: _to(_R0),
        _C1: IGNORE, _R0: IGNORE, _R1: IGNORE,
    },
    _E.BOOKS_REFUSED_PROVEN: {
        _Q: DEFECT, _S: DEFECT,
        _U: _to(_R0), _D: _to(_R0),
        _N: DEFECT, _C0: DEFECT, _C1: DEFECT, _R0: DEFECT, _R1: DEFECT,
    },
    _E.BOOKS_REFUSED_OFFLINE: {
        _Q: DEFECT, _S: DEFECT, _U: DEFECT, _D: DEFECT, _N: DEFECT, _C0: DEFECT,
        _C1: _to(_R0, _LOUD),
        _R0: DEFECT, _R1: DEFECT,
    },
    _E.BOOKS_CANCELLED: {
        _Q: IGNORE, _S: IGNORE,
        _U: _to(_R0), _D: _to(_R0), _N: _to(_R0), _C0: _to(_R0),
        _C1: _DISPUTE,
        _R0: IGNORE,
        _R1: _DISPUTE,
    },
    _E.BOOKS_CONTRADICT: {
        _Q: DEFECT, _S: DEFECT, _U: DEFECT, _D: DEFECT, _N: DEFECT,
        _C0: _DISPUTE, _C1: _DISPUTE, _R0: _DISPUTE, _R1: _DISPUTE,
    },
    _E.BOOKS_DIFFER: {
        _Q: _stay(_LOUD), _S: _stay(_LOUD), _U: _stay(_LOUD), _D: _stay(_LOUD), _N: _stay(_LOUD),
        _C0: _stay(_LOUD), _C1: _stay(_LOUD), _R0: _stay(_LOUD), _R1: _stay(_LOUD),
    },
    _E.BOOKS_SILENT: {
        _Q: IGNORE, _S: IGNORE, _U: IGNORE, _D: IGNORE,
        _N: _to(_R0), _C0: _to(_R0),
        _C1: IGNORE, _R0: IGNORE, _R1: IGNORE,
    },
    _E.BOOKS_OUTDATED: {
        _Q: IGNORE, _S: IGNORE, _U: IGNORE, _D: IGNORE, _N: IGNORE,
        _C0: IGNORE, _C1: IGNORE, _R0: IGNORE, _R1: IGNORE,
    },
    _E.RULED_CHARGED: {
        _Q: IGNORE, _S: IGNORE,
        _U: _to(_R1), _D: _to(_R1),
        _N: IGNORE, _C0: IGNORE, _C1: IGNORE, _R0: IGNORE, _R1: IGNORE,
    },
    _E.RULED_NOT_CHARGED: {
        _Q: IGNORE, _S: IGNORE,
        _U: _to(_R0, Do.WATCH), _D: _to(_R0, Do.WATCH),
        _N: IGNORE, _C0: IGNORE, _C1: IGNORE, _R0: IGNORE, _R1: IGNORE,
    },
}  # fmt: skip

#: Every (stage, event), once.
TRANSITIONS: Final[Mapping[tuple[Stage, Event], Step | str]] = {
    (stage, event): cell for event, row in _ROWS.items() for stage, cell in row.items()
}
