"""The promises of the core, each as a check of one moment in a transaction's life.

Their oracle is the promise itself: what they need to know of the past they remember on their own, from the evidence,
and never ask the table. ``test_promises`` holds them against adversarial histories,
``mutation`` against changed tables.
"""

from collections.abc import Callable
from datetime import timedelta
from typing import Final

from orchestrator.commands import CommandKind
from orchestrator.evidence import (
    AbortAsked,
    AbortSent,
    AnswerMissing,
    AnswerWindowPassed,
    BooksEntry,
    BooksReported,
    Exchange,
    NotDelivered,
    NotFoundReported,
    ReportSilent,
    RequestRejected,
    ResultReported,
    Ruled,
    SendByPassed,
    SendStarted,
)
from orchestrator.meaning import Alarm
from orchestrator.model import Outcome, Reason, Stage, State
from tests.factories import POLICY
from tests.lives import (
    IN_DOUBT,
    WORDS,
    Moment,
    answers_check,
    in_our_currency,
    is_hearsay,
    maybe_same,
    proper,
    reading,
    runs,
)

HORIZON: Final = timedelta(hours=48)
GAP: Final = timedelta(seconds=30)
QUIET: Final = timedelta(seconds=2)

# --- 2: we ask for money at most once -------------------------------------------------------------------------------


def asks_once(m: Moment) -> None:
    """Only a claim leads to sent, from queued alone; nothing leads back, and nothing plans a second send."""
    if m.after.stage is Stage.SENT and m.before.stage is not Stage.SENT:
        assert isinstance(m.evidence, SendStarted)
        assert m.before.stage is Stage.QUEUED
        assert m.before.sent_at is None
        assert m.after.sent_at == m.at
    assert m.after.stage is not Stage.QUEUED or m.before.stage is Stage.QUEUED
    assert m.before.sent_at in {None, m.after.sent_at}
    assert CommandKind.SEND not in m.planned
    if m.after.stage is not Stage.QUEUED:
        assert not m.open_after & {CommandKind.SEND, CommandKind.EXPIRE} or m.before.stage is not Stage.QUEUED


# --- 3: an outcome is backed by evidence ----------------------------------------------------------------------------


def backs_outcomes(m: Moment) -> None:
    """The authentic outcome, or proof that nothing was performed, or the books, or a person. Nothing else."""
    if m.after.outcome is m.before.outcome:
        assert m.after.authorised_minor == m.before.authorised_minor
        return
    if m.after.outcome is not None:
        assert supports(m), f"{m.before.stage} became {m.after.outcome} by {m.evidence}"


def supports(m: Moment) -> bool:
    outcome, stage = m.after.outcome, m.before.stage
    if outcome is None:
        return True
    match m.evidence:
        case ResultReported() if reading(m.before, m.evidence) is not None:
            return outcome is reading(m.before, m.evidence) and not m.memory.denies(m.evidence, outcome)
        case NotDelivered():
            return outcome is Outcome.NOT_PERFORMED and stage in IN_DOUBT and not m.memory.booked
        case SendByPassed():
            return outcome is Outcome.NOT_PERFORMED and stage is Stage.QUEUED and not m.memory.booked
        case AbortAsked():
            return outcome is Outcome.ABORTED and stage is Stage.QUEUED and not m.memory.booked
        case BooksReported():
            return booked(m, m.evidence)
        case Ruled():
            return outcome is m.evidence.outcome and m.before.state is State.UNKNOWN
        case _ if answers_check(m.evidence) and outcome is Outcome.NOT_PERFORMED:
            return absence_proven(m)
        case _ if answers_check(m.evidence):
            settled = stage is Stage.UNKNOWN and m.memory.word is not None and not runs(m.before, m.evidence)
            return settled and (outcome.charged if m.memory.booked else outcome is Outcome.DECLINED)
        case _:
            return False


def absence_proven(m: Moment) -> bool:
    if m.memory.booked:
        return False
    match m.evidence:
        case RequestRejected():
            return m.before.stage in IN_DOUBT and m.evidence.refusal == m.memory.refusal
        case NotFoundReported() if proper(m.before, m.evidence) and m.before.stage in IN_DOUBT:
            first, sent = m.memory.first_not_found, m.before.sent_at
            twice = first is not None and m.at - first >= GAP and m.before.stage is Stage.UNKNOWN
            remembered = sent is not None and m.at - sent < HORIZON
            return m.memory.refusal is not None or (twice and remembered)
        case _:
            return False


