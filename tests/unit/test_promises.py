"""The promises, each held against adversarial histories.

A history is any order of evidence from everywhere, repeated, with gaps from nothing to days, and with workers that die
after they recorded what they learned and before their command was marked done. What a promise says is written down in
``tests.promises``; here it meets as many lives as it can. Two promises live elsewhere: that every error of the HTTP
client is classified is the terminal's, and that what we seal the terminal opens belongs to the local transport.
"""

import json
from collections.abc import Callable
from datetime import timedelta

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from orchestrator.classify import CONDITIONS
from orchestrator.commands import CommandKind
from orchestrator.decide import decide, replay
from orchestrator.errors import Defect
from orchestrator.evidence import (
    AbortAsked,
    AbortSent,
    AnswerWindowPassed,
    BooksEntry,
    BooksReported,
    Channel,
    Evidence,
    Exchange,
    InProgressReported,
    NotFoundReported,
    RejectPushed,
    ResultReported,
    SendByPassed,
    SendStarted,
    SubmissionAccepted,
    from_detail,
    kind_of,
    to_detail,
)
from orchestrator.model import Money, Outcome, Stage, State, Transaction
from orchestrator.transitions import DEFECT, TRANSITIONS, Event, Step
from tests.factories import (
    CLAIMED,
    EARLIER,
    LATER,
    NOW,
    OTHER_PSP,
    OUTSIDE,
    POLICY,
    SERVICE_ID,
    VARIANTS,
    WINDOW_PASSED,
    Fact,
    accepted,
    approved,
    authorisation,
    booked,
    books,
    failed,
    missing,
    nested,
    pushed,
    refused,
    transaction,
)
from tests.lives import SAYS, Life, Turn, lived, possible, reading
from tests.promises import PROMISES, Check, asks_once, keeps_every_promise

EVERYTHING = (*OUTSIDE, CLAIMED, WINDOW_PASSED)
#: Results and rulings end most stories at once; half of what happens is drawn from the rest, so that some go on.
UNFINISHED = tuple(fact for fact in EVERYTHING if kind_of(fact.evidence) not in {"result_reported", "ruled"})
#: Around each number that a guard compares with: the quiet, the gap, the window, the first hour, the horizon.
GAPS_S = (0.0, 0.5, 2.0, 6.0, 29.0, 31.0, 140.0, 700.0, 4000.0, 60 * 3600.0)

PROFILE = settings(max_examples=60, deadline=None, derandomize=True)

facts = st.sampled_from(UNFINISHED) | st.sampled_from(EVERYTHING)
turns = st.builds(Turn, gap_s=st.sampled_from(GAPS_S), fact=facts, dies=st.booleans())
histories = st.tuples(
    st.sampled_from([(), (Turn(1, CLAIMED),), (Turn(1, CLAIMED), Turn(150, WINDOW_PASSED))]),
    st.lists(turns, min_size=1, max_size=25),
).map(lambda parts: [*parts[0], *parts[1]])


# --- 1 --------------------------------------------------------------------------------------------------------------


def test_1_the_table_is_total() -> None:
    assert set(TRANSITIONS) == {(stage, event) for stage in Stage for event in Event}
    assert all(isinstance(cell, Step) or cell == DEFECT for cell in TRANSITIONS.values())


@pytest.mark.parametrize("tx", VARIANTS, ids=lambda tx: tx.stage)
@pytest.mark.parametrize("after", [timedelta(), timedelta(hours=72)])
def test_1_no_evidence_from_outside_meets_a_defect_in_any_stage(tx: Transaction, after: timedelta) -> None:
    for fact in OUTSIDE:
        decide(tx, fact.evidence, NOW + after, POLICY)


@pytest.mark.parametrize("stage", list(Stage))
def test_1_what_only_our_own_code_can_produce_is_a_defect(stage: Stage) -> None:
    impossible: list[Evidence] = [SubmissionAccepted(), Evidence()]
    if stage is Stage.QUEUED:
        impossible.append(AnswerWindowPassed())
    else:
        impossible.append(SendStarted())

    for evidence in impossible:
        with pytest.raises(Defect):
            decide(transaction(stage), evidence, NOW, POLICY)


@PROFILE
@given(histories)
def test_1_no_history_meets_a_defect(history: list[Turn]) -> None:
    for _ in lived(Life.of(accepted()), history):
        pass


# --- 2 to 8: moment by moment ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "check"), PROMISES)
@given(history=histories)
@PROFILE
def test_2_to_8_every_moment_of_every_history_keeps_the_promise(number: int, check: Check, history: list[Turn]) -> None:
    for moment in lived(Life.of(accepted()), history):
        check(moment)


@pytest.mark.parametrize("tx", VARIANTS, ids=lambda tx: tx.stage)
def test_2_to_8_every_piece_of_evidence_in_every_stage_keeps_every_promise(tx: Transaction) -> None:
    for fact in EVERYTHING:
        if possible(tx, fact.evidence):
            keeps_every_promise(Life.of(tx, NOW).meet(fact.evidence))


