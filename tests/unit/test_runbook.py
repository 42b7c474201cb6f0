"""Nobody is alarmed without being told what to do."""

import re
from pathlib import Path

import pytest

from orchestrator import runbook
from orchestrator.meaning import Alarm

RUNBOOK = Path(__file__).parents[2] / "docs" / "runbook.md"


def test_every_alarm_has_a_section_and_every_section_an_alarm() -> None:
    """The log line of an alarm names the section by the alarm's own name."""
    sections = re.findall(r"^## ([a-z_]+)$", RUNBOOK.read_text(), re.MULTILINE)

    assert sorted(sections) == sorted(alarm.value for alarm in Alarm)


def test_every_section_says_what_to_do() -> None:
    """Meaning alone does not help at night."""
    for section in RUNBOOK.read_text().split("\n## ")[1:-1]:
        assert "Do:" in section or "See\n[" in section, section.splitlines()[0]


@pytest.mark.parametrize("alarm", Alarm)
def test_pages_can_show_the_section_of_every_alarm(alarm: Alarm) -> None:
    found = runbook.guidance(alarm)

    assert found is not None
    assert found.means
    assert found.do or "See " in found.means or found.look
    text = f"{found.means} {found.look} {found.do}"
    assert "](" not in text
    assert "##" not in text
    assert text.count("`") % 2 == 0


def test_what_is_to_be_typed_is_told_apart() -> None:
    assert runbook.pieces("Run `counterfoil doctor`, then wait.") == [
        ("Run ", False),
        ("counterfoil doctor", True),
        (", then wait.", False),
    ]
    assert runbook.guidance("no_such_alarm") is None
