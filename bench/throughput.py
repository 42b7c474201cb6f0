"""Payments per second, and what each costs: closed loops of the contenders, in turn, round after round."""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.contenders import CHECKOUT, TERMINALS, Contender, Ground
from bench.load import Load
from bench.servers import cpu_s
from orchestrator.simulator.process import SimulatorProcess

#: After the start, before the idle rates are read: imports, pools and first polls are over.
_SETTLE_S = 1.5


@dataclass(frozen=True)
class Counters:
    """What everybody has used and counted at one instant. CPU in seconds.

    A broker that is asked through a program answers a good second later, so its count has an instant of its own.
    """

    at: float
    cpu: dict[str, float | None]
    writing: int
    transactions: int
    messages: int
    messages_at: float


@dataclass
class Round:
    """One measured window of one contender."""

    payments_per_s: float
    payments: list[dict[str, Any]]
    failed: dict[str, int]
    cpu_ms: dict[str, float | None]
    writing: float
    transactions: float
    messages: float
    load_cpu_ms: float
    accepted_ms: list[float] = field(default_factory=list)
    whole_ms: list[float] = field(default_factory=list)


def read(contender: Contender, ground: Ground, simulator: SimulatorProcess, watcher: int = 0) -> Counters:
    """Read every counter once."""
    at = time.time()
    cpu: dict[str, float | None] = {name: cpu_s(pid) for name, pid in contender.pids().items()}
    cpu["database"] = ground.postgres.cpu_s(watcher)
    cpu["broker"] = ground.broker.cpu_s() if contender.uses_broker else 0.0
    cpu["simulator"] = cpu_s(simulator.pid)
    counted = ground.postgres.transactions(contender.database)
    messages = ground.broker.task_messages() if contender.uses_broker else 0
    return Counters(at, cpu, counted.writing, counted.all, messages, time.time())


def drive(
    contender: Contender, ground: Ground, simulator: SimulatorProcess, load: Load
) -> tuple[dict[str, Any], Counters, Counters, int]:
    """Run the tills; return their result, the counters around the window, and the watcher's queries in it."""
    command = [sys.executable, "-m", "bench.load", load.to_json()]
    process = subprocess.Popen(command, cwd=CHECKOUT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    marks: list[tuple[Counters, int]] = []
    for expected in ("measuring", "measured"):
        words = process.stdout.readline().split()
        assert words, "the load generator ended early"
        assert words[0] == expected
        marks.append((read(contender, ground, simulator, int(words[1])), int(words[2])))
    assert process.wait() == 0
    result: dict[str, Any] = json.loads(Path(load.result_file).read_text())
    return result, marks[0][0], marks[1][0], marks[1][1] - marks[0][1]


def load_for(contender: Contender, ground: Ground, **shape: Any) -> Load:
    run = f"{contender.name}{time.time_ns() // 1_000_000:x}"
    return Load(
        host="127.0.0.1",
        port=ground.port,
        headers=contender.headers,
        database=ground.postgres.plain_url(contender.database),
        run=run,
        result_file=str(ground.logs / f"{run}.json"),
        terminals=TERMINALS,
        **shape,
    )


def one_round(
    contender: Contender, ground: Ground, simulator: SimulatorProcess, *, tills: int, warmup_s: float, measure_s: float
) -> Round:
    """Start the contender, let it idle for its idle rates, load it, stop it."""
    contender.start(ground)
    try:
        time.sleep(_SETTLE_S)
        idle = read(contender, ground, simulator)
        time.sleep(_SETTLE_S)
        idle_end = read(contender, ground, simulator)
        load = load_for(contender, ground, tills=tills, warmup_s=warmup_s, measure_s=measure_s)
        result, first, last, queries = drive(contender, ground, simulator, load)
    finally:
        contender.stop()
    return _round(result, (idle, idle_end), (first, last), queries)


def _round(
    result: dict[str, Any], idle: tuple[Counters, Counters], loaded: tuple[Counters, Counters], queries: int
) -> Round:
    first, last = loaded
    seconds = last.at - first.at
    payments = [p for p in result["payments"] if first.at <= p["read"] < last.at]
    count = max(len(payments), 1)

    def each(name: str, less: int = 0, at: str = "at") -> float:
        idle_from, idle_to, since, until = (float(getattr(counters, at)) for counters in (*idle, *loaded))
        rate = (getattr(idle[1], name) - getattr(idle[0], name)) / (idle_to - idle_from)
        done = sum(since <= p["read"] < until for p in result["payments"])
        counted = getattr(last, name) - getattr(first, name) - less
        return float((counted - rate * (until - since)) / max(done, 1))

    cpu: dict[str, float | None] = {}
    for name, after in last.cpu.items():
        before = first.cpu[name]
        cpu[name] = None if after is None or before is None else (after - before) * 1000 / count
    return Round(
        payments_per_s=len(payments) / seconds,
        payments=payments,
        failed=result["failed"],
        cpu_ms=cpu,
        writing=each("writing"),
        transactions=each("transactions", queries),
        messages=each("messages", at="messages_at"),
        load_cpu_ms=result["cpu_s"] * 1000 / max(len(result["payments"]), 1),
        accepted_ms=[(p["accepted"] - p["began"]) * 1000 for p in payments],
        whole_ms=[(p["read"] - p["began"]) * 1000 for p in payments],
    )


def summary(rounds: Sequence[Round]) -> dict[str, Any]:
    """The median of the rounds, figure by figure."""
    middle = statistics.median
    names = rounds[0].cpu_ms
    cpu = {name: _middle([r.cpu_ms[name] for r in rounds]) for name in names if name != "simulator"}
    whole = [t for r in rounds for t in r.whole_ms]
    return {
        "payments_per_s": middle(r.payments_per_s for r in rounds),
        "rounds_per_s": [round(r.payments_per_s, 1) for r in rounds],
        "cpu_ms": cpu,
        "cpu_ms_sum": sum(value or 0.0 for value in cpu.values()),
        "writing_transactions": middle(r.writing for r in rounds),
        "transactions": middle(r.transactions for r in rounds),
        "messages": middle(r.messages for r in rounds),
        "accept_p50_ms": middle(t for r in rounds for t in r.accepted_ms) if whole else None,
        "whole_p50_ms": middle(whole) if whole else None,
        "failed": _added([r.failed for r in rounds]),
        "simulator_cpu_ms": _middle([r.cpu_ms["simulator"] for r in rounds]),
        "load_cpu_ms": middle(r.load_cpu_ms for r in rounds),
    }


def _middle(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def _added(many: list[dict[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for one in many:
        for why, count in one.items():
            total[why] = total.get(why, 0) + count
    return total