@PROFILE
@given(histories)
def test_2_a_life_has_at_most_one_move_from_not_sent_to_sent(history: list[Turn]) -> None:
    moments = list(lived(Life.of(accepted()), [*history, Turn(0, CLAIMED), *history]))

    sends = [m for m in moments if m.before.stage is Stage.QUEUED and m.after.stage is Stage.SENT]
    for moment in moments:
        asks_once(moment)
    assert len(sends) <= 1


SILENCE = [
    missing(),
    missing(Exchange.STATUS),
    missing(Exchange.ABORT),
    refused(),
    AbortAsked(asked_by="till-4"),
    AbortSent(answer="200"),
    InProgressReported(),
    RejectPushed(why="unparsable"),
    SendByPassed(),
    NotFoundReported(last_service_id=SERVICE_ID),
    NotFoundReported(terminal_reassigned=True),
    *(fact.evidence for fact in OUTSIDE if fact.name.endswith("without a tag")),
]


@PROFILE
@given(
    st.booleans(),
    st.lists(st.tuples(st.sampled_from(GAPS_S), st.sampled_from(SILENCE)), min_size=1, max_size=30),
)
def test_3_silence_and_hearsay_never_conclude_however_long_they_last(
    window_passed: bool, silence: list[tuple[float, Evidence]]
) -> None:
    began = [Turn(1, CLAIMED), Turn(150, WINDOW_PASSED)] if window_passed else [Turn(1, CLAIMED)]
    story = [*began, *(Turn(gap_s, Fact("silence", evidence)) for gap_s, evidence in silence)]

    for moment in lived(Life.of(accepted()), story):
        assert moment.after.outcome is None
        assert moment.after.state in {State.PENDING, State.UNKNOWN}


# --- 9: order and repetition of consistent evidence do not matter ---------------------------------------------------

AROUND: tuple[Evidence, ...] = (
    AnswerWindowPassed(),
    InProgressReported(),
    missing(),
    missing(Exchange.STATUS),
    AbortSent(answer="200"),
    SendByPassed(),
    NotFoundReported(last_service_id=SERVICE_ID),
)


def family(said: ResultReported, *more: Evidence) -> list[Evidence]:
    """One truth, as it reaches us on every route, among what says nothing against it."""
    routes = (said, nested(said), pushed(said, tagged=True), pushed(said, tagged=False))
    return [*routes, *routes, *AROUND, *more]


APPROVED = family(approved(), authorisation(), authorisation())
OFFLINE = family(approved(online=False), authorisation(), authorisation())


def ended(story: list[Evidence], gap_s: float) -> Transaction:
    turns_of_it = [Turn(1, CLAIMED), *(Turn(gap_s, Fact("consistent", evidence)) for evidence in story)]
    moments = list(lived(Life.of(accepted()), turns_of_it))
    assert [moment.decision.alarm for moment in moments if moment.decision.alarm] == []
    return moments[-1].after


@PROFILE
@pytest.mark.parametrize("facts_of_it", [APPROVED, OFFLINE])
@given(data=st.data(), gap_s=st.sampled_from([0.0, 1.0, 40.0, 400.0]))
def test_9_an_approval_that_the_books_confirm_ends_the_same_in_any_order(
    facts_of_it: list[Evidence], data: st.DataObject, gap_s: float
) -> None:
    end = ended(data.draw(st.permutations(facts_of_it)), gap_s)

    assert (end.state, end.outcome, end.authorised_minor) == (State.RECONCILED, Outcome.APPROVED, 1099)
    assert end.psp_reference == approved().psp_reference
    assert (end.provisional, end.late) == (False, False)


@PROFILE
@pytest.mark.parametrize("condition", ["Refusal", "Cancel", "Aborted"])
@given(data=st.data(), gap_s=st.sampled_from([0.0, 1.0, 40.0, 400.0]))
def test_9_a_refusal_ends_the_same_in_any_order(condition: str, data: st.DataObject, gap_s: float) -> None:
    story = family(failed(condition), AbortAsked(asked_by="till-4"))

    end = ended(data.draw(st.permutations(story)), gap_s)

    assert (end.state, end.outcome) == (State.CONFIRMED, SAYS[condition])
    assert end.authorised_minor is None


#: What the books say of whether the money moved; a refused try is journalled only, and moves nothing before the result.
WORDS_OF_THE_BOOKS = [
    said
    for entry in (BooksEntry.AUTHORISED, BooksEntry.CANCELLED)
    for said in (books(entry), books(entry, psp_reference=OTHER_PSP), books(entry, psp_reference=None, amount=None))
] + [authorisation(amount=Money("EUR", minor)) for minor in (500, 1300)]

RESULTS = [
    fact.evidence
    for fact in OUTSIDE
    if isinstance(fact.evidence, ResultReported)
    and fact.evidence.authentic
    and fact.evidence.channel is not Channel.STATUS
]


def verdict(tx: Transaction, *story: Evidence) -> tuple[bool | None, int | None, bool]:
    """Whether money moved, how much, and whether anybody was alarmed."""
    turns_of_it = [Turn(1, CLAIMED), *(Turn(1, Fact("in some order", evidence)) for evidence in story)]
    moments = list(lived(Life.of(tx), turns_of_it))
    alarmed = any(moment.decision.alarm is not None for moment in moments)
    return moments[-1].after.charged, moments[-1].after.authorised_minor, alarmed