def booked(m: Moment, said: BooksReported) -> bool:
    outcome, sent = m.after.outcome, m.before.sent_at
    if m.memory.outdates(said):
        return False
    match said.entry:
        case BooksEntry.AUTHORISED:
            return outcome is not None and outcome.charged
        case BooksEntry.REFUSED:
            old = sent is not None and m.at - sent >= HORIZON
            named = m.memory.word.psp_reference if m.memory.word and m.memory.booked else said.psp_reference
            theirs = not m.memory.booked or (named is not None and named == said.psp_reference)
            settles = m.before.state is State.UNKNOWN and (said.covers_day or old) and theirs
            corrects = m.before.provisional and said.psp_reference == m.before.psp_reference
            return outcome is Outcome.DECLINED and (settles or corrects)
        case BooksEntry.CANCELLED:
            ours = not m.memory.names_another_try(m.before, said)
            return outcome is Outcome.DECLINED and m.before.state is State.UNKNOWN and ours
        case _:
            return False


def reconciles_by_an_independent_word(m: Moment) -> None:
    """Reconciled means that the books or a person said it, not the terminal alone and not a clock."""
    if m.after.state is State.RECONCILED and m.before.state is not State.RECONCILED:
        independent = isinstance(m.evidence, BooksReported | ReportSilent | Ruled)
        assert independent or m.memory.word is not None
        assert m.after.reconciled_at == m.at


def keeps_its_story(m: Moment) -> None:
    """Evidence that moves nothing rewrites nothing: neither when and why it ended, nor what was asked so far."""
    if m.after.stage is not m.before.stage:
        return
    kept = ("state", "outcome", "reason", "sent_at", "concluded_at", "reconciled_at", "late", "provisional", "sentinel")
    for name in kept:
        assert getattr(m.after, name) == getattr(m.before, name), name
    assert m.after.checks == m.before.checks + answers_check(m.evidence)
    if not runs(m.before, m.evidence) and not isinstance(m.evidence, NotFoundReported):
        assert m.after.not_found_at == m.before.not_found_at
    again = {AnswerWindowPassed, AbortSent, NotDelivered, SendByPassed}
    assert type(m.evidence) not in again or m.decision.alarm in {None, Alarm.CHECKS_EXHAUSTED}


# --- 4: what we can verify is believed at once ----------------------------------------------------------------------


def believes_at_once(m: Moment) -> None:
    """An authentic result concludes, in pending as in unknown, with its amount and its references.

    Unless the books have said the opposite: then neither is believed.
    """
    said = reading(m.before, m.evidence)
    if said is None or not isinstance(m.evidence, ResultReported) or m.before.stage not in IN_DOUBT:
        return
    if m.memory.denies(m.evidence, said):
        assert_disputed(m, Reason.CONTRADICTION)
        return
    assert m.after.outcome is said
    assert m.after.state is State.CONFIRMED or (m.after.state is State.RECONCILED and m.memory.booked)
    assert m.after.concluded_at == m.at
    named = m.memory.word.psp_reference if m.memory.word and m.after.state is State.RECONCILED else None
    assert m.after.psp_reference == (m.evidence.psp_reference or m.before.psp_reference or named)
    paid = m.evidence.authorised.minor if said.charged and m.evidence.authorised else None
    assert m.after.authorised_minor == paid
    assert not m.after.late


# --- 5: the caller hears of every outcome ---------------------------------------------------------------------------


def tells(m: Moment) -> None:
    """Whoever sets or takes back an outcome plans the telling, and no move ever drops one."""
    moved = (m.before.state, m.before.outcome, m.before.authorised_minor)
    if moved != (m.after.state, m.after.outcome, m.after.authorised_minor):
        assert m.planned[CommandKind.TELL_CALLER] == 0
        assert [plan.kind for plan in m.decision.commands].count(CommandKind.TELL_CALLER) == 1
    assert CommandKind.TELL_CALLER not in m.decision.obsolete
    assert m.after.sequence == m.before.sequence + 1


# --- 6: approval beats absence, loudly; other disagreement goes to a person -----------------------------------------


def is_loud_about_disagreement(m: Moment) -> None:
    """Contradiction, or news about what we never sent, is unknown with an alarm; only books or a ruling leave it."""
    stage, said = m.before.stage, reading(m.before, m.evidence)
    if goes_against_the_books(m, said):
        assert_disputed(m, Reason.NEVER_SENT if stage is Stage.QUEUED else Reason.CONTRADICTION)
    elif said is not None and said.charged and stage in {Stage.QUEUED, Stage.NOT_PERFORMED}:
        assert m.after.outcome is said
        assert m.after.late
        assert m.decision.alarm == Alarm.LATE_APPROVAL
    elif stage is Stage.QUEUED and (said is not None or runs(m.before, m.evidence)):
        assert_disputed(m, Reason.NEVER_SENT)
    elif stage is Stage.NOT_PERFORMED and runs(m.before, m.evidence):
        assert m.after.state is State.UNKNOWN
        assert m.decision.alarm == Alarm.STARTED_AFTER_CONCLUSION
        assert m.planned[CommandKind.SEND_ABORT] == 0
    elif contradicts(m, said):
        assert_disputed(m, Reason.CONTRADICTION)
    elif differs(m):
        assert (m.after.outcome, m.after.authorised_minor) == (m.before.outcome, m.before.authorised_minor)
        assert m.decision.alarm == Alarm.BOOKS_DIFFER
    if stage is Stage.DISPUTED and not isinstance(m.evidence, BooksReported | Ruled):
        assert m.after.stage is Stage.DISPUTED
    corrected = None not in {m.before.outcome, m.after.outcome} and m.before.outcome is not m.after.outcome
    if corrected and (m.before.charged or m.after.charged):
        assert m.decision.alarm is not None


