"""Break the decision core on purpose, one change at a time, and see the tests fail: ``python -m tests.mutation``.

Two kinds of change: each cell of TRANSITIONS (ignored, crashing, louder, quieter, leading elsewhere, doing less), and
each guard and number of ``classify``, ``books`` and ``commands`` (negated, shifted by one, an operand dropped, an entry
changed). What judges them is what the unit tests are made of: the claims about the delicate cells, the promises over
every stage and over seeded histories, and last the documented lifecycle. A change that nobody noticed is listed, and
too many of them fail the run.

    --no-golden   leave the documented lifecycle out: what do the claims and promises catch by themselves?
    --list        list what only the documented lifecycle noticed
"""

import argparse
import importlib
import inspect
import itertools
import random
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final

from orchestrator import decide
from orchestrator.evidence import Evidence
from orchestrator.lifecycle import render
from orchestrator.model import Stage, Transaction
from orchestrator.transitions import TRANSITIONS, Event, Step
from tests.factories import CLAIMED, OUTSIDE, VARIANTS, WINDOW_PASSED, accepted
from tests.factories import NOW as AT
from tests.lives import Life, Turn, lived, possible
from tests.mutants import EQUIVALENT, SAME, Mutant, mutants
from tests.promises import keeps_every_promise

KILLED_SHARE_MIN: Final = 0.97
HISTORIES: Final = 150
TURNS_MAX: Final = 16
WORKERS: Final = 2  # the machine that runs CI has two cores

PAGE: Final = Path(__file__).parents[1] / "docs" / "lifecycle.md"
CLAIMS: Final = tuple(f"test_cells{part}" for part in ("", "_checks", "_results", "_books", "_people", "_orders"))

# --- judges ---------------------------------------------------------------------------------------------------------

Judge = Callable[[], None]


def claims() -> Iterator[Judge]:
    """Every test of the delicate cells, with each of its parameters, as a plain call."""
    for module in CLAIMS:
        for name, test in inspect.getmembers(importlib.import_module(f"tests.unit.{module}"), inspect.isfunction):
            if name.startswith("test_"):
                yield from (partial(test, **arguments) for arguments in parameters(test))


def parameters(test: Callable[..., None]) -> Iterator[dict[str, Any]]:
    axes: list[list[dict[str, Any]]] = []
    for mark in getattr(test, "pytestmark", []):
        names, values = mark.args[0], mark.args[1]
        if isinstance(names, str):
            axes.append([{names: value} for value in values])
        else:
            axes.append([dict(zip(names, value, strict=True)) for value in values])
    for combination in itertools.product(*axes):
        yield {name: value for part in combination for name, value in part.items()}


def singles() -> Iterator[Judge]:
    """Every piece of evidence in every stage, with every memory."""
    for tx in VARIANTS:
        for fact in (*OUTSIDE, CLAIMED, WINDOW_PASSED):
            if possible(tx, fact.evidence):
                yield partial(meet, tx, fact.evidence)


def meet(tx: Transaction, evidence: Evidence) -> None:
    keeps_every_promise(Life.of(tx, AT).meet(evidence))


def histories() -> Iterator[Judge]:
    """Seeded histories, the same in every run."""
    chance = random.Random(20250314)
    unfinished = [fact for fact in OUTSIDE if "ruled" not in fact.name and "our connection" not in fact.name]
    gaps_s = (0.0, 0.5, 2.0, 6.0, 29.0, 31.0, 140.0, 700.0, 4000.0, 216000.0)
    for _ in range(HISTORIES):
        story = [
            Turn(chance.choice(gaps_s), chance.choice([WINDOW_PASSED, *unfinished]), chance.random() < 0.2)
            for _ in range(chance.randrange(2, TURNS_MAX))
        ]
        yield partial(play, [Turn(1, CLAIMED), *story])


def play(story: Iterable[Turn]) -> None:
    for moment in lived(Life.of(accepted()), story):
        keeps_every_promise(moment)


