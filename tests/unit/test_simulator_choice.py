"""Which scenario is played: fixed by the reference and the seed, never by the order of arrival."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from orchestrator.simulator import options
from orchestrator.simulator.aftermath import AN_ORDINARY_WEBHOOK, REFUNDS, WEBHOOKS
from orchestrator.simulator.certificates import FAULTS as CERTIFICATE_FAULTS
from orchestrator.simulator.choice import MIXES, Choice, from_ending, from_mix, parse_mix, parse_webhook_mix
from orchestrator.simulator.faults import STATES
from orchestrator.simulator.payment import Asked
from orchestrator.simulator.scenarios import SCENARIOS, Flaw
from orchestrator.simulator.stories import DISCREPANCIES


def asked(reference: str, poi_id: str = "V400m-324000123") -> Asked:
    return Asked(poi_id, "K", "1", reference, sale_timestamp="", currency="EUR", amount_minor=1099)


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_reference_that_ends_in_a_scenario_plays_it(name: str) -> None:
    assert from_ending(f"ORDER-1-{name}") == name


@pytest.mark.parametrize("name", [*REFUNDS, *WEBHOOKS, *DISCREPANCIES])
def test_what_can_be_asked_of_the_books_is_on_the_page(name: str) -> None:
    text = (Path(__file__).parents[2] / "docs" / "simulator.md").read_text()

    assert f"`-{name}`" in text or f"`{name}`" in text


@pytest.mark.parametrize("name", SCENARIOS)
@pytest.mark.parametrize("behaviour", ["webhook-late", "webhook-twice", "webhook-disorder"])
def test_the_behaviour_of_its_webhooks_may_follow_a_scenario(name: str, behaviour: str) -> None:
    assert from_ending(f"ORDER-1-{name}-{behaviour}") == name
    assert Choice(0, {}).behaviour(f"ORDER-1-{name}-{behaviour}") is WEBHOOKS[behaviour]


@pytest.mark.parametrize("name", WEBHOOKS)
def test_the_behaviour_of_its_webhooks_is_no_scenario_of_a_payment(name: str) -> None:
    assert from_ending(f"ORDER-1-{name}") is None


@pytest.mark.parametrize("name", REFUNDS)
def test_a_refund_plays_what_its_own_reference_ends_in(name: str) -> None:
    assert Choice(0, {}).refund(f"R-1-{name}") == Choice(0, {}).refund(f"R-1-{name}-webhook-twice") == name
    assert not Choice(0, {}).refund(f"{name}-1")


def test_an_order_for_a_reference_is_for_what_it_names() -> None:
    choice = Choice(0, {}, {"A": "refund-fails"})

    assert (choice.scenario(asked("A")), choice.refund("A")) == ("", "refund-fails")
    assert choice.behaviour("A") is AN_ORDINARY_WEBHOOK


def test_webhooks_misbehave_at_the_rates_of_their_own_mix() -> None:
    choice = Choice(1, {"decline": 0.5}, webhook_mix=parse_webhook_mix("webhook-twice=0.5"))
    played = [(choice.scenario(asked(f"ORDER-{n}")), choice.behaviour(f"ORDER-{n}").copies) for n in range(4_000)]

    for both in itertools.product(("decline", ""), (1, 2)):
        assert 0.22 < played.count(both) / len(played) < 0.28


@pytest.mark.parametrize("text", ["no-such", "decline=0.1", "webhook-twice=2"])
def test_a_mix_of_webhooks_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_webhook_mix(text)


def test_a_reference_that_only_resembles_a_scenario_plays_none() -> None:
    assert from_ending("ORDER-1late") is None
    assert from_ending("late-ORDER-1") is None


def test_the_ending_beats_the_order_and_the_order_beats_the_mix() -> None:
    choice = Choice(0, {"silent": 1.0}, {"A-decline": "cancel", "B": "cancel"}, {"T-1": "busy"})

    assert choice.scenario(asked("A-decline")) == "decline"
    assert choice.scenario(asked("B", "T-1")) == "cancel"
    assert choice.scenario(asked("C", "T-1")) == "busy"
    assert choice.scenario(asked("C")) == "silent"


def test_the_same_seed_gives_a_reference_the_same_scenario_in_any_order() -> None:
    references = [f"ORDER-{number}" for number in range(500)]

    forth = {reference: from_mix(MIXES["default"], 7, reference) for reference in references}
    back = {reference: from_mix(MIXES["default"], 7, reference) for reference in reversed(references)}
    other = {reference: from_mix(MIXES["default"], 8, reference) for reference in references}

    assert forth == back
    assert forth != other


def test_a_mix_comes_out_at_its_rates() -> None:
    mix = parse_mix("decline=0.3,silent=0.1")
    played = [from_mix(mix, 1, f"ORDER-{number}") for number in range(10_000)]

    assert 0.28 < played.count("decline") / len(played) < 0.32
    assert 0.08 < played.count("silent") / len(played) < 0.12
    assert 0.58 < played.count(None) / len(played) < 0.62


def test_the_mixes_are_whole_and_have_every_scenario_that_settles_without_a_person() -> None:
    assert sum(MIXES["default"].values()) == pytest.approx(1.0)
    assert sum(MIXES["local"].values()) == pytest.approx(1.0)
    assert sum(MIXES["results"].values()) == pytest.approx(1.0)
    assert set(SCENARIOS) - set().union(*MIXES.values()) == {"starts-very-late", "timeout"}
    assert {from_mix(MIXES["clean"], 0, f"ORDER-{number}") for number in range(100)} == {"approve"}


@pytest.mark.parametrize("text", ["no-such", "approve=0.6,decline=0.6", "approve=-1", "approve=", "approve=x", ""])
def test_a_mix_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_mix(text)


def test_list_names_every_scenario_with_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        options.parse(["--list"])

    lines = capsys.readouterr().out.splitlines()
    assert exit_.value.code == 0
    assert [line.split()[0] for line in lines] == [*SCENARIOS, *REFUNDS, *WEBHOOKS]
    assert all(line.endswith((SCENARIOS | REFUNDS | WEBHOOKS)[line.split()[0]].line) for line in lines)


@pytest.mark.parametrize(
    "wrong", [["--listen", "nowhere"], ["--time-scale", "0"], ["--mix", "no-such"], ["--seed", "x"], ["--no-such"]]
)
def test_wrong_options_are_a_usage_error(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        options.parse(["--ledger", "ledger.jsonl", *wrong])

    assert exit_.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_the_page_about_the_simulator_names_every_fault_and_every_flaw() -> None:
    page = (Path(__file__).parents[2] / "docs" / "simulator.md").read_text()
    flawed = [name for name, scenario in SCENARIOS.items() if scenario.flaw is not Flaw.NONE]

    assert [name for name in (*CERTIFICATE_FAULTS, *STATES, *flawed) if f"`{name}`" not in page] == []
    assert flawed


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        (["--local-listen", "127.0.0.1:0"], "--terminal"),
        (["--notify-encrypted"], "--nexo-key"),
        (["--root-out", "root.pem"], "--local-listen"),
        (["--certificate", "V400m-1=expired"], "--local-listen"),
        (["--certificate", "V400m-1=pretty"], "expired"),
        (["--nexo-key", "lane:one:Secret-1"], "IDENTIFIER:VERSION:PASSPHRASE"),
    ],
)
def test_local_options_that_cannot_be_meant_name_the_remedy(
    arguments: list[str], remedy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        options.parse(["--ledger", "ledger.jsonl", *arguments])

    said = capsys.readouterr().err.partition("error:")[2]
    assert remedy in said
    assert "Secret" not in said
