"""How the promises read evidence and remember a transaction's life: on their own, and never by asking the table."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from orchestrator.commands import CommandKind
from orchestrator.decide import Decision, decide
from orchestrator.errors import Defect
from orchestrator.evidence import (
    AbortAsked,
    AbortSent,
    AnswerMissing,
    AnswerWindowPassed,
    BooksEntry,
    BooksReported,
    Channel,
    Evidence,
    Exchange,
    InProgressReported,
    NotFoundReported,
    RejectPushed,
    RequestRejected,
    ResultReported,
    SendByPassed,
    SendStarted,
)
from orchestrator.model import Books, Outcome, Stage, Transaction
from tests.factories import POLICY, SENT_AT, Fact

HORIZON: Final = timedelta(hours=48)
GAP: Final = timedelta(seconds=30)
QUIET: Final = timedelta(seconds=2)

#: Entries that say whether the money moved; the others are differences.
WORDS: Final = frozenset({BooksEntry.AUTHORISED, BooksEntry.REFUSED, BooksEntry.CANCELLED})

IN_DOUBT: Final = frozenset({Stage.SENT, Stage.UNKNOWN})

#: What each error condition says of the money, as the rules list them; whatever is not here says nothing.
SAYS: Final[Mapping[str, Outcome]] = {
    **dict.fromkeys(("Refusal", "InvalidCard", "WrongPIN", "PaymentRestriction"), Outcome.DECLINED),
    "Cancel": Outcome.CANCELLED,
    "Aborted": Outcome.ABORTED,
    **dict.fromkeys(
        (
            "Busy",
            "DeviceOut",
            "LoggedOut",
            "MessageFormat",
            "NotAllowed",
            "InsertedCard",
            "UnavailableDevice",
            "UnavailableService",
        ),
        Outcome.NOT_PERFORMED,
    ),
}


# --- reading evidence ---------------------------------------------------------------------------------------------


def names_ours(tx: Transaction, said: ResultReported) -> bool:
    return said.error_condition == "Busy" and said.busy_with == tx.service_id


def reading(tx: Transaction, evidence: Evidence) -> Outcome | None:
    """What an authentic result says of the money; None where it settles nothing or is none."""
    if not isinstance(evidence, ResultReported) or not evidence.authentic or names_ours(tx, evidence):
        return None
    if evidence.result == "Failure":
        return SAYS.get(evidence.error_condition or "")
    if evidence.result not in {"Success", "Partial"}:
        return None
    if evidence.authorised is None or evidence.authorised.currency != tx.amount.currency:
        return None
    short = evidence.authorised.minor < tx.amount.minor or evidence.result == "Partial"
    return Outcome.PARTIALLY_APPROVED if short else Outcome.APPROVED


def runs(tx: Transaction, evidence: Evidence) -> bool:
    """Whether the terminal says, so that we may believe it, that the payment is running."""
    if isinstance(evidence, ResultReported):
        return evidence.authentic and names_ours(tx, evidence)
    return isinstance(evidence, InProgressReported)


def answers_check(evidence: Evidence) -> bool:
    match evidence:
        case ResultReported():
            return evidence.channel is Channel.STATUS
        case AnswerMissing() | RequestRejected():
            return evidence.exchange is Exchange.STATUS
        case InProgressReported() | NotFoundReported():
            return True
        case _:
            return False


def is_hearsay(evidence: Evidence) -> bool:
    return isinstance(evidence, RejectPushed) or (isinstance(evidence, ResultReported) and not evidence.authentic)


def ends(evidence: Evidence) -> CommandKind | None:
    """The command that is done once this evidence is recorded."""
    match evidence:
        case SendStarted():
            return CommandKind.SEND
        case SendByPassed():
            return CommandKind.EXPIRE
        case AnswerWindowPassed():
            return CommandKind.EXPECT_ANSWER
        case AbortSent():
            return CommandKind.SEND_ABORT
        case AnswerMissing(exchange=Exchange.ABORT) | RequestRejected(exchange=Exchange.ABORT):
            return CommandKind.SEND_ABORT
        case _:
            return CommandKind.CHECK_STATUS if answers_check(evidence) else None


# --- a life, moment by moment --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Memory:
    """What the oracle remembers of the evidence, by itself."""

    refusal: str | None = None
    first_not_found: datetime | None = None
    word: Books | None = None  # the latest effective one of the books
    alarmed: bool = False  # since the transaction came to where it stands
    checked_at: datetime | None = None
    abort_asked: bool = False
    terminal_spoke: bool = False  # a result of its own: nothing is left to look for

    @classmethod
    def of(cls, tx: Transaction) -> "Memory":
        """Begin in the middle of a life."""
        return cls(
            refusal=tx.refused_with,
            first_not_found=tx.not_found_at,
            word=tx.books,
            alarmed=tx.stage is Stage.DISPUTED,
            checked_at=tx.checked_at,
            abort_asked=tx.abort_asked,
        )

    def and_then(self, decision: Decision, evidence: Evidence, at: datetime) -> "Memory":
        before, after = decision.before, decision.after
        moved = before.stage is not after.stage
        memory = replace(self, alarmed=(self.alarmed and not moved) or decision.alarm is not None)
        if moved and after.stage is Stage.UNKNOWN:
            memory = replace(memory, first_not_found=None)
        match evidence:
            case RequestRejected(exchange=Exchange.PAYMENT):
                memory = replace(memory, refusal=evidence.refusal)
            case NotFoundReported() if before.stage is Stage.UNKNOWN and proper(before, evidence):
                memory = replace(memory, first_not_found=memory.first_not_found or at)
            case BooksReported() if self.heard(before, evidence, moved=moved):
                memory = replace(memory, word=word_of(evidence))
            case AbortAsked():
                memory = replace(memory, abort_asked=True)
            case _:
                pass
        if runs(before, evidence):
            memory = replace(memory, first_not_found=None, refusal=None)
        if reading(before, evidence) is not None:
            memory = replace(memory, terminal_spoke=True)
        return replace(memory, checked_at=at) if answers_check(evidence) else memory

    @property
    def booked(self) -> bool:
        """Whether the books say that the money moved."""
        return self.word is not None and self.word.authorised

    def heard(self, before: Transaction, said: BooksReported, *, moved: bool) -> bool:
        """Whether this is the books' word from now on: news about this payment, and not about another try of it."""
        if self.outdates(said):
            return False
        match said.entry:
            case BooksEntry.AUTHORISED:
                return in_our_currency(before, said) and (not before.charged or confirms(before, said))
            case BooksEntry.REFUSED:
                return moved
            case BooksEntry.CANCELLED:
                return not self.names_another_try(before, said)
            case _:
                return False

    def outdates(self, said: BooksReported) -> bool:
        """Whether a later word about the same PSP reference is known."""
        known = self.word
        if known is None or known.effective_at is None or said.effective_at is None or said.entry not in WORDS:
            return False
        return known.psp_reference == said.psp_reference and said.effective_at < known.effective_at

    def names_another_try(self, tx: Transaction, said: BooksReported) -> bool:
        known = tx.psp_reference
        if known is None and self.word is not None and self.word.authorised:
            known = self.word.psp_reference
        return not maybe_same(known, said.psp_reference)

    def denies(self, said: ResultReported, outcome: Outcome) -> bool:
        """Whether the books have said the opposite of what a terminal says."""
        if self.word is None or self.word.authorised is outcome.charged:
            return False
        return self.word.authorised or maybe_same(self.word.psp_reference, said.psp_reference)


