"""What may be done about a payment: offered where it makes sense and the role allows it, and to nobody else."""

from datetime import timedelta

import pytest

from orchestrator.decide import decide
from orchestrator.evidence import AbortAsked, CheckAsked, Evidence
from orchestrator.keys import Role
from orchestrator.model import Outcome, Stage
from orchestrator.web.console.offers import NEEDS, Act, Situation, objection, offered, withheld
from tests.factories import NOW, POLICY, VARIANTS, absent, by_books, ruled, ruling, transaction

EVERY = [*VARIANTS, absent(), by_books(), *(ruled(outcome) for outcome in Outcome)]


def situation(stage: Stage, left_minor: int = 1099) -> Situation:
    return Situation(transaction(stage), left_minor, NOW, POLICY)


@pytest.mark.parametrize(
    ("stage", "acts"),
    [
        (Stage.QUEUED, {Act.ABORT}),
        (Stage.SENT, {Act.CHECK, Act.ABORT}),
        (Stage.UNKNOWN, {Act.CHECK, Act.ABORT, Act.RULE}),
        (Stage.DISPUTED, {Act.CHECK, Act.RULE}),
        (Stage.NOT_PERFORMED, {Act.CHECK}),
        (Stage.NOT_CHARGED, {Act.CHECK}),
        (Stage.CHARGED, {Act.CHECK, Act.REFUND}),
        (Stage.RECONCILED_NOT_CHARGED, {Act.CHECK}),
        (Stage.RECONCILED_CHARGED, {Act.CHECK, Act.REFUND}),
    ],
)
def test_each_stage_offers_what_can_still_change_something(stage: Stage, acts: set[Act]) -> None:
    assert offered(situation(stage), Role.ADMIN) == acts


def test_a_role_is_offered_what_it_may_do_and_told_who_may_do_the_rest() -> None:
    unknown = situation(Stage.UNKNOWN)

    assert offered(unknown, Role.VIEWER) == offered(unknown, Role.SUBMIT) == set()
    assert offered(unknown, Role.OPERATE) == {Act.CHECK, Act.ABORT}
    assert offered(unknown, Role.FINANCE) == {Act.RULE}
    assert withheld(unknown, Role.VIEWER) == {Role.OPERATE, Role.FINANCE}
    assert withheld(unknown, Role.OPERATE) == {Role.FINANCE}
    assert withheld(unknown, Role.ADMIN) == set()


def test_nothing_is_paid_back_twice() -> None:
    assert Act.REFUND not in offered(situation(Stage.CHARGED, left_minor=0), Role.ADMIN)
    assert "Nothing is left" in str(objection(Act.REFUND, situation(Stage.CHARGED, left_minor=0)))


def test_a_terminal_is_asked_about_the_past_for_as_long_as_it_remembers() -> None:
    ended = transaction(Stage.CHARGED)
    assert ended.sent_at is not None
    inside, after = ended.sent_at + timedelta(hours=48), ended.sent_at + timedelta(hours=48, seconds=1)

    assert objection(Act.CHECK, Situation(ended, 0, inside, POLICY)) is None
    assert objection(Act.CHECK, Situation(ended, 0, after, POLICY)) is not None
    # what is unknown may always be asked about: it is the only way out that needs nobody
    assert objection(Act.CHECK, Situation(transaction(Stage.UNKNOWN), 0, after, POLICY)) is None


@pytest.mark.parametrize("tx", EVERY, ids=lambda tx: f"{tx.stage} {tx.outcome} {tx.reason}")
def test_what_is_refused_would_have_changed_nothing_about_the_money(tx: object) -> None:
    now = Situation(tx, 1099, NOW, POLICY)  # type: ignore[arg-type]
    does: dict[Act, Evidence] = {
        Act.CHECK: CheckAsked(asked_by="user Mira"),
        Act.ABORT: AbortAsked(asked_by="user Mira"),
        Act.RULE: ruling(Outcome.DECLINED),
    }
    for act, evidence in does.items():
        refused = objection(act, now)
        assert refused is None or refused.endswith(".")
        if refused is not None:
            decision = decide(now.tx, evidence, NOW, POLICY)
            assert decision.after.outcome is now.tx.outcome
            assert decision.after.state is now.tx.state


def test_every_act_needs_a_role_that_is_not_everybodys() -> None:
    assert set(NEEDS) == set(Act)
    assert all(not Role.VIEWER.includes(role) for role in NEEDS.values())
    assert {act for act in Act if NEEDS[act] is Role.FINANCE} == {Act.REFUND, Act.RULE}
