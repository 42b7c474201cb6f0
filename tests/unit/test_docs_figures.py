"""Figures in the documents are those of the code, and of the measurements that they are taken from."""

import re
from pathlib import Path

import pytest

from config.settings import Settings
from orchestrator import bootstrap
from orchestrator.simulator.verdicts import BY_LAST_DIGITS
from orchestrator.web.services import THREADS
from orchestrator.web.streams import STREAMS_MAX

ROOT = Path(__file__).parents[2]
SCALING = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")
GOING_LIVE = (ROOT / "docs" / "going-live.md").read_text(encoding="utf-8")


def table(text: str, heading: str) -> list[list[str]]:
    """The cells of the first table under a heading, without its head."""
    section = text.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    return [re.split(r" \| ", line.strip("| ")) for line in section.splitlines() if line.startswith("| ")][1:]


COSTS = [row for row in table(SCALING, "What a payment costs") if "](" in row[2]]


@pytest.mark.parametrize("row", COSTS, ids=lambda row: row[0])
def test_a_figure_about_costs_stands_in_the_measurement_that_it_names(row: list[str]) -> None:
    pages = [(ROOT / "docs" / path).read_text() for path in re.findall(r"\]\(([^)#]+)", row[2])]

    assert [
        figure for figure in re.findall(r"\d[\d.,]*\d|\d", row[1]) if not any(figure in page for page in pages)
    ] == []


def test_every_cost_is_from_a_measurement_or_says_how_it_was_measured() -> None:
    named = {row[0] for row in COSTS} | {"writing database transactions, broker messages", "disk"}

    assert len(COSTS) >= 6
    assert {row[0] for row in table(SCALING, "What a payment costs")} == named


def test_threads_and_connections_are_the_codes() -> None:
    rows = {row[0]: row for row in table(SCALING, "Threads and connections")}
    connections = str(bootstrap._CONNECTIONS_MAX)

    assert rows["API"][1:] == [f"{THREADS} for handlers", connections]
    assert rows["worker"][1].startswith(f"{Settings.model_fields['worker_concurrency'].default} ")
    assert rows["worker"][2] == rows["worker for `held`"][2] == connections
    assert f"{connections} × (API processes + workers) + 10" in SCALING
    assert STREAMS_MAX == 1_000
    assert "another API process for each thousand streams" in SCALING


def test_the_compose_files_connections_are_enough_for_what_the_page_says() -> None:
    given = re.search(r"max_connections=(\d+)", (ROOT / "docker-compose.yml").read_text())

    assert given
    assert f"sets {given[1]}: enough for fourteen" in SCALING
    assert (int(given[1]) - 10) // bootstrap._CONNECTIONS_MAX == 14


@pytest.mark.parametrize("row", table(GOING_LIVE, "7. Rehearse, on test"), ids=lambda row: row[0])
def test_a_test_amount_ends_as_the_checklist_says(row: list[str]) -> None:
    amount_minor = round(float(row[0]) * 100)
    forced = BY_LAST_DIGITS.get(amount_minor % 1000)

    charged, _, reason = row[1].partition(": ")
    if forced is None:
        assert charged.startswith("charged")
    else:
        assert charged == "not charged"
        assert reason.split()[-1].lower() in forced.refusal_reason.lower()