def maybe_same(one: str | None, other: str | None) -> bool:
    return one is None or other is None or one == other


def word_of(said: BooksReported) -> Books:
    authorised = said.entry is BooksEntry.AUTHORISED
    return Books(
        authorised=authorised, psp_reference=said.psp_reference, amount=said.amount, effective_at=said.effective_at
    )


def confirms(tx: Transaction, said: BooksReported) -> bool:
    """Whether an authorisation is the charge that we know."""
    same_amount = said.amount is None or said.amount.minor == tx.authorised_minor
    return same_amount and maybe_same(tx.psp_reference, said.psp_reference)


def in_our_currency(tx: Transaction, said: BooksReported) -> bool:
    return said.amount is None or said.amount.currency == tx.amount.currency


def proper(tx: Transaction, evidence: NotFoundReported) -> bool:
    return not evidence.terminal_reassigned and evidence.last_service_id != tx.service_id


@dataclass(frozen=True, slots=True)
class Moment:
    """One piece of evidence, what was decided, and what was open and remembered around it."""

    evidence: Evidence
    at: datetime
    decision: Decision
    memory: Memory  # before the evidence came
    open_after: frozenset[CommandKind]
    memory_after: Memory

    @property
    def before(self) -> Transaction:
        return self.decision.before

    @property
    def after(self) -> Transaction:
        return self.decision.after

    @property
    def planned(self) -> dict[CommandKind, float]:
        return {plan.kind: plan.after_s for plan in self.decision.commands}


