"""The page of capabilities names tests that there are, for everything that it says works."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "capabilities.md").read_text()
SHOWN, _, NOT_OFFERED = PAGE.partition("## Not offered")
ROWS = [line for line in SHOWN.splitlines() if line.startswith("|") and not line.startswith(("| capability", "|---"))]
NAMED = re.compile(r"\| `(tests/[a-z_/]+\.py)::(test_\w+)` \|$")


def functions_of(file: str) -> set[str]:
    path = ROOT / file
    tree = ast.parse(path.read_text()) if path.exists() else ast.Module([], [])
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.strip("| ").partition("|")[0][:40])
def test_each_capability_names_a_test_that_there_is(row: str) -> None:
    named = NAMED.search(row)
    assert named, "a row ends with `tests/…py::test_…`"
    file, test = named.groups()
    assert test in functions_of(file)


def test_each_thing_that_is_not_offered_says_why() -> None:
    rows = [line.strip("|").split("|") for line in NOT_OFFERED.splitlines() if line.startswith("|")][2:]
    assert rows
    assert all(len(row) == 2 and len(row[1].strip()) > 20 for row in rows)


@pytest.mark.parametrize(
    "word", ["payment", "Pay it back", "Stop a payment", "Receipts", "Application details", "status"]
)
def test_the_guides_own_list_of_what_is_needed_is_there(word: str) -> None:
    needed = SHOWN.partition("## What every integration needs")[2].partition("## Cloud")[0]
    assert word in needed
