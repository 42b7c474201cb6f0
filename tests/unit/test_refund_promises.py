"""The promises of refunds, each held against adversarial histories."""

from datetime import timedelta
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.commands import CommandKind
from orchestrator.errors import Defect
from orchestrator.evidence import AnswerWindowPassed, Evidence, SendStarted, kind_of, to_detail
from orchestrator.refunds.decide import RefundDecision, decide
from orchestrator.refunds.evidence import KINDS, OutcomeOverdue, RefundAccepted, RefundEntry, from_detail
from orchestrator.refunds.model import Refund, RefundOutcome, RefundStage
from orchestrator.refunds.transitions import DEFECT, TRANSITIONS, RefundEvent, Step
from tests.refund_factories import EARLIER, LATER, NOW, OUTSIDE, POLICY, VARIANTS, booked, refund, reported

PROFILE = settings(max_examples=300, deadline=None, derandomize=True)
#: Around each number that a guard compares with: the gap, the window, the first hour, the horizon.
GAPS_S = (0.0, 6.0, 29.0, 31.0, 140.0, 4000.0, 60 * 3600.0)

turns = st.tuples(st.sampled_from(GAPS_S), st.sampled_from(sorted(OUTSIDE)))
histories = st.lists(turns, min_size=1, max_size=25)
starts = st.sampled_from([refund(), refund(payment_id=None), refund(RefundStage.AWAITING)])


def lived(start: Refund, history: list[tuple[float, str]], *, claims: bool = True) -> list[RefundDecision]:
    """A life: whatever comes from outside, and our own part in it as the commands ask for it."""
    now, believed, decisions = NOW, start, []
    for gap_s, name in history:
        now += timedelta(seconds=gap_s)
        ours: list[Evidence] = []
        if believed.stage is RefundStage.QUEUED and claims:
            ours.append(SendStarted())
        elif believed.stage is RefundStage.SENT and gap_s > POLICY.answer_window_s:
            ours.append(AnswerWindowPassed())
        elif believed.stage is RefundStage.RECEIVED and gap_s > 86400:
            ours.append(OutcomeOverdue())
        for evidence in (*ours, OUTSIDE[name]):
            decisions.append(decide(believed, evidence, now, POLICY))
            believed = decisions[-1].after
    return decisions


def test_1_the_table_is_total() -> None:
    assert set(TRANSITIONS) == {(stage, event) for stage in RefundStage for event in RefundEvent}
    assert all(isinstance(cell, Step) or cell == DEFECT for cell in TRANSITIONS.values())


@pytest.mark.parametrize("before", VARIANTS, ids=lambda before: before.stage)
@pytest.mark.parametrize("after", [timedelta(), timedelta(hours=72)])
def test_1_no_evidence_from_outside_meets_a_defect_in_any_stage(before: Refund, after: timedelta) -> None:
    for evidence in OUTSIDE.values():
        decide(before, evidence, NOW + after, POLICY)


@pytest.mark.parametrize("stage", [stage for stage in RefundStage if stage is not RefundStage.QUEUED])
def test_1_a_second_claim_is_a_defect(stage: RefundStage) -> None:
    with pytest.raises(Defect):
        decide(refund(stage), SendStarted(), NOW, POLICY)


@PROFILE
@given(starts, histories)
def test_2_a_refund_is_sent_at_most_once(start: Refund, history: list[tuple[float, str]]) -> None:
    decisions = lived(start, history)
    sendings = [each for each in decisions if each.event is RefundEvent.SEND_STARTED]

    assert len(sendings) <= 1
    seen_sent = False
    for each in decisions:
        assert not (seen_sent and each.after.sent_at is None), "what was sent once stays sent"
        seen_sent = seen_sent or each.after.sent_at is not None
        if each.before.stage is not RefundStage.AWAITING:
            assert CommandKind.SEND_REFUND not in {plan.kind for plan in each.commands}


@PROFILE
@given(starts, histories)
def test_3_paid_back_takes_the_books_or_a_payouts_own_word(start: Refund, history: list[tuple[float, str]]) -> None:
    for each in lived(start, history):
        if each.after.paid_back and not each.before.paid_back:
            assert each.event in {RefundEvent.BOOKED_PAID, RefundEvent.PAID}
            assert each.event is RefundEvent.BOOKED_PAID or start.payment_id is None