_OPEN_IN: Final[Mapping[Stage, frozenset[CommandKind]]] = {
    Stage.QUEUED: frozenset({CommandKind.SEND, CommandKind.EXPIRE}),
    Stage.SENT: frozenset({CommandKind.EXPECT_ANSWER}),
    Stage.UNKNOWN: frozenset({CommandKind.CHECK_STATUS}),
}


@dataclass(slots=True)
class Life:
    """A transaction that meets evidence; commands open and close as a store would keep them."""

    tx: Transaction
    at: datetime = SENT_AT
    open: frozenset[CommandKind] = frozenset()
    memory: Memory = field(default_factory=Memory)
    lines: list[tuple[datetime, Evidence]] = field(default_factory=list)

    @classmethod
    def of(cls, tx: Transaction, at: datetime = SENT_AT) -> "Life":
        watched = {CommandKind.CHECK_STATUS} if tx.sentinel else set()
        return cls(tx, at, _OPEN_IN.get(tx.stage, frozenset()) | watched, Memory.of(tx))

    def meet(self, evidence: Evidence, *, dies: bool = False) -> Moment:
        """Record evidence; a worker that ``dies`` leaves its command open, to be done again."""
        decision = decide(self.tx, evidence, self.at, POLICY)
        done = {ends(evidence)} if not dies else set()
        planned = {plan.kind for plan in decision.commands}
        open_after = frozenset((self.open - done - decision.obsolete) | planned)
        memory_after = self.memory.and_then(decision, evidence, self.at)
        moment = Moment(evidence, self.at, decision, self.memory, open_after, memory_after)
        self.tx, self.open, self.memory = decision.after, open_after, memory_after
        self.lines.append((self.at, evidence))
        return moment


@dataclass(frozen=True, slots=True)
class Turn:
    """A step of a history: how long after the one before it, what is learned, and whether the worker dies after."""

    gap_s: float
    fact: Fact
    dies: bool = False


def possible(tx: Transaction, evidence: Evidence) -> bool:
    """What the store never lets through: a claim that lost or is in the books, and a window of what was never sent."""
    match evidence:
        case SendStarted():
            return tx.stage is Stage.QUEUED and tx.books is None
        case AnswerWindowPassed():
            return tx.stage is not Stage.QUEUED
        case _:
            return True


def lived(life: Life, turns: Iterable[Turn]) -> Iterator[Moment]:
    """Play a history, moment by moment."""
    for turn in turns:
        life.at += timedelta(seconds=turn.gap_s)
        if possible(life.tx, turn.fact.evidence):
            yield life.meet(turn.fact.evidence, dies=turn.dies)
        elif life.tx.stage is not Stage.QUEUED or isinstance(turn.fact.evidence, AnswerWindowPassed):
            refuses(life.tx, turn.fact.evidence, life.at)


def refuses(tx: Transaction, evidence: Evidence, at: datetime) -> None:
    try:
        decide(tx, evidence, at, POLICY)
    except Defect:
        return
    message = f"{evidence} was let through in {tx.stage}"
    raise AssertionError(message)
