"""The delicate cells, one claim each: the books and the terminal in either order, and books that come out of order."""

from datetime import timedelta

import pytest

from orchestrator.evidence import BooksEntry, Evidence, Exchange, NotDelivered, ResultReported, SendByPassed
from orchestrator.meaning import Alarm
from orchestrator.model import Books, Money, Outcome, Reason, Stage, State, Transaction
from tests.cells import (
    ABORT,
    CANCELLATION,
    CONTRADICTED,
    COVERS,
    IN_DOUBT,
    NOT_FOUND,
    PAST_HORIZON,
    REFUSED,
    ROUTES,
    TELL,
    Route,
    assert_disputed,
    assert_nothing,
    believed,
    decided,
    planned,
    told_through,
)
from tests.factories import (
    CLAIMED,
    EARLIER,
    LATER,
    NOW,
    OTHER_PSP,
    PSP,
    WINDOW_PASSED,
    approved,
    authorisation,
    booked,
    books,
    by_books,
    failed,
    missing,
    nested,
    pushed,
    refused,
    ruled,
    transaction,
)

OTHER_CANCELLED = books(BooksEntry.CANCELLED, psp_reference=OTHER_PSP)
BARE = authorisation(psp_reference=None, amount=None)

# --- the terminal against books that spoke first --------------------------------------------------------------------


@IN_DOUBT
@CONTRADICTED
def test_what_the_books_have_denied_is_a_contradiction(stage: Stage, memory: Books, said: Evidence) -> None:
    decision = decided(transaction(stage, books=memory), said)

    assert_disputed(decision)
    assert decision.alarm == Alarm.CONTRADICTION
    assert decision.after.books == memory


@IN_DOUBT
@ROUTES
@pytest.mark.parametrize("psp_reference", [PSP, OTHER_PSP, None])
def test_an_authorisation_and_a_decline_contradict_in_either_order(
    stage: Stage, route: Route, psp_reference: str | None
) -> None:
    said = authorisation(psp_reference=psp_reference)
    first = told_through(transaction(stage), (0, said), (1, route(failed())))
    last = told_through(transaction(stage), (0, route(failed())), (1, said))

    assert believed(first) == believed(last) == (State.UNKNOWN, None, Reason.CONTRADICTION)


@ROUTES
@pytest.mark.parametrize(
    ("said", "result"),
    [
        (CANCELLATION, approved()),
        (CANCELLATION, approved(psp_reference=None)),
        (books(BooksEntry.CANCELLED, psp_reference=None), approved()),
    ],
)
def test_a_cancellation_and_a_charge_contradict_in_either_order(
    route: Route, said: Evidence, result: ResultReported
) -> None:
    first = told_through(transaction(Stage.SENT), (0, said), (1, route(result)))
    last = told_through(transaction(Stage.SENT), (0, route(result)), (1, said))

    assert believed(first) == believed(last) == (State.UNKNOWN, None, Reason.CONTRADICTION)


def test_a_late_charge_of_what_the_books_cancelled_is_a_contradiction() -> None:
    for ended in (failed("Busy"), NotDelivered(why="dns")):
        tx = told_through(transaction(Stage.SENT), (0, CANCELLATION), (1, ended))

        assert tx.outcome is Outcome.NOT_PERFORMED
        assert_disputed(decided(tx, pushed(approved(), tagged=True)))


@IN_DOUBT
def test_the_cancellation_of_one_try_says_nothing_about_another(stage: Stage) -> None:
    other = approved(psp_reference=OTHER_PSP)
    charged_first = told_through(transaction(stage), (0, authorisation()), (1, approved()), (2, OTHER_CANCELLED))
    books_first = told_through(transaction(stage), (0, authorisation()), (1, OTHER_CANCELLED), (2, approved()))
    before_the_charge = told_through(transaction(Stage.SENT), (0, CANCELLATION), (1, other))

    assert believed(charged_first) == believed(books_first) == (State.RECONCILED, Outcome.APPROVED, None)
    assert believed(before_the_charge) == (State.CONFIRMED, Outcome.APPROVED, None)


@pytest.mark.parametrize("stage", list(Stage))
def test_the_cancellation_of_another_try_than_the_known_one_is_only_journalled(stage: Stage) -> None:
    charge = {"psp_reference": PSP} if stage is not Stage.QUEUED else {}
    decision = decided(transaction(stage, books=booked(), **charge), OTHER_CANCELLED)

    if stage is Stage.NOT_CHARGED:
        assert believed(decision.after) == (State.RECONCILED, Outcome.DECLINED, None)
    else:
        assert_nothing(decision)
    assert decision.after.books == booked()


