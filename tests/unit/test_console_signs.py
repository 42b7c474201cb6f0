"""What the health page says: each thing that is wrong in a sentence, with what to do, worst first."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from orchestrator.runbook import guidance, pieces
from orchestrator.store.pulses import Pulse
from orchestrator.store.vitals import Commands, Vitals
from orchestrator.web.console.rendering import NAVIGATION
from orchestrator.web.console.vital_signs import Broker, Mark, Seen, Sign, duration, signs

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
VITALS = Vitals(
    at=NOW,
    server_version=150_004,
    revision="0013",
    size_bytes=10_000_000,
    connections=20,
    connections_max=97,
    notified_at=NOW - timedelta(minutes=1),
    webhook_at=NOW,
    webhooks_unprocessed=0,
    quarantined=0,
    quarantined_at=None,
    callbacks_parked=0,
    alarms_open=0,
    terminals=3,
    terminals_held=0,
    terminals_in_trouble=0,
    payment_at=NOW,
)
PULSES = [Pulse("payments", NOW, "w1", 5.0), Pulse("sweep", NOW, None, 2.0), Pulse("timers", NOW, "w1", 20.0)]
WELL = Seen(
    vitals=VITALS,
    commands=[Commands("check_status", 1, 40, 0.5)],
    pulses=PULSES,
    broker=Broker("Redis 7.2", {}),
    newest_revision="0013",
    here_at=NOW,
    may_be_notified=True,
    may_be_told=True,
)


def with_vitals(**changes: Any) -> Seen:
    return replace(WELL, vitals=replace(VITALS, **changes))


#: Everything that can be wrong: what was seen, the check that says so, and how bad it is.
WRONG: dict[str, tuple[Seen, str, Mark]] = {
    "late": (replace(WELL, commands=[Commands("send", 3, 0, 11.0)]), "Progress", Mark.DOUBT),
    "stuck": (replace(WELL, commands=[Commands("send", 3, 0, 121.0)]), "Progress", Mark.BAD),
    "broker": (replace(WELL, broker=Broker(None, {})), "Broker", Mark.BAD),
    "no beat ever": (replace(WELL, pulses=[PULSES[0]]), "Beat", Mark.BAD),
    "beat late": (replace(WELL, pulses=[Pulse("sweep", NOW, None, 31.0)]), "Beat", Mark.DOUBT),
    "beat gone": (replace(WELL, pulses=[Pulse("sweep", NOW, None, 61.0)]), "Beat", Mark.BAD),
    "queue": (replace(WELL, pulses=[*PULSES, Pulse("status", None, None, 91.0)]), "Queue status", Mark.BAD),
    "no login": (replace(WELL, may_be_notified=False), "Notifications", Mark.DOUBT),
    "silence": (with_vitals(notified_at=NOW - timedelta(days=2)), "Notifications", Mark.DOUBT),
    "quarantine": (with_vitals(quarantined=1), "Webhooks", Mark.BAD),
    "no keys": (replace(WELL, may_be_told=False), "Webhooks", Mark.DOUBT),
    "unprocessed": (with_vitals(webhooks_unprocessed=2), "Webhooks", Mark.DOUBT),
    "alarm": (with_vitals(alarms_open=1), "Alarms", Mark.DOUBT),
    "parked": (with_vitals(callbacks_parked=2), "Callbacks", Mark.DOUBT),
    "trouble": (with_vitals(terminals_in_trouble=1), "Terminals", Mark.DOUBT),
    "schema": (replace(WELL, newest_revision="0014"), "Schema", Mark.DOUBT),
    "connections": (with_vitals(connections=90), "Database", Mark.DOUBT),
    "clock": (replace(WELL, here_at=NOW + timedelta(seconds=3)), "Clock", Mark.DOUBT),
}
by_fault = pytest.mark.parametrize("fault", WRONG)


def wrong_in(seen: Seen) -> list[Sign]:
    return [sign for sign in signs(seen) if sign.mark is not Mark.GOOD]


def test_where_nothing_is_wrong_every_check_says_so() -> None:
    assert wrong_in(WELL) == []
    said = {sign.name for sign in signs(WELL)}
    assert said == {
        *("Progress", "Broker", "Beat", "Queues", "Notifications", "Webhooks"),
        *("Alarms", "Callbacks", "Terminals", "Database"),
    }


@by_fault
def test_one_thing_that_is_wrong_is_one_sign_with_what_to_do(fault: str) -> None:
    seen, name, mark = WRONG[fault]
    found = wrong_in(seen)
    assert [(sign.name, sign.mark) for sign in found] == [(name, mark)]
    assert found[0].text.endswith(".")
    assert found[0].remedy.endswith(".")


@by_fault
def test_a_section_of_the_runbook_that_is_named_is_there_and_so_is_a_page(fault: str) -> None:
    for sign in wrong_in(WRONG[fault][0]):
        if sign.section is not None:
            found = guidance(sign.section)
            assert found is not None, sign.section
            assert found.do
            assert pieces(found.do)
        assert sign.page is None or sign.page in {*dict(NAVIGATION), "/console/callbacks/quarantine"}


def test_what_is_worst_comes_first() -> None:
    seen = replace(with_vitals(alarms_open=1, quarantined=1), broker=Broker(None, {}))
    marks = [sign.mark for sign in signs(seen)]
    assert marks == sorted(marks, key=[Mark.BAD, Mark.DOUBT, Mark.GOOD].index)
    assert marks[:3] == [Mark.BAD, Mark.BAD, Mark.DOUBT]


def test_silence_of_terminals_is_nothing_wrong_while_the_shops_are_closed() -> None:
    closed = with_vitals(notified_at=NOW - timedelta(days=3), payment_at=NOW - timedelta(days=2))
    assert wrong_in(closed) == []


def test_one_and_several_are_spelt_as_people_do() -> None:
    texts = [sign.text for count in (1, 2) for sign in wrong_in(with_vitals(quarantined=count, alarms_open=count))]
    assert not [text for text in texts if re.search(r"\b1 \w+s\b|\b2 (webhook|alarm)\b", text)]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (119, "119 s"), (121, "2 min"), (7300, "2 h"), (2e5, "2 d")]
)
def test_a_duration_is_said_in_one_unit(seconds: float, text: str) -> None:
    assert duration(seconds) == text
