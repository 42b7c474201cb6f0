"""The lifecycle in the documentation is the table's, to the letter."""

import subprocess
import sys
from pathlib import Path

from orchestrator.lifecycle import render
from orchestrator.model import Stage
from orchestrator.refunds import transitions as refund_table
from orchestrator.refunds.model import RefundStage
from orchestrator.refunds.transitions import RefundEvent
from orchestrator.transitions import TRANSITIONS, Event, Step

PAGE = Path(__file__).parents[2] / "docs" / "lifecycle.md"


def test_the_documented_lifecycle_is_the_one_that_the_table_draws() -> None:
    assert PAGE.read_text() == render(), "run: python -m orchestrator.lifecycle > docs/lifecycle.md"


def test_the_command_that_the_page_names_prints_the_page() -> None:
    command = [sys.executable, "-m", "orchestrator.lifecycle"]

    printed = subprocess.run(command, cwd=PAGE.parents[1], check=True, capture_output=True, text=True, timeout=60)

    assert printed.stdout == render()


def test_the_diagram_has_every_stage_and_every_move() -> None:
    diagram = render().split("```")[1]

    for stage in Stage:
        assert f" {stage} " in diagram or f" {stage}:" in diagram
    for (before, event), cell in TRANSITIONS.items():
        if isinstance(cell, Step) and cell.after is not None:
            arrow = next(line for line in diagram.splitlines() if line.startswith(f"    {before} --> {cell.after}:"))
            assert event in arrow


def test_every_event_has_its_table() -> None:
    page = render()

    assert [line[5:-1] for line in page.splitlines() if line.startswith("### `")] == [*Event, *RefundEvent]


def test_nothing_leads_back_to_the_queue_and_one_event_leads_from_it_to_sent() -> None:
    moves = [(before, event, cell.after) for (before, event), cell in TRANSITIONS.items() if isinstance(cell, Step)]

    assert [move for move in moves if move[2] is Stage.QUEUED] == []
    assert [move for move in moves if move[2] is Stage.SENT] == [(Stage.QUEUED, Event.SEND_STARTED, Stage.SENT)]


def test_the_refunds_diagram_has_every_move() -> None:
    diagram = render().split("```")[3]

    for (before, event), cell in refund_table.TRANSITIONS.items():
        if isinstance(cell, refund_table.Step) and cell.after is not None:
            arrow = next(line for line in diagram.splitlines() if line.startswith(f"    {before} --> {cell.after}:"))
            assert event in arrow


def test_one_event_leads_a_refund_to_the_wire_and_none_back() -> None:
    moves = {
        (before, cell.after)
        for (before, _), cell in refund_table.TRANSITIONS.items()
        if isinstance(cell, refund_table.Step) and cell.after in {RefundStage.QUEUED, RefundStage.SENT}
    }

    assert moves == {(RefundStage.AWAITING, RefundStage.QUEUED), (RefundStage.QUEUED, RefundStage.SENT)}