def test_a_terminals_reference_tells_what_a_cancellation_is_about_before_the_books_do() -> None:
    assert_nothing(decided(transaction(Stage.CHARGED), OTHER_CANCELLED))
    assert_nothing(decided(transaction(Stage.CHARGED, books=booked(psp_reference=OTHER_PSP)), OTHER_CANCELLED))
    assert_disputed(decided(transaction(Stage.CHARGED, books=booked(psp_reference=OTHER_PSP)), CANCELLATION))


def test_after_a_cancellation_another_one_is_the_books_word() -> None:
    after = told_through(transaction(Stage.SENT), (0, OTHER_CANCELLED), (1, CANCELLATION))

    assert after.books == booked(authorised=False)


def test_books_that_disagree_about_the_amount_lend_no_reference() -> None:
    tx = transaction(Stage.SENT, books=booked(amount=Money("EUR", 500)))

    assert decided(tx, approved(psp_reference=None)).after.psp_reference is None


@IN_DOUBT
@pytest.mark.parametrize("said", [BARE, authorisation()])
@pytest.mark.parametrize("result", [approved(), approved(psp_reference=None)])
def test_a_charge_and_its_authorisation_agree_in_either_order_whoever_names_the_reference(
    stage: Stage, said: Evidence, result: ResultReported
) -> None:
    first = told_through(transaction(stage), (0, said), (1, result))
    last = told_through(transaction(stage), (0, result), (1, said))

    assert believed(first) == believed(last) == (State.RECONCILED, Outcome.APPROVED, None)
    assert first.psp_reference == last.psp_reference
    assert (first.authorised_minor, first.provisional) == (1099, False)


@pytest.mark.parametrize("said", [authorisation(amount=Money("EUR", 500)), authorisation(psp_reference=OTHER_PSP)])
def test_a_charge_that_the_books_have_otherwise_is_loud_in_either_order(said: Evidence) -> None:
    books_first = decided(decided(transaction(Stage.SENT), said).after, approved())
    books_last = decided(decided(transaction(Stage.SENT), approved()).after, said)

    assert believed(books_first.after) == believed(books_last.after) == (State.CONFIRMED, Outcome.APPROVED, None)
    assert books_first.alarm == books_last.alarm == Alarm.BOOKS_DIFFER


@ROUTES
@pytest.mark.parametrize("said", [approved(psp_reference=OTHER_PSP), approved(1098), approved(1100)])
def test_a_charge_other_than_the_one_that_the_books_concluded_is_a_difference(
    route: Route, said: ResultReported
) -> None:
    decision = decided(by_books(), route(said))

    assert believed(decision.after) == believed(decision.before)
    assert decision.alarm == Alarm.BOOKS_DIFFER
    assert_nothing(decided(by_books(), route(approved())))
    assert_nothing(decided(by_books(), route(approved(psp_reference=None))))


# --- absence against books that spoke first -------------------------------------------------------------------------


@IN_DOUBT
@pytest.mark.parametrize("second", [NOT_FOUND, refused(Exchange.STATUS)])
@pytest.mark.parametrize("said", [BARE, authorisation()])
def test_no_refusal_of_the_platform_beats_an_authorisation(stage: Stage, second: Evidence, said: Evidence) -> None:
    after = told_through(transaction(stage), (0, refused()), (1, said), (2, second))

    assert after.outcome is (Outcome.APPROVED if stage is Stage.UNKNOWN else None)


@pytest.mark.parametrize("inconclusive", [missing(Exchange.STATUS), nested(failed("SomethingNew"))])
def test_a_cancellation_heard_before_the_window_passed_settles_the_unknown_all_the_same(inconclusive: Evidence) -> None:
    waiting = told_through(transaction(Stage.SENT), (0, CANCELLATION), (1, WINDOW_PASSED.evidence))

    decision = decided(waiting, inconclusive)

    assert waiting.state is State.UNKNOWN
    assert believed(decision.after) == (State.RECONCILED, Outcome.DECLINED, Reason.BOOKS)
    assert decision.alarm is None
    assert planned(decision) == {TELL: 0}


@pytest.mark.parametrize("stage", [stage for stage in Stage if stage not in {Stage.SENT, Stage.UNKNOWN}])
def test_not_delivered_is_no_news_where_nothing_is_in_doubt(stage: Stage) -> None:
    tx = transaction(stage, books=booked())
    decision = decided(tx, NotDelivered(why="dns"))

    if tx.charged:
        assert_disputed(decision)
    else:
        assert_nothing(decision)


def test_not_delivered_agrees_with_a_ruling_that_nothing_was_charged() -> None:
    assert_nothing(decided(ruled(Outcome.NOT_PERFORMED, books=booked()), NotDelivered(why="dns")))


# --- what the books have is neither sent nor ended unsent -----------------------------------------------------------


