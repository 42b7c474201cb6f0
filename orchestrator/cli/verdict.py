"""The verdict about a payment's money on a terminal: its sentence, its exit status, its colour."""

from datetime import UTC, datetime

from orchestrator import verdicts
from orchestrator.cli.root import Exit
from orchestrator.model import CHARGED_OUTCOMES, Outcome, State
from orchestrator.store.rows import Row


def verdict(row: Row) -> str:
    """One sentence about the money."""
    return _of(row).sentence


def progress(row: Row) -> str:
    """Where a payment stands, in a few words; the verdict of one that has ended is said elsewhere."""
    if row["outcome"] is not None:
        return "ended"
    if row["state"] == State.UNKNOWN:
        return "not known yet, the terminal is being asked"
    return _of(row).because or ""


def exit_status(row: Row) -> Exit:
    """The verdict as an exit status."""
    if row["outcome"] is None:
        return Exit.UNKNOWN
    return Exit.DONE if Outcome(row["outcome"]) in CHARGED_OUTCOMES else Exit.NOT_CHARGED


def style(row: Row) -> str:
    """The colour of a verdict."""
    return {Exit.DONE: "green", Exit.NOT_CHARGED: "red"}.get(exit_status(row), "yellow")


def _of(row: Row) -> verdicts.Verdict:
    return verdicts.verdict(verdicts.standing_of(row, datetime.now(UTC)))
