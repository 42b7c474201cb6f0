"""All of it: count the seams of each part, then try them, in several lanes at once."""

import math
import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, Queue
from typing import Final, Self

from crash.lane import Lane
from crash.processes import Launcher
from crash.seams import Mode, Part, Result, Try, Victim
from tests.services import fresh_database, fresh_redis

#: A lane mostly waits: for the sweep, for a window, for a command to be rung again.
LANES: Final = 8

Tell = Callable[[Result], None]


@dataclass(frozen=True, slots=True)
class Servers:
    """Where lanes make their databases."""

    postgres_url: str
    redis_url: str


class Lanes:
    """Several lanes, and the launcher that they share."""

    def __init__(self, servers: Servers, folder: Path, number: int) -> None:
        self._servers, self._folder, self._number = servers, folder, number
        self._lanes: list[Lane] = []
        self._opened = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as opened:
            launcher = Launcher()
            opened.callback(launcher.close)
            for number in range(self._number):
                database_url = opened.enter_context(fresh_database(self._servers.postgres_url))
                broker_url = opened.enter_context(fresh_redis(self._servers.redis_url))
                lane = Lane(self._folder / str(number), database_url, broker_url, launcher)
                self._lanes.append(opened.enter_context(lane))
            self._opened = opened.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def run(self, tries: Iterable[Try], tell: Tell, until_s: float = math.inf) -> list[Result]:
        """Do them in this order, as many at once as there are lanes; an error in one lane ends them all."""
        waiting: Queue[Try] = Queue()
        for tried in tries:
            waiting.put(tried)
        results: list[Result] = []

        def work(lane: Lane) -> None:
            with suppress(Empty):
                while time.monotonic() < until_s:
                    results.append(lane.run(waiting.get_nowait()))
                    tell(results[-1])

        with ThreadPoolExecutor(len(self._lanes)) as pool:
            try:
                for done in as_completed([pool.submit(work, lane) for lane in self._lanes]):
                    done.result()
            except BaseException:
                waiting.queue.clear()
                raise
        return results


def crash(
    lanes: Lanes, parts: Sequence[Part], sample: int | None, seed: int, *, tell: Tell, minutes: float = math.inf
) -> list[Result]:
    """Try every seam of these parts, in a seeded order, or a seeded sample of so many; counting runs come first.

    After ``minutes``, which the modes share, nothing more is begun.
    """
    chance = random.Random(seed)
    drawn = _sample(parts, sample, chance) if sample is not None else []
    wanted = [part for part in parts if sample is None or part in {part for part, _ in drawn}]
    results: list[Result] = []
    modes = {part.mode for part in wanted}
    for mode in sorted(modes):  # one after the other: the processes are started differently
        until_s = time.monotonic() + minutes * 60 / len(modes)
        counted = lanes.run([Try(part, 0) for part in wanted if part.mode is mode], tell)
        seams = {result.tried.part: result.seams for result in counted}
        if sample is None:
            tries = [Try(part, seam) for part, number in seams.items() for seam in range(1, number + 1)]
            chance.shuffle(tries)  # long and short waits mixed
        else:
            tries = [Try(part, 1 + int(at * seams[part])) for part, at in drawn if part in seams]
        tried = lanes.run(tries, tell, until_s)
        results += counted + tried
        if sample is not None:
            results += lanes.run(_missed(tried), tell, until_s)
    return results


def _missed(tried: Sequence[Result]) -> list[Try]:
    """What a sample tries once more, in the middle: races move the count, and a sample is to kill."""
    return [Try(result.tried.part, 1 + result.seams // 2) for result in tried if not result.killed]


def _sample(parts: Sequence[Part], number: int, chance: random.Random) -> list[tuple[Part, float]]:
    """Parts, and how far into each; every mode and process in turn, so that a small sample has some of all."""
    groups: dict[tuple[Mode, Victim], list[Part]] = defaultdict(list)
    for part in parts:
        groups[part.mode, part.victim].append(part)
    turns = list(groups.values())
    return [(chance.choice(turns[turn % len(turns)]), chance.random()) for turn in range(number)]


@dataclass(frozen=True, slots=True)
class Figures:
    """What came of a part."""

    part: Part
    seams: int
    tried: int
    killed: int
    violations: int
    median_s: float
    slowest_s: float


def figures(results: Sequence[Result]) -> list[Figures]:
    """By part, in the order of the parts' first results."""
    by_part: dict[Part, list[Result]] = defaultdict(list)
    for result in results:
        by_part[result.tried.part].append(result)
    return [_figures(part, found) for part, found in sorted(by_part.items(), key=lambda item: str(item[0]))]


def _figures(part: Part, results: Sequence[Result]) -> Figures:
    tries = [result for result in results if result.tried.seam]
    took_s = sorted(result.seconds for result in tries if result.killed) or [0.0]
    return Figures(
        part=part,
        seams=max(result.seams for result in results if not result.tried.seam),
        tried=len(tries),
        killed=sum(result.killed for result in tries),
        violations=sum(bool(result.violations) for result in results),
        median_s=took_s[len(took_s) // 2],
        slowest_s=took_s[-1],
    )
