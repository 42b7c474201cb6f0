"""The figures: as a table, as JSON, and as the page in the documentation."""

import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from string import Template
from typing import Any, Final

from crash.lines import SHELL
from crash.run import Figures
from crash.seams import STORIES, Result

_HEAD: Final = ("how", "process", "story", "seams", "tried", "killed", "violations", "median s", "slowest s")

_DOCUMENT: Final = Template("""\
# The crash test

`make crash` makes one payment for each seam of a payment's life, and kills a process of the product there with SIGKILL,
from outside: nothing in the product knows of it. The process is started again at once, the payment is waited for, and
then judged. This page is written by the command (`python -m crash --document docs/crash.md`); do not edit it.

## What a seam is

- **lines**: the process runs under a line trace and dies before the n-th line that it executes of the modules through
  which effects leave: $shell. A line counts once for each way to it, that is for each row of lines of these modules
  that wait for it: the second of two equal status checks has no seams of its own. The core and the protocol compute
  between two effects and are left out.
- **syscalls**: the process is followed by ptrace, all of its threads under one counter, and dies before or after the
  n-th call that connects, accepts, writes, reads or shuts a socket: each commit, each publish, each exchange with the
  cloud and with a caller, Celery's own talk with the broker included. A call that was to come is not made.

For each process and story a first run counts the seams; then each is tried, by a payment of its own on a terminal of
its own. The process that will die starts afresh for every try. Threads race, so that a few of the last seams are not
reached in every run: those payments were made, and judged, without a kill.

## Who dies

- **api**: `counterfoil serve` as the caller sees it, who repeats a request with the same key until it is answered.
- **worker**: `counterfoil worker` for sends, status checks and aborts.
- **sweep**: `counterfoil worker` for the sweep alone.
- **receiver**: `counterfoil serve` as the platform sees it, in a process of its own.

## The stories

$stories

## What must hold

The judge reads the database and the simulator's ledger file itself, and shares no code with the product:

- one payment for one submission, however often it was repeated;
- at most one payment request and one charge in the ledger, and none for a payment that was never claimed;
- an outcome, never `unknown`, and charged exactly when the ledger says so, by its amount;
- the journal without a gap, each line's hash recomputed, the row where its journal ends, claimed at most once;
- no command left but the sentinel's watch, and no terminal held.

## Figures

$tries of $seams seams were tried, in a seeded order; $killed times the process died; **$violations violations**. It
took $minutes minutes in $lanes lanes. Where fewer were tried than there are, the run was bounded by `--minutes` or
`--sample`.
Seconds are from the submission to the end of the payment, with the kill and the restart in between, at a time scale
of 100: the answer window is 1.5 s. What takes 5 s is a ring that died with its process, which the sweep repeats; what
takes 30 s is a command that the sweep had just taken when it died. Neither is scaled.

$table

Run on $date with $python, psycopg $psycopg, Celery $celery and Linux $kernel on $cpus processors; PostgreSQL and Valkey
from packages.
""")


def _row(figure: Figures) -> tuple[str, ...]:
    part = figure.part
    return (
        part.mode, part.victim, part.story.name, str(figure.seams), str(figure.tried), str(figure.killed),
        str(figure.violations), f"{figure.median_s:.1f}", f"{figure.slowest_s:.1f}",
    )  # fmt: skip


def as_table(figures: Sequence[Figures], took_s: float) -> str:
    """A Markdown table with a sum, and how long it took."""
    names = ("seams", "tried", "killed", "violations")
    total = ("**all**", "", "", *(str(sum(getattr(figure, name) for figure in figures)) for name in names), "", "")
    rows = [_HEAD, tuple("-" * len(name) for name in _HEAD), *map(_row, figures), total]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return f"{table}\n\n{took_s:.0f} s" if took_s else table


def as_json(figures: Sequence[Figures], results: Sequence[Result], took_s: float) -> dict[str, Any]:
    """Everything, and each violation with its seam."""
    return {
        "took_s": round(took_s, 1),
        "parts": [asdict(figure) for figure in figures],
        "violations": [asdict(result) for result in results if result.violations],
    }


def write_document(
    path: Path, figures: Sequence[Figures], results: Sequence[Result], took_s: float, lanes: int
) -> None:
    """Write docs/crash.md."""
    stories = [
        f"- **{story.name}** (the simulator plays `{story.scenario}`): {', '.join(story.victims)}" for story in STORIES
    ]
    text = _DOCUMENT.substitute(
        shell=", ".join(f"`{name}`" for name in SHELL),
        stories="\n".join(stories),
        seams=sum(figure.seams for figure in figures),
        tries=sum(figure.tried for figure in figures),
        killed=sum(figure.killed for figure in figures),
        violations=sum(figure.violations for figure in figures),
        minutes=f"{took_s / 60:.0f}",
        lanes=lanes,
        table=as_table(figures, 0),
        date=f"{datetime.now(UTC):%Y-%m-%d}",
        python=f"{platform.python_implementation()} {platform.python_version()}",
        psycopg=version("psycopg"),
        celery=version("celery"),
        kernel=platform.release().partition("-")[0],
        cpus=os.cpu_count(),
    )
    path.write_text(text, encoding="utf-8")