@pytest.mark.parametrize("ending", [SendByPassed(), ABORT])
def test_what_was_never_sent_but_is_booked_ends_in_a_dispute(ending: Evidence) -> None:
    decision = decided(decided(transaction(), authorisation()).after, ending)

    assert_disputed(decision, Reason.NEVER_SENT)
    assert decision.alarm == Alarm.BOOKED_BEFORE_SEND


@pytest.mark.parametrize("ending", [SendByPassed(), ABORT])
def test_what_was_never_sent_and_is_cancelled_in_the_books_ends_as_ever(ending: Evidence) -> None:
    decision = decided(decided(transaction(), CANCELLATION).after, ending)

    assert decision.after.charged is False
    assert decision.alarm is None


def test_a_deadline_for_sending_means_nothing_once_sent_whatever_the_books_say() -> None:
    assert_nothing(decided(decided(transaction(), CLAIMED.evidence).after.evolve(books=booked()), SendByPassed()))


# --- books out of order ---------------------------------------------------------------------------------------------

LATEST = pytest.mark.parametrize("stage", list(Stage))


@LATEST
@pytest.mark.parametrize("authorised", [True, False])
@pytest.mark.parametrize("entry", [BooksEntry.AUTHORISED, BooksEntry.REFUSED, BooksEntry.CANCELLED])
def test_a_word_of_the_books_older_than_the_known_one_is_ignored(
    stage: Stage, authorised: bool, entry: BooksEntry
) -> None:
    known = booked(authorised=authorised, effective_at=LATER)

    decision = decided(transaction(stage, books=known), books(entry, effective_at=EARLIER))

    assert_nothing(decision)
    assert decision.after.books == known


@pytest.mark.parametrize("entry", [BooksEntry.DIFFERENCE, BooksEntry.REFUNDED_ELSEWHERE])
def test_a_difference_is_never_too_old_to_be_told(entry: BooksEntry) -> None:
    tx = transaction(Stage.CHARGED, books=booked(effective_at=LATER))

    assert decided(tx, books(entry, effective_at=EARLIER)).alarm == Alarm.BOOKS_DIFFER


@pytest.mark.parametrize(
    ("known_at", "psp_reference", "at"),
    [(LATER, OTHER_PSP, EARLIER), (LATER, PSP, LATER), (EARLIER, PSP, LATER), (None, PSP, EARLIER), (LATER, PSP, None)],
)
def test_only_an_older_fact_about_the_same_reference_is_outdated(
    known_at: str | None, psp_reference: str, at: str | None
) -> None:
    tx = transaction(Stage.SENT, books=booked(authorised=False, effective_at=known_at))

    after = decided(tx, authorisation(psp_reference=psp_reference, effective_at=at)).after

    assert after.books == booked(psp_reference=psp_reference, effective_at=at)


def test_an_authorisation_and_its_cancellation_end_alike_in_either_order() -> None:
    begun, taken_back = authorisation(effective_at=EARLIER), books(BooksEntry.CANCELLED, effective_at=LATER)

    for stage in (Stage.SENT, Stage.UNKNOWN, Stage.NOT_CHARGED):
        in_order = told_through(transaction(stage), (0, begun), (1, taken_back), (2, missing(Exchange.STATUS)))
        reversed_ = told_through(transaction(stage), (0, taken_back), (1, begun), (2, missing(Exchange.STATUS)))
        assert in_order.charged is reversed_.charged
        assert in_order.books == reversed_.books


# --- a refusal of the books against what they have ------------------------------------------------------------------


@pytest.mark.parametrize("stage", [Stage.UNKNOWN, Stage.DISPUTED])
@pytest.mark.parametrize("said", [REFUSED, COVERS])
@pytest.mark.parametrize(
    ("known", "named", "settles"),
    [(PSP, PSP, True), (PSP, OTHER_PSP, False), (PSP, None, False), (None, PSP, False), (None, None, False)],
)
def test_only_the_refusal_of_the_very_reference_outweighs_a_booked_charge(
    stage: Stage, said: Evidence, known: str | None, named: str | None, settles: bool
) -> None:
    tx = transaction(stage, books=booked(psp_reference=known))
    covers_day = said is COVERS

    decision = decided(tx, authorisation(success=False, psp_reference=named, covers_day=covers_day), PAST_HORIZON)

    assert (decision.after.outcome is Outcome.DECLINED) is settles
    assert decision.after.books == (booked(authorised=False) if settles else tx.books)


def test_what_was_cancelled_may_be_settled_by_any_refusal_that_covers_the_day() -> None:
    tx: Transaction = transaction(Stage.UNKNOWN, books=booked(authorised=False, psp_reference=OTHER_PSP))

    assert decided(tx, COVERS, NOW + timedelta(hours=1)).after.outcome is Outcome.DECLINED
