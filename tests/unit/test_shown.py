"""What terminals show and say, in words; and nothing that a card number could hide in."""

import json
import re
from pathlib import Path

import pytest

from orchestrator.meaning import Alarm
from orchestrator.terminal_api import shown
from tests import protocol_vectors

PUSHED = [
    str(entry.get("outcome")) for name, entry in protocol_vectors.ENTRIES.items() if name.startswith("notifications/")
]
PAGE = (Path(__file__).parents[2] / "docs" / "live.md").read_text()
CARD = "4111111111111111"


@pytest.mark.parametrize("outcome", [outcome for outcome in PUSHED if outcome.startswith(("event:", "display:"))])
def test_every_value_of_the_vectors_has_words_of_its_own_or_is_shown_by_its_name(outcome: str) -> None:
    kind, _, name = outcome.partition(":")

    known = name in (shown.EVENTS if kind == "event" else shown.DISPLAYS)
    text = shown.said_by(name, {}).text if kind == "event" else shown.display_text(name)

    assert known == (name not in {"BrandNewEvent", "SOMETHING_NEW"})
    assert text == {"BrandNewEvent": "Brand new event", "SOMETHING_NEW": "Something new"}.get(name, text)
    assert re.fullmatch(r"[A-Z][^_]+", text)


def test_what_is_wrong_is_said_loudly_and_what_is_well_is_not() -> None:
    for name, said in shown.EVENTS.items():
        assert (said.trouble is not None) <= (said.severity is not shown.Severity.INFO), name
        assert (said.alarm is not None) == (said.severity is shown.Severity.ALARM), name
        assert not (said.is_well and said.trouble), name
    assert {said.alarm for said in shown.EVENTS.values()} == {
        None,
        Alarm.TERMINAL_OUT_OF_ORDER,
        Alarm.TERMINAL_TAMPERED,
    }


def test_a_shutdown_that_tells_of_a_terminal_at_rest_is_good_news() -> None:
    assert shown.said_by("Shutdown", {"newstate": "IDLE", "oldstate": "START"}).is_well
    assert shown.said_by("Shutdown", {"newstate": "OFF"}).trouble is shown.Trouble.AWAY
    assert shown.said_by("Shutdown", {}).trouble is shown.Trouble.AWAY


@pytest.mark.parametrize("name", [CARD, f"X{CARD}", "", "a b", "PIN\nENTERED", "é", "x" * 81, "1ST"])
def test_what_is_no_name_is_not_kept_as_one(name: str) -> None:
    assert shown.name_of(name) == shown.UNREADABLE


@pytest.mark.parametrize("name", [*shown.EVENTS, *shown.DISPLAYS, "NewIn2027", "x" * 80])
def test_a_name_is_kept_as_it_came(name: str) -> None:
    assert shown.name_of(name) == name


def test_no_card_number_is_kept_whoever_typed_it() -> None:
    assert shown.safe_details({"reference_id": CARD}) == {"reference_id": "************1111"}
    assert CARD not in json.dumps(shown.display_details(tender_reference=CARD, at=f"{CARD}?"))


def test_of_a_display_text_its_tender_and_its_time_are_kept() -> None:
    found = shown.display_details(tender_reference="BV5k001764061234003", at="2025-11-25T09:00:32.000Z")

    assert found == {"tender_reference": "BV5k001764061234003", "terminal_at": "2025-11-25T09:00:32.000Z"}
    assert shown.display_details(tender_reference=None, at=None) == {}


def test_the_page_lists_every_event_with_what_it_does() -> None:
    listed = dict(re.findall(r"^\| `([A-Za-z]+)` \| ([^|]+) \|", PAGE, re.MULTILINE))

    assert {name: listed.get(name) for name in shown.EVENTS} == {name: said.text for name, said in shown.EVENTS.items()}
