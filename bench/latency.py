"""What the contender adds to a payment's way at half load, by the simulator's ledger and the tills' clocks.

One machine, one clock. ``to_wire``: from the row's creation to the request in the ledger. ``to_outcome``: from the end
of the dialogue in the ledger to the first look at the database that found an outcome.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import psycopg

from bench.contenders import Contender, Ground
from bench.throughput import drive, load_for
from orchestrator.simulator.process import SimulatorProcess

LOOK_EVERY_S: Final = 0.005


def quantile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else float("nan")


def spread_ms(values_s: Sequence[float]) -> dict[str, float]:
    return {
        "p50_ms": round(quantile(values_s, 0.5) * 1000, 1),
        "p99_ms": round(quantile(values_s, 0.99) * 1000, 1),
        "max_ms": round(quantile(values_s, 1.0) * 1000, 1),
    }


def half_load(
    contender: Contender,
    ground: Ground,
    simulator: SimulatorProcess,
    *,
    rate_per_s: float,
    warmup_s: float,
    measure_s: float,
) -> dict[str, Any]:
    """Run an open loop at this rate."""
    contender.start(ground)
    try:
        load = load_for(
            contender,
            ground,
            tills=0,
            rate_per_s=rate_per_s,
            warmup_s=warmup_s,
            measure_s=measure_s,
            look_every_s=LOOK_EVERY_S,
        )
        result, *_ = drive(contender, ground, simulator, load)
        created = _created(contender, ground, load.run)
    finally:
        contender.stop()
    ledger = _instants(simulator, load.run)
    payments = [p for p in result["payments"] if result["start"] <= p["began"] < result["end"]]
    known = [p for p in payments if {"request", "charge"} <= ledger.get(p["reference"], {}).keys()]
    return {
        "rate_per_s": round(rate_per_s, 1),
        "payments": len(payments),
        "failed": result["failed"],
        "accept": spread_ms([p["accepted"] - p["began"] for p in payments]),
        "to_wire": spread_ms([max(0.0, ledger[r]["request"] - created[r]) for r in (p["reference"] for p in known)]),
        "to_outcome": spread_ms([p["seen"] - ledger[p["reference"]]["charge"] for p in known]),
        "whole": spread_ms([p["read"] - p["began"] for p in payments]),
    }


def _created(contender: Contender, ground: Ground, run: str) -> dict[str, float]:
    statement = "SELECT reference, extract(epoch FROM created_at)::float8 FROM payments WHERE reference LIKE %s"
    with psycopg.connect(ground.postgres.plain_url(contender.database)) as connection:
        connection.execute("SET TIME ZONE 'UTC'")
        return dict(connection.execute(statement, (f"{run}-%",)).fetchall())


def _instants(simulator: SimulatorProcess, run: str) -> dict[str, dict[str, float]]:
    """When each payment's first request came and its dialogue ended, in seconds since the epoch."""
    found: dict[str, dict[str, float]] = {}
    for line in simulator.ledger():
        reference = line.get("reference") or ""
        if reference.startswith(f"{run}-") and line["kind"] in {"request", "charge"}:
            at = datetime.fromisoformat(line["at"]).timestamp()
            found.setdefault(reference, {}).setdefault(line["kind"], at)
    return found