def assert_disputed(m: Moment, reason: Reason) -> None:
    assert (m.after.state, m.after.outcome, m.after.reason) == (State.UNKNOWN, None, reason)
    assert m.decision.alarm is not None


def goes_against_the_books(m: Moment, said: Outcome | None) -> bool:
    """Whether what has no outcome yet, or only by absence, would get one that the books have denied."""
    stage = m.before.stage
    match m.evidence:
        case ResultReported() if said is not None:
            open_still = stage in IN_DOUBT | {Stage.QUEUED} or (stage is Stage.NOT_PERFORMED and said.charged)
            return open_still and m.memory.denies(m.evidence, said)
        case NotDelivered():
            return stage in IN_DOUBT and m.memory.booked
        case SendByPassed() | AbortAsked():
            return stage is Stage.QUEUED and m.memory.booked
        case _:
            return False


def differs(m: Moment) -> bool:
    """Whether the books disagree about how much, or about which try, or report what is done to a charge elsewhere."""
    tx, evidence = m.before, m.evidence
    if isinstance(evidence, BooksReported):
        foreign = evidence.entry is BooksEntry.AUTHORISED and not in_our_currency(tx, evidence)
        return evidence.entry not in WORDS or (foreign and not m.memory.outdates(evidence))
    if reading(tx, evidence) is None or not isinstance(evidence, ResultReported) or evidence.authorised is None:
        return False
    by_books = tx.stage is Stage.RECONCILED_CHARGED and tx.reason is Reason.BOOKS
    same = evidence.authorised.minor == tx.authorised_minor and maybe_same(tx.psp_reference, evidence.psp_reference)
    return by_books and not same


def contradicts(m: Moment, said: Outcome | None) -> bool:
    """Whether a concluded transaction meets the opposite from somebody who may say so."""
    tx, evidence = m.before, m.evidence
    if tx.charged is None or tx.stage is Stage.NOT_PERFORMED:
        return False
    if isinstance(evidence, BooksReported) and m.memory.outdates(evidence):
        return False
    if isinstance(evidence, BooksReported) and in_our_currency(tx, evidence):
        if not tx.charged:
            return evidence.entry is BooksEntry.AUTHORISED
        same = evidence.psp_reference is not None and evidence.psp_reference == tx.psp_reference
        corrects = tx.provisional and tx.stage is Stage.CHARGED
        refuses_it = evidence.entry is BooksEntry.REFUSED and same and not corrects
        cancels = evidence.entry is BooksEntry.CANCELLED and not m.memory.names_another_try(tx, evidence)
        return refuses_it or cancels
    if said is None or not isinstance(evidence, ResultReported):
        return isinstance(evidence, NotDelivered) and tx.charged
    if said.charged is not tx.charged:
        return True
    by_books = tx.stage is Stage.RECONCILED_CHARGED and tx.reason is Reason.BOOKS
    other_amount = evidence.authorised is not None and evidence.authorised.minor != tx.authorised_minor
    return said.charged and other_amount and not by_books


# --- 7: an abort is acted on or answered; giving up is said aloud; never backwards without a contradiction ----------

_RANK: Final = {State.PENDING: 0, State.UNKNOWN: 1, State.CONFIRMED: 2, State.RECONCILED: 3}


def acts_on_aborts(m: Moment) -> None:
    stage = m.before.stage
    if isinstance(m.evidence, AbortAsked):
        if stage is Stage.QUEUED and m.memory.booked:
            assert m.after.stage is Stage.DISPUTED
        elif stage is Stage.QUEUED:
            assert (m.after.outcome, m.after.reason) == (Outcome.ABORTED, Reason.ABORTED_BEFORE_SEND)
        elif stage in IN_DOUBT | {Stage.DISPUTED}:
            assert m.planned == {CommandKind.SEND_ABORT: 0}
            assert m.after.stage is stage
        else:
            assert m.after == m.before.evolve(sequence=m.after.sequence)
            assert m.decision.commands == ()
    if runs(m.before, m.evidence) and stage in IN_DOUBT and m.memory.abort_asked:
        assert m.planned[CommandKind.SEND_ABORT] == 0


