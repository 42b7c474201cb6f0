"""The page of threats names, for each answer, a test that there is; what is not defended says why."""

import re
from pathlib import Path

import pytest

from tests.unit.test_capabilities import NAMED, functions_of

PAGE = (Path(__file__).parents[2] / "docs" / "security.md").read_text(encoding="utf-8")
ANSWERED, _, NOT_DEFENDED = PAGE.partition("## What is not defended, and why")
ANSWERED = ANSWERED[ANSWERED.index("## What is pushed to us") :]
ROWS = [line for line in ANSWERED.splitlines() if line.startswith("| ") and not line.startswith("| threat |")]

#: What the page has to speak of, by a word of it.
THREATS = (
    "forged notification, forged webhook, replayed, API key, broker, Flower, password, CSRF, XSS, SSRF, wrong counter, "
    "between us and a terminal, journal, insider pays, insider rules, card data, logs, dependency, dribbles"
).split(", ")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.strip("| ").partition("|")[0][:40])
def test_each_answer_names_a_test_that_there_is(row: str) -> None:
    named = NAMED.search(row)
    assert named, "a row ends with `tests/…py::test_…`"
    file, test = named.groups()
    assert test in functions_of(file)


@pytest.mark.parametrize("threat", THREATS)
def test_no_kind_of_threat_is_left_out(threat: str) -> None:
    assert any(threat in row.rpartition("| `tests/")[0] for row in ROWS)


def test_what_is_not_defended_says_why() -> None:
    rows = [re.split(r" \| ", line.strip("| ")) for line in NOT_DEFENDED.splitlines() if line.startswith("|")][2:]

    assert rows
    assert all(len(row) == 2 and len(row[1]) > 20 for row in rows)