@PROFILE
@given(starts, histories)
def test_3_silence_is_never_a_conclusion(start: Refund, history: list[tuple[float, str]]) -> None:
    for each in lived(start, history):
        if each.event in {RefundEvent.WINDOW_PASSED, RefundEvent.ANSWER_MISSING, RefundEvent.OVERDUE}:
            assert each.after.outcome is each.before.outcome or each.after.outcome is None


@PROFILE
@given(starts, histories)
def test_5_the_caller_hears_of_every_outcome(start: Refund, history: list[tuple[float, str]]) -> None:
    for each in lived(start, history):
        if each.after.outcome is not each.before.outcome:
            assert each.told
            assert CommandKind.TELL_CALLER in {plan.kind for plan in each.commands}


@PROFILE
@given(starts, histories)
def test_8_nothing_is_forgotten(start: Refund, history: list[tuple[float, str]]) -> None:
    """While nobody knows, something is due, or a person was told."""
    now_open: set[CommandKind] = {CommandKind.SEND_REFUND, CommandKind.EXPECT_REFUND}
    alarmed = False
    for each in lived(start, history):
        if each.event in {RefundEvent.CHECK_INCONCLUSIVE, RefundEvent.NOT_FOUND, RefundEvent.IN_PROGRESS}:
            now_open.discard(CommandKind.CHECK_REFUND)  # it is the check that was performed
        if each.event in {RefundEvent.OVERDUE, RefundEvent.WINDOW_PASSED}:
            now_open.discard(CommandKind.EXPECT_REFUND)
        now_open = (now_open - each.obsolete) | {plan.kind for plan in each.commands}
        alarmed = alarmed or each.alarm is not None
        match each.after.stage:
            case RefundStage.SENT:
                assert now_open & {CommandKind.EXPECT_REFUND, CommandKind.CHECK_REFUND}
            case RefundStage.UNKNOWN:
                assert CommandKind.CHECK_REFUND in now_open or alarmed
            case RefundStage.RECEIVED:
                assert CommandKind.EXPECT_REFUND in now_open or alarmed
            case _:
                continue


@pytest.mark.parametrize("story", [RefundEntry.FAILED, RefundEntry.REVERSED, RefundEntry.VOIDED])
def test_9_the_order_of_a_story_does_not_matter(story: RefundEntry) -> None:
    facts = [reported(), booked(RefundEntry.REFUNDED, EARLIER), booked(story, LATER), booked(story, LATER)]

    ends = set()
    for order in permutations(facts):
        believed = decide(refund(), SendStarted(), NOW, POLICY).after
        for evidence in order:
            believed = decide(believed, evidence, NOW, POLICY).after
        ends.add((believed.state, believed.outcome, believed.reason, believed.psp_reference))
    assert len(ends) == 1
    assert {outcome for _, outcome, _, _ in ends} <= {RefundOutcome.FAILED, RefundOutcome.REVERSED}


@PROFILE
@given(starts, histories)
def test_10_the_sum_of_what_was_paid_back_is_what_the_end_says(start: Refund, history: list[tuple[float, str]]) -> None:
    decisions = lived(start, history)

    last = decisions[-1].after
    assert sum(each.paid_back_minor for each in decisions) == (last.amount.minor if last.paid_back else 0)


@pytest.mark.parametrize("name", sorted(OUTSIDE))
def test_10_evidence_survives_the_journal(name: str) -> None:
    evidence = OUTSIDE[name]

    assert from_detail(kind_of(evidence), to_detail(evidence)) == evidence


def test_10_the_first_line_survives_the_journal() -> None:
    terms = refund()
    first = RefundAccepted(
        payment_id=str(terms.payment_id), merchant_account=terms.merchant_account, reference=terms.reference,
        poi_id=terms.poi_id, sale_id=terms.sale_id, service_id=terms.service_id, amount=terms.amount, asked_by="key 1",
    )  # fmt: skip

    assert from_detail("refund_accepted", to_detail(first)) == first
    assert all(len(kind) <= 40 for kind in KINDS)
