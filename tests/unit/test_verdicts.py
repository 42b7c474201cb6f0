"""What a clerk is told about the money: total, and never more than is known."""

from collections.abc import Iterator
from functools import cache
from itertools import product
from typing import Any

import pytest

from orchestrator.model import DISPUTED_REASONS, Outcome, Reason, State
from orchestrator.verdicts import Standing, Tone, Verdict, Wait, verdict

FLAGS = (False, True)
ASKED = 1050
WAITS = (Wait(), Wait(ahead=1), Wait(ahead=7), Wait(held_by="user Jo"))


def standing(**changes: Any) -> Standing:
    fields: dict[str, Any] = {"state": State.PENDING, "currency": "EUR", "asked_minor": ASKED, "poi_id": "V400m-1"}
    return Standing(**(fields | changes))


def money_known() -> Iterator[Standing]:
    """Every outcome by every state, reason and amount, whether or not a row may say so."""
    for state, outcome, reason in product(State, Outcome, [None, *Reason]):
        for authorised, added, refunded in product((None, 700, ASKED, 1200), (0, 150), (0, 300, 9999)):
            for late, refunding in product(FLAGS, (0, 450)):
                yield standing(
                    state=state, outcome=outcome, reason=reason, authorised_minor=authorised, added_minor=added,
                    refunded_minor=refunded, is_late=late, is_provisional=late != (added > 0),
                    refunding_minor=refunding,
                )  # fmt: skip


def money_unknown() -> Iterator[Standing]:
    """Every way not to have an outcome."""
    for state, reason in product(State, [None, *Reason]):
        for sent, overdue, stopping, wait in product(FLAGS, FLAGS, FLAGS, WAITS):
            for refunded, late, provisional in product((0, 300), FLAGS, FLAGS):
                yield standing(
                    state=state, reason=reason, is_sent=sent, is_overdue=overdue, is_stopping=stopping, wait=wait,
                    refunded_minor=refunded, is_late=late, is_provisional=provisional,
                )  # fmt: skip


@cache
def known() -> list[tuple[Standing, Verdict]]:
    return [(each, verdict(each)) for each in money_known()]


@cache
def unknown() -> list[tuple[Standing, Verdict]]:
    return [(each, verdict(each)) for each in money_unknown()]


def words(said: Verdict) -> str:
    return f"{said.sentence} {said.do}".lower()


def test_it_says_charged_exactly_where_the_outcome_does() -> None:
    for each, said in known():
        assert each.outcome is not None
        assert said.charged is each.outcome.charged
        assert said.says.startswith("Charged" if said.charged else "Not charged"), each
        assert ("not charged" in words(said)) is not said.charged, each
        assert said.charged or words(said).count("charged") == 1, each


def test_without_an_outcome_the_word_does_not_occur() -> None:
    for each, said in unknown():
        assert said.charged is None
        assert "charged" not in words(said), each
        assert "do not take the payment again" in said.says, each
        assert said.tone in {Tone.WAIT, Tone.DOUBT}, each


def test_only_what_is_not_charged_may_be_taken_again() -> None:
    for each, said in (*known(), *unknown()):
        assert said.charged is False or "may take the payment again" not in words(said), each


def test_green_is_for_what_pays_for_the_goods_beyond_doubt() -> None:
    for each, said in (*known(), *unknown()):
        if said.tone is Tone.GOOD:
            assert each.outcome is not None
            assert each.outcome.charged
            assert not each.is_late
            assert not each.is_provisional
            minor = ASKED if each.authorised_minor is None else each.authorised_minor
            assert minor >= ASKED
            assert each.refunded_minor < minor
            assert each.refunding_minor == 0


def test_every_verdict_says_what_to_do_in_whole_sentences() -> None:
    for _, said in (*known(), *unknown()):
        assert said.do.endswith(".")
        assert said.sentence.endswith(".")
        assert ".." not in said.sentence


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"outcome": Outcome.APPROVED, "authorised_minor": ASKED}, "Charged 10.50 EUR."),
        (
            {"outcome": Outcome.PARTIALLY_APPROVED, "authorised_minor": 700, "is_provisional": True},
            "Charged only 7.00 EUR of 10.50 EUR; offline: the bank has yet to confirm it.",
        ),
        (
            {"outcome": Outcome.APPROVED, "authorised_minor": ASKED, "refunded_minor": ASKED},
            "Charged 10.50 EUR, and all of it paid back.",
        ),
        (
            {"outcome": Outcome.APPROVED, "authorised_minor": ASKED, "refunded_minor": 300, "reason": Reason.RULED},
            "Charged 10.50 EUR, and 3.00 EUR of it paid back; a person ruled so.",
        ),
        (
            {"outcome": Outcome.APPROVED, "authorised_minor": 1200, "added_minor": 150},
            "Charged 12.00 EUR, 1.50 EUR more than asked; a tip, cashback or surcharge was added at the terminal.",
        ),
        ({"outcome": Outcome.DECLINED}, "Not charged: the card was declined."),
        (
            {"outcome": Outcome.DECLINED, "reason": Reason.BOOKS},
            "Not charged: the card was declined, as the platform's books say.",
        ),
        (
            {"state": State.UNKNOWN, "reason": Reason.NO_ANSWER},
            (
                "Not known yet: do not take the payment again; "
                "no answer came, and V400m-1 is being asked what became of it."
            ),
        ),
        (
            {"is_sent": False, "wait": Wait(ahead=2)},
            "Waiting for its turn: do not take the payment again; queued for V400m-1, behind 2 other payments.",
        ),
        ({}, "Running at the terminal now: do not take the payment again; the shopper pays at V400m-1."),
    ],
)
def test_a_clerk_reads_one_sentence(changes: dict[str, Any], sentence: str) -> None:
    fields = {"state": State.CONFIRMED} if "outcome" in changes else {}
    assert verdict(standing(**fields, **changes)).sentence == sentence


@pytest.mark.parametrize("reason", sorted(DISPUTED_REASONS))
def test_what_contradicts_itself_is_sent_to_finance(reason: Reason) -> None:
    said = verdict(standing(state=State.UNKNOWN, reason=reason))
    assert "a person has to settle it" in said.sentence
    assert "Finance" in said.do
