"""Workers killed with SIGKILL under load, and what the simulator's ledger then says of each payment."""

import random
import subprocess
import sys
import threading
import time
from typing import Any, Final

import psycopg

from bench.contenders import CHECKOUT, Contender, Ground
from bench.throughput import load_for
from orchestrator.simulator.process import SimulatorProcess

RATE_PER_S: Final = 25.0
#: A shopper who takes no time leaves hardly a moment to be killed in; the kills come while the load runs.
SEED: Final = 7


def kill_run(
    contender: Contender, ground: Ground, simulator: SimulatorProcess, *, payments: int, kills: int, settle_s: float
) -> dict[str, Any]:
    """Submit at a steady rate, kill the worker at random moments and start it again, then count."""
    contender.start(ground)
    try:
        lasts_s = payments / RATE_PER_S
        load = load_for(
            contender,
            ground,
            tills=0,
            rate_per_s=RATE_PER_S,
            warmup_s=0.0,
            measure_s=lasts_s,
            outcome_within_s=settle_s,
        )
        killer = threading.Thread(target=_kill, args=(contender, kills, lasts_s))
        command = [sys.executable, "-m", "bench.load", load.to_json()]
        process = subprocess.Popen(command, cwd=CHECKOUT, stdout=subprocess.DEVNULL)
        killer.start()
        assert process.wait() == 0
        killer.join()
        rows = _rows(contender, ground, load.run)
    finally:
        contender.stop()
    return {"kills": kills, **_count(rows, simulator, load.run)}


def _kill(contender: Contender, kills: int, lasts_s: float) -> None:
    moments = sorted(random.Random(SEED).uniform(0.1, 0.95) * lasts_s for _ in range(kills))
    began = time.monotonic()
    for moment in moments:
        time.sleep(max(0.0, began + moment - time.monotonic()))
        contender.kill("worker")
        contender.start_one("worker")


def _rows(contender: Contender, ground: Ground, run: str) -> dict[str, tuple[str, str | None]]:
    statement = "SELECT reference, state, outcome FROM payments WHERE reference LIKE %s"
    with psycopg.connect(ground.postgres.plain_url(contender.database)) as connection:
        return {row[0]: (row[1], row[2]) for row in connection.execute(statement, (f"{run}-%",)).fetchall()}


def _count(rows: dict[str, tuple[str, str | None]], simulator: SimulatorProcess, run: str) -> dict[str, int]:
    requests: dict[str, int] = {}
    charged: set[str] = set()
    for line in simulator.ledger():
        reference = line.get("reference") or ""
        if reference.startswith(f"{run}-"):
            if line["kind"] == "request" and line["category"] == "Payment":
                requests[reference] = requests.get(reference, 0) + 1
            elif line["kind"] == "charge":
                charged.add(reference)
    concluded = {name: outcome for name, (_, outcome) in rows.items() if outcome is not None}
    return {
        "payments": len(rows),
        "requests_repeated": sum(count - 1 for count in requests.values()),
        "never_sent": sum(name not in requests for name in rows),
        "without_outcome": len(rows) - len(concluded),
        "charged_without_outcome": sum(name in charged and name not in concluded for name in rows),
        "outcome_disagrees": sum((outcome == "approved") != (name in charged) for name, outcome in concluded.items()),
    }
