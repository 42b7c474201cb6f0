"""Follow payments while they move: a line that changes on a screen, a line for each change everywhere else."""

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Final, NoReturn
from uuid import UUID

from rich.console import Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from orchestrator.bootstrap import Counterfoil
from orchestrator.cli.output import clock, console, money_text, say
from orchestrator.cli.stopping import heard_between_looks
from orchestrator.cli.verdict import progress, style, verdict
from orchestrator.errors import StoreUnavailable
from orchestrator.model import DISPUTED_REASONS, State
from orchestrator.store.live import LiveStore, Place, shown
from orchestrator.store.pages import Pages, PaymentFilter
from orchestrator.store.rows import Row

_LOOK_EVERY_S: Final = 0.2
_LATEST: Final = 20

#: A payment that should have moved this long ago has nobody who works on it.
_NOBODY_WORKS_AFTER: Final = timedelta(seconds=30)


def follow(counterfoil: Counterfoil, row: Row, *, quietly: bool, to_the_end: bool = False) -> Row:
    """Show a payment until it leaves ``pending``, or until it is plain that nobody works on it; the last row.

    ``to_the_end`` goes on while it is unknown, unless only a person can settle it.
    """
    goes_on = _may_end_by_itself if to_the_end else _is_pending
    if quietly:
        return _until_it_moves(counterfoil, row, goes_on, lambda _: None)
    began_s = time.monotonic()
    if console().is_terminal:
        spinner = Spinner("dots", style="cyan")
        with Live(spinner, console=console(), refresh_per_second=10, transient=True):
            return _until_it_moves(counterfoil, row, goes_on, lambda text: _turn(spinner, text, began_s))
    return _until_it_moves(counterfoil, row, goes_on, _Lines())


def _is_pending(row: Row) -> bool:
    return bool(row["state"] == State.PENDING)


def _may_end_by_itself(row: Row) -> bool:
    return row["outcome"] is None and row["reason"] not in DISPUTED_REASONS


def _until_it_moves(
    counterfoil: Counterfoil, row: Row, goes_on: Callable[[Row], bool], show: Callable[[str], None]
) -> Row:
    screen = _Screen(counterfoil.live, row["id"])
    with suppress(StoreUnavailable):
        screen.begin()
    with heard_between_looks() as pause:
        while goes_on(row):
            show(progress(row) + screen.last)
            if _is_pending(row) and _nobody_works(row):
                show("nobody works on it: is a worker running? see `counterfoil doctor`")
                return row
            pause(_LOOK_EVERY_S)
            try:
                for text in screen.look():
                    show(progress(row) + text)
                row = counterfoil.store.row(row["id"])
            except StoreUnavailable:
                show("the database does not answer; the payment goes on, or waits, without us")
    return row


class _Screen:
    """What a payment's terminal shows, from its last text on; empty until it shows something."""

    def __init__(self, live: LiveStore, payment_id: UUID) -> None:
        self._live = live
        self._payment_id = payment_id
        self._after: int | None = None
        self.last = ""

    def begin(self) -> int:
        """Where it is; at first, just before the last text."""
        if self._after is None:
            self._after = self._live.begin(self._payment_id, None)
        return self._after

    def look(self) -> Iterator[str]:
        """Every text since the last look."""
        for row in self._live.news([Place(0, self._payment_id, self.begin())]):
            self._after = row["id"]
            self.last = f": {shown(row)['text']}"
            yield self.last


def _nobody_works(row: Row) -> bool:
    due = row["send_by"] if row["sent_at"] is None else row["answer_by"]
    return due is not None and datetime.now(UTC) - due > _NOBODY_WORKS_AFTER


def _turn(spinner: Spinner, text: str, began_s: float) -> None:
    spinner.update(text=Text(f"{text} · {time.monotonic() - began_s:.0f} s"))


class _Lines:
    """Says each thing once."""

    def __init__(self) -> None:
        self._said = ""

    def __call__(self, text: str) -> None:
        if text != self._said:
            self._said = text
            say(text)


def follow_latest(counterfoil: Counterfoil, merchant: str | None) -> None:
    """Show the latest payments, until interrupted."""
    pages, narrowed = Pages(counterfoil.database), PaymentFilter(merchant_account=merchant)

    def look() -> list[Row]:
        return list(pages.payments(narrowed, None, _LATEST))

    with heard_between_looks() as pause:
        if not console().is_terminal:
            _print_changes(look, pause)
        with Live(console=console(), auto_refresh=False, screen=True) as live:
            while True:
                live.update(_screen(look()), refresh=True)
                pause(_LOOK_EVERY_S)


def _print_changes(look: Callable[[], list[Row]], pause: Callable[[float], None]) -> NoReturn:
    seen: dict[object, int] = {}
    while True:
        for row in reversed(look()):
            if seen.get(row["id"]) != row["sequence"]:
                seen[row["id"]] = row["sequence"]
                say("\t".join(str(cell) for cell in payment_line(row)))
        pause(_LOOK_EVERY_S)


def _screen(rows: list[Row]) -> RenderableType:
    shown = Table(*PAYMENT_HEADS, box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0), expand=True)
    for row in rows[: max(1, console().height - 3)]:
        shown.add_row(*payment_line(row))
    moving = sum(row["outcome"] is None for row in rows)
    title = Text(f"The latest payments · {moving} not ended · {clock(datetime.now(UTC))} · Ctrl-C ends", style="bold")
    return Group(title, Text(), shown if rows else Text("No payments yet; `counterfoil pay` takes one."))


PAYMENT_HEADS: Final = ("at", "reference", "terminal", "amount", "state", "verdict")


def payment_line(row: Row) -> tuple[Text, ...]:
    """A payment as a line of a table, under ``PAYMENT_HEADS``."""
    moving = row["state"] == State.PENDING
    said = progress(row) if moving else verdict(row)
    return (
        Text(clock(row["created_at"])),
        Text(row["reference"], overflow="fold"),
        Text(row["poi_id"]),
        Text(money_text(row["currency"], row["amount_minor"]), justify="right", no_wrap=True),
        Text(row["state"]),
        Text(said, style="cyan" if moving else style(row)),
    )
