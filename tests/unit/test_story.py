"""What a journal says, for people: every line of every kind, and never more than it rests on."""

import pytest

from orchestrator import evidence, story
from orchestrator.commands import CommandKind
from orchestrator.evidence import Evidence, kind_of, to_detail
from orchestrator.model import Money, State
from orchestrator.refunds import evidence as refund_evidence
from orchestrator.refunds.transitions import RefundEvent
from orchestrator.transitions import Event
from tests import factories, refund_factories

KINDS = sorted({*evidence.KINDS, *refund_evidence.KINDS})
SAMPLES: list[Evidence] = [*factories.SAMPLES.values(), *refund_factories.OUTSIDE.values()]
ACCEPTED = refund_evidence.RefundAccepted(
    merchant_account="HarbourBakery",
    reference="BACK-1",
    poi_id="V400m-324688179",
    sale_id="Till4",
    service_id="7f3a91c2e4",
    amount=Money("EUR", 450),
    asked_by="user mira",
    reason="the cake was burnt",
)
POOL: list[Evidence] = [*(fact.evidence for fact in factories.OUTSIDE), ACCEPTED, refund_evidence.OutcomeOverdue()]


@pytest.mark.parametrize("sample", [*SAMPLES, *POOL], ids=kind_of)
def test_every_piece_of_evidence_is_a_sentence(sample: Evidence) -> None:
    said = story.learned(kind_of(sample), to_detail(sample))

    assert said.endswith(".")
    assert "None" not in said
    assert "“" not in said or "”" in said
    assert story.source(kind_of(sample), to_detail(sample))


@pytest.mark.parametrize("kind", KINDS)
def test_a_line_whose_detail_is_gone_still_says_what_it_was(kind: str) -> None:
    said = story.learned(kind, None)

    assert said.endswith("was expunged when it had become old.")
    assert kind.replace("_", " ") not in said.lower() or len(said) > len(kind) + 60
    assert story.source(kind, None)


@pytest.mark.parametrize("event", ["accepted", *Event, *RefundEvent])
def test_every_event_says_what_it_means(event: str) -> None:
    assert event in story.MEANINGS
    assert story.followed(event, None, "pending") == story.MEANINGS[event]


@pytest.mark.parametrize("before", State)
@pytest.mark.parametrize("after", State)
def test_a_move_is_told_where_there_is_one(before: State, after: State) -> None:
    said = story.followed("charged", before, after)

    assert (f"{before.capitalize()} became {after}." in said) is (before is not after)


@pytest.mark.parametrize("kind", CommandKind)
def test_everything_that_may_be_planned_has_words(kind: CommandKind) -> None:
    assert story.PLANNED[kind]


def test_what_is_new_is_shown_by_its_own_name() -> None:
    assert story.learned("moon_observed", {"phase": "full"}) == "Moon observed."
    assert story.followed("moon_rose", None, "pending") == "Moon rose."


def test_hearsay_is_never_told_as_the_terminals_word() -> None:
    pushed = factories.pushed(factories.approved(), tagged=False)
    said = story.learned("result_reported", to_detail(pushed))

    assert said.startswith("Somebody without our tag reported")
    assert "The terminal" not in said


def test_a_result_names_the_card_by_its_last_four_alone() -> None:
    said = story.learned("result_reported", to_detail(factories.approved()))
    assert said == "The terminal reported: approved, 10.99 EUR, mc …9999."


def test_an_override_names_who_and_why() -> None:
    said = story.learned("submission_accepted", to_detail(factories.SAMPLES["submission_accepted"]))
    assert "jo let the sale be paid again: “the first one was voided by hand”." in said


def test_a_ruling_names_both_people_and_the_reason() -> None:
    said = story.learned("ruled", to_detail(factories.SAMPLES["ruled"]))
    assert said.startswith("mira@harbour-bakery.example ruled: charged in part")
    assert "“receipt seen”" in said
    assert said.endswith("jo agreed.")