@pytest.mark.parametrize("said", WORDS_OF_THE_BOOKS)
def test_9_the_books_and_a_result_come_to_the_same_in_either_order(said: BooksReported) -> None:
    for result in RESULTS:
        first, last = verdict(accepted(), said, result), verdict(accepted(), result, said)
        if reading(accepted(), result) is Outcome.NOT_PERFORMED and said.entry is BooksEntry.AUTHORISED:
            assert first == (None, None, True), result  # nobody believes it against the books
            assert last[2], result  # and the books are believed against it
            assert last[0], result
        else:
            assert first == last, result


@PROFILE
@given(data=st.data(), gap_s=st.sampled_from([0.0, 1.0, 40.0]))
def test_9_what_the_books_took_back_is_never_a_charge_whatever_the_order(data: st.DataObject, gap_s: float) -> None:
    begun, taken_back = authorisation(effective_at=EARLIER), books(BooksEntry.CANCELLED, effective_at=LATER)
    story = data.draw(st.permutations([begun, taken_back, begun, approved(), pushed(approved(), tagged=True), *AROUND]))

    moments = list(lived(Life.of(accepted()), [Turn(1, CLAIMED), *(Turn(gap_s, Fact("order", e)) for e in story)]))

    assert not moments[-1].after.charged
    assert moments[-1].after.books == booked(authorised=False, effective_at=LATER)
    assert any(moment.decision.alarm for moment in moments)


@pytest.mark.parametrize("tx", VARIANTS, ids=lambda tx: tx.stage)
def test_9_a_terminals_result_said_twice_says_no_more_than_once(tx: Transaction) -> None:
    for fact in OUTSIDE:
        if reading(tx, fact.evidence) is None:
            continue
        once = decide(tx, fact.evidence, NOW, POLICY)
        twice = decide(once.after, fact.evidence, NOW + timedelta(seconds=1), POLICY)
        if once.after.stage is not tx.stage:
            assert (twice.after.state, twice.after.outcome) == (once.after.state, once.after.outcome), fact
            assert twice.alarm is None, fact
            assert not twice.told, fact


# --- 10 -------------------------------------------------------------------------------------------------------------


@PROFILE
@given(histories)
def test_10_replaying_the_journal_gives_the_row(history: list[Turn]) -> None:
    life = Life.of(accepted())
    for _ in lived(life, history):
        pass
    first = (life.at, SubmissionAccepted(override_by=None))

    written = [(at, kind_of(line), json.dumps(to_detail(line))) for at, line in [first, *life.lines]]
    read = [(at, from_detail(kind, json.loads(detail))) for at, kind, detail in written]

    assert replay(accepted(), read, POLICY) == life.tx
    assert life.tx.sequence == len(read)


# --- 11 -------------------------------------------------------------------------------------------------------------

#: The published enumeration, and the one that the platform sends besides.
PUBLISHED = {
    "Aborted", "Busy", "Cancel", "DeviceOut", "InProgress", "InsertedCard", "InvalidCard", "LoggedOut",
    "MessageFormat", "NotAllowed", "NotFound", "PaymentRestriction", "Refusal", "UnavailableDevice",
    "UnavailableService", "UnreachableHost", "WrongPIN", "Communication timeout",
}  # fmt: skip


def test_11_every_published_error_condition_is_classified() -> None:
    assert set(CONDITIONS) | {"InProgress", "NotFound", "UnreachableHost", "Communication timeout"} == PUBLISHED
    assert CONDITIONS == SAYS
    assert not any(outcome.charged for outcome in CONDITIONS.values())


ROUTES: list[Callable[[ResultReported], ResultReported]] = [
    lambda said: said,
    nested,
    lambda said: pushed(said, tagged=True),
]


@PROFILE
@given(st.text() | st.sampled_from(sorted(PUBLISHED)), st.sampled_from(ROUTES), st.booleans())
@example("", ROUTES[0], True)
@example("refusal", ROUTES[0], True)
def test_11_whatever_is_not_listed_means_not_known_and_asks(
    condition: str, route: Callable[[ResultReported], ResultReported], asked: bool
) -> None:
    tx = transaction(Stage.UNKNOWN if asked else Stage.SENT)

    decision = decide(tx, route(failed(condition)), NOW, POLICY)

    assert decision.after.outcome is SAYS.get(condition)
    if condition not in SAYS:
        assert CommandKind.CHECK_STATUS in {plan.kind for plan in decision.commands}


@PROFILE
@given(st.text(), st.sampled_from(ROUTES))
def test_11_a_result_of_another_name_is_never_a_conclusion(
    verdict: str, route: Callable[[ResultReported], ResultReported]
) -> None:
    assume(verdict not in {"Success", "Partial", "Failure"})

    decision = decide(transaction(Stage.SENT), route(approved(result=verdict)), NOW, POLICY)

    assert decision.after.stage is Stage.SENT
    assert CommandKind.CHECK_STATUS in {plan.kind for plan in decision.commands}