def gives_up_aloud(m: Moment) -> None:
    if m.decision.alarm == Alarm.CHECKS_EXHAUSTED:
        assert m.before.sent_at is not None
        assert m.at - m.before.sent_at >= HORIZON
        assert (m.after.state, m.after.outcome, m.after.reason) == (m.before.state, m.before.outcome, m.before.reason)
    ended = answers_check(m.evidence) and m.before.stage is m.after.stage is Stage.UNKNOWN
    if ended and CommandKind.CHECK_STATUS not in m.planned:
        assert m.decision.alarm == Alarm.CHECKS_EXHAUSTED


def never_goes_back_quietly(m: Moment) -> None:
    if _RANK[m.after.state] < _RANK[m.before.state]:
        assert m.before.outcome is not None
        assert m.after.state is State.UNKNOWN
        assert m.decision.alarm is not None
        assert CommandKind.TELL_CALLER in m.planned
    if m.before.outcome is not None and m.after.outcome is not m.before.outcome:
        negative = reading(m.before, m.evidence) in {Outcome.DECLINED, Outcome.CANCELLED, Outcome.ABORTED}
        assert m.decision.alarm is not None or (m.before.stage is Stage.NOT_PERFORMED and negative)


# --- 8: nothing is forgotten ----------------------------------------------------------------------------------------


def forgets_nothing(m: Moment) -> None:
    """In pending and unknown the matching command is open, or the alarm has been raised."""
    match m.after.stage:
        case Stage.QUEUED if not isinstance(m.evidence, SendByPassed):
            assert {CommandKind.SEND, CommandKind.EXPIRE} <= m.open_after
        case Stage.SENT if not isinstance(m.evidence, AnswerWindowPassed):
            assert CommandKind.EXPECT_ANSWER in m.open_after
        case Stage.UNKNOWN:
            assert CommandKind.CHECK_STATUS in m.open_after or m.memory_after.alarmed
        case Stage.DISPUTED:
            assert m.memory_after.alarmed
        case _:
            assert not m.open_after & {CommandKind.EXPECT_ANSWER, CommandKind.SEND_ABORT} or unmoved(m)
            watched = m.after.sentinel and m.after.concluded_at is not None
            last_at = (m.after.concluded_at or m.at) + timedelta(seconds=POLICY.sentinel_at_s[-1])
            ended = m.at >= last_at or m.memory_after.terminal_spoke
            assert not watched or ended or CommandKind.CHECK_STATUS in m.open_after
    if m.after.reason in {Reason.NOT_FOUND, Reason.REFUSED_BY_PLATFORM} and m.after.stage is Stage.NOT_PERFORMED:
        assert m.after.sentinel


def unmoved(m: Moment) -> bool:
    return m.before.stage is m.after.stage


def asks_when_in_doubt(m: Moment) -> None:
    """What leaves doubt about a payment on the wire asks the terminal at once, or later when it was just asked."""
    if m.before.stage not in IN_DOUBT or m.after.outcome is not None or m.after.stage is Stage.DISPUTED:
        return
    match m.evidence:
        case AnswerMissing(exchange=Exchange.PAYMENT) | RequestRejected(exchange=Exchange.PAYMENT):
            assert m.planned[CommandKind.CHECK_STATUS] == 0
        case AnswerWindowPassed() if m.before.stage is Stage.SENT:
            assert m.after.state is State.UNKNOWN
            assert m.planned[CommandKind.CHECK_STATUS] == 0
        case _ if is_hearsay(m.evidence):
            quiet = m.memory.checked_at is not None and m.at - m.memory.checked_at < QUIET
            assert m.planned == ({} if quiet else {CommandKind.CHECK_STATUS: 0})
        case _ if answers_check(m.evidence) and m.before.sent_at is not None and m.at - m.before.sent_at < HORIZON:
            assert m.planned[CommandKind.CHECK_STATUS] > 0


Check = Callable[[Moment], None]

#: Each promise that can be judged one moment at a time, by its number.
PROMISES: Final[tuple[tuple[int, Check], ...]] = (
    (2, asks_once),
    (3, backs_outcomes),
    (3, reconciles_by_an_independent_word),
    (3, keeps_its_story),
    (4, believes_at_once),
    (5, tells),
    (6, is_loud_about_disagreement),
    (7, acts_on_aborts),
    (7, gives_up_aloud),
    (7, never_goes_back_quietly),
    (8, forgets_nothing),
    (8, asks_when_in_doubt),
)


def keeps_every_promise(m: Moment) -> None:
    for _, check in PROMISES:
        check(m)