class Watched(dict[tuple[Stage, Event], Step | str]):
    """The table, noting which cells are looked up."""

    def __init__(self, table: Mapping[tuple[Stage, Event], Step | str]) -> None:
        super().__init__(table)
        self.seen: set[tuple[Stage, Event]] = set()

    def __getitem__(self, cell: tuple[Stage, Event]) -> Step | str:
        self.seen.add(cell)
        return super().__getitem__(cell)


class Bench:
    """All judges, and for each cell of the table those that look at it."""

    def __init__(self) -> None:
        self.judges: list[Judge] = [*claims(), *singles(), *histories()]
        self.looking_at: dict[tuple[Stage, Event], list[Judge]] = defaultdict(list)
        for judge in self.judges:
            watched = Watched(TRANSITIONS)
            vars(decide)["TRANSITIONS"] = watched
            try:
                judge()
            finally:
                vars(decide)["TRANSITIONS"] = TRANSITIONS
            for cell in watched.seen:
                self.looking_at[cell].append(judge)

    def notices(self, mutant: Mutant) -> str | None:
        """Who noticed: ``behaviour``, ``lifecycle``, or nobody."""
        judges = self.judges if mutant.cell is None else self.looking_at[mutant.cell]
        with mutant.apply():
            if any(fails(judge) for judge in judges):
                return "behaviour"
            return "lifecycle" if mutant.cell is not None and render() != PAGE.read_text() else None


def fails(judge: Judge) -> bool:
    try:
        judge()
    except Exception:  # noqa: BLE001  any failure is a notice
        return True
    return False


# --- the run --------------------------------------------------------------------------------------------------------


def examine(part: int) -> list[tuple[str, str | None, bool]]:
    """One process's share: name, who noticed, and whether it is a change of the table."""
    bench = Bench()
    return [(m.name, bench.notices(m), m.cell is not None) for m in mutants()[part::WORKERS]]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--no-golden", action="store_true", help="leave the documented lifecycle out")
    parser.add_argument("--list", action="store_true", help="list what only the documented lifecycle noticed")
    wanted = parser.parse_args()
    began = time.monotonic()
    with ProcessPoolExecutor(WORKERS) as pool:
        verdicts = [verdict for part in pool.map(examine, range(WORKERS)) for verdict in part]
    return report(verdicts, golden=not wanted.no_golden, everything=wanted.list, took_s=time.monotonic() - began)


def report(verdicts: list[tuple[str, str | None, bool]], *, golden: bool, everything: bool, took_s: float) -> int:
    counts: Counter[tuple[str, str]] = Counter()
    survivors = []
    for name, by, of_table in verdicts:
        kind = "table" if of_table else "guards"
        noticed = by if golden or by != "lifecycle" else None
        if noticed is None and name in EQUIVALENT:
            noticed = "equivalent"
        counts[(kind, noticed or "survived")] += 1
        if noticed is None:
            survivors.append(name)
        elif everything and noticed == "lifecycle":
            print("lifecycle only:", name)
    for (kind, verdict), count in sorted(counts.items()):
        print(f"{kind:7} {verdict:11} {count:5}")
    for name in survivors:
        print("SURVIVED", name)
    for why, names in SAME.items():
        print(f"equivalent, as {why}:", *names, sep="\n    ")
    stale = EQUIVALENT.keys() - {name for name, _, _ in verdicts}
    for name in sorted(stale):
        print("NO SUCH CHANGE ANY MORE", name)
    judged = sum(count for (_, verdict), count in counts.items() if verdict != "equivalent")
    killed = judged - len(survivors)
    print(f"killed {killed} of {judged} ({killed / judged:.1%}) in {took_s:.0f} s")
    return 0 if killed / judged >= KILLED_SHARE_MIN and not stale else 1


if __name__ == "__main__":
    sys.exit(main())
