"""Payments that wait: what they cost in memory, how late their timers are, and what looking for none costs."""

import subprocess
import sys
import time
from typing import Any, Final

import psycopg

from bench import rows
from bench.contenders import CHECKOUT, Contender, Ground
from bench.latency import quantile
from bench.servers import cpu_s, rss_bytes
from orchestrator.store.statements import RING_DUE
from orchestrator.store.store import RING_AGAIN_S, SWEEP_LIMIT

_MB: Final = 1e6
_SETTLE_S: Final = 3.0


def memory(ours: Contender, naive: Contender, ground: Ground, count: int) -> dict[str, Any]:
    """Resident memory of each process before and after ``count`` payments wait for their answer."""
    return {
        "payments": count,
        "ours": _memory_of(ours, ground, lambda: rows.insert_waiting(_url(ours, ground), 1, count), count),
        "naive": _memory_of(naive, ground, lambda: _fill(naive, ground, count), count),
    }


def _url(contender: Contender, ground: Ground) -> str:
    return ground.postgres.plain_url(contender.database)


def _memory_of(contender: Contender, ground: Ground, fill: Any, count: int) -> dict[str, Any]:
    contender.start(ground)
    try:
        time.sleep(_SETTLE_S)
        before = {name: rss_bytes(pid) for name, pid in contender.pids().items()}
        fill()
        time.sleep(_SETTLE_S)
        after = {name: rss_bytes(pid) for name, pid in contender.pids().items()}
    finally:
        contender.stop()
    grown = {name: after[name] - before[name] for name in before}
    return {
        "before_mb": {name: round(value / _MB, 1) for name, value in before.items()},
        "after_mb": {name: round(value / _MB, 1) for name, value in after.items()},
        "bytes_per_payment": {name: round(value / count) for name, value in grown.items()},
    }


def _fill(naive: Contender, ground: Ground, count: int) -> None:
    """Let the baseline's worker take ``count`` status checks whose countdown runs."""
    environment = naive.full_environment()
    command = [sys.executable, "-m", "bench.naive.fill", str(count)]
    subprocess.run(command, check=True, cwd=CHECKOUT, env=environment, timeout=180, stdout=subprocess.DEVNULL)


def idle_and_timers(
    ours: Contender, ground: Ground, *, pending: int, first: int, idle_s: float, per_s: float, due_s: float
) -> tuple[dict[str, Any], dict[str, Any]]:
    """With ``pending`` payments waiting: an idle stretch, then ``per_s`` of them a second fall due."""
    ours.start(ground)
    try:
        url = _url(ours, ground)
        rows.insert_waiting(url, first, pending)
        time.sleep(_SETTLE_S)
        idle = _idle(ours, ground, url, idle_s)
        count = int(per_s * due_s)
        rows.fall_due(url, count=count, after_s=1.0, per_s=per_s)
        late = _wait_for_all(url, count, due_s + 20)
    finally:
        ours.stop()
    timers = {"pending": pending, "fell_due": count, "per_s": per_s, "found": len(late)}
    timers |= {name: round(quantile(late, share), 3) for name, share in (("p50_s", 0.5), ("p99_s", 0.99), ("max_s", 1))}
    return idle | {"pending": pending}, timers


def _wait_for_all(url: str, count: int, within_s: float) -> list[float]:
    deadline = time.monotonic() + within_s
    late = rows.lateness_s(url)
    while len(late) < count and time.monotonic() < deadline:
        time.sleep(0.5)
        late = rows.lateness_s(url)
    return late


def _idle(ours: Contender, ground: Ground, url: str, seconds: float) -> dict[str, Any]:
    def used() -> dict[str, float]:
        every = {name: cpu_s(pid) for name, pid in ours.pids().items()}
        return every | {"database": ground.postgres.cpu_s() or 0.0, "broker": ground.broker.cpu_s() or 0.0}

    before, began = used(), time.monotonic()
    time.sleep(seconds)
    after, lasted = used(), time.monotonic() - began
    return {
        "cpu_ms_per_s": {name: round((after[name] - before[name]) * 1000 / lasted, 2) for name in before},
        **_sweep_statement(ground, url),
    }


def _sweep_statement(ground: Ground, url: str, times: int = 2000) -> dict[str, float]:
    """The sweep's own statement, run when nothing is due: the wait for it, and the server's CPU."""
    parameters = {"ring_again_s": RING_AGAIN_S, "limit": SWEEP_LIMIT}
    waits = []
    with psycopg.connect(url, autocommit=True) as connection:
        before = ground.postgres.cpu_s() or 0.0
        for _ in range(times):
            began = time.perf_counter()
            connection.execute(RING_DUE, parameters).fetchall()
            waits.append(time.perf_counter() - began)
        used = (ground.postgres.cpu_s() or 0.0) - before
    return {"sweep_ms": round(quantile(waits, 0.5) * 1000, 3), "sweep_server_cpu_ms": round(used * 1000 / times, 3)}
