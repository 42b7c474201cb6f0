"""``python -m bench.held``: what it costs one worker to hold hundreds of payments open at once, local or sync.

Each till's shopper takes a while; all payments are submitted together, so that the worker of the queue ``held`` has
every connection open. Prints one JSON object: memory and CPU of that worker, how many were in flight, how they ended.
"""

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import httpx

from bench.servers import cpu_s, rss_bytes
from gauntlet.options import Plan
from gauntlet.stack import Stack

_MB: Final = 1e6
_SUBMITTERS: Final = 16
_SHOPPER_S: Final = 45.0  # of the scenario `slow`, in protocol time
_SETTLE_S: Final = 3.0
_WITHIN_S: Final = 120.0


def measure(plan: Plan, folder: Path) -> dict[str, Any]:
    """One run; its figures."""
    with Stack(plan, folder) as stack, stack.client() as api:
        time.sleep(_SETTLE_S)
        pid = stack.process("held1").pid
        before_bytes, before_s, began = rss_bytes(pid), cpu_s(pid), time.monotonic()
        with ThreadPoolExecutor(_SUBMITTERS) as tills:
            list(tills.map(lambda poi_id: _submit(api, poi_id), stack.terminals))
        stack.simulator.wait_for(lambda lines: _count(lines, "prompt") == plan.terminals, _WITHIN_S)
        prompted_s = time.monotonic() - began
        held_bytes = rss_bytes(pid)
        in_flight = _in_flight(stack)
        stack.wait_until(lambda: not _open(api), _WITHIN_S)
        ended_s = time.monotonic() - began
        outcomes = Counter(payment["outcome"] for payment in _payments(api))
        return {
            "transport": plan.transport,
            "payments": plan.terminals,
            "in_flight_at_once": in_flight,
            "all_prompted_after_s": round(prompted_s, 1),
            "shopper_s": round(_SHOPPER_S / plan.time_scale, 1),
            "all_ended_after_s": round(ended_s, 1),
            "worker_mb_before": round(before_bytes / _MB, 1),
            "worker_mb_holding": round(held_bytes / _MB, 1),
            "kb_per_payment": round((held_bytes - before_bytes) / plan.terminals / 1e3, 1),
            "worker_cpu_ms_per_payment": round((cpu_s(pid) - before_s) * 1e3 / plan.terminals, 1),
            "outcomes": dict(outcomes),
            "requests": len(stack.simulator.ledger("request", category="Payment")),
        }


def _submit(api: httpx.Client, poi_id: str) -> None:
    amount = {"currency": "EUR", "value": 1050}
    body = {"reference": f"held-{poi_id}-slow", "poi_id": poi_id, "amount": amount, "send_by_s": 600}
    api.post("/v1/payments", json=body, headers={"idempotency-key": poi_id}).raise_for_status()


def _in_flight(stack: Stack) -> int:
    """Prompts that have not ended, as the terminals have it."""
    lines = stack.simulator.ledger()
    ended = {line["service_id"] for line in lines if line["kind"] in {"charge", "no_charge"}}
    return len({line["service_id"] for line in lines if line["kind"] == "prompt"} - ended)


def _count(lines: Sequence[dict[str, Any]], kind: str) -> int:
    return sum(line["kind"] == kind for line in lines)


def _payments(api: httpx.Client) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    cursor: str | None = None
    while True:
        query = {"limit": "200"} | ({"cursor": cursor} if cursor else {})
        page = api.get("/v1/payments", params=query).raise_for_status().json()
        found += page["data"]
        cursor = page["next_cursor"]
        if cursor is None:
            return found


def _open(api: httpx.Client) -> list[dict[str, Any]]:
    return [payment for payment in _payments(api) if payment["outcome"] is None]


def main(argv: Sequence[str] | None = None) -> int:
    """Run with these arguments; the exit status."""
    parser = argparse.ArgumentParser(prog="bench.held", description=__doc__)
    parser.add_argument("--transport", choices=("local", "sync"), default="local")
    parser.add_argument("--payments", type=int, default=300)
    parser.add_argument("--time-scale", type=float, default=3.0)
    parser.add_argument("--postgres-url")
    chosen = parser.parse_args(argv)
    plan = Plan(
        transport=chosen.transport,
        terminals=chosen.payments,
        held_threads=chosen.payments,
        time_scale=chosen.time_scale,
        mix="clean",
        workers=1,
        apis=1,
        beats=1,
        postgres_url=chosen.postgres_url,
    )
    with tempfile.TemporaryDirectory(prefix="held-") as folder:
        figures = measure(plan, Path(folder))
    sys.stdout.write(json.dumps(figures, indent=1) + "\n")
    return 0 if figures["outcomes"] == {"approved": chosen.payments} else 1


if __name__ == "__main__":
    sys.exit(main())
