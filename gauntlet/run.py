"""One run from beginning to end; what it leaves in its folder is all that the judge needs."""

import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gauntlet import dump, faults, load, settle
from gauntlet.checker import Violation, judge
from gauntlet.options import Plan
from gauntlet.stack import Stack, versions

_CONFIRM_WITHIN_S = 60.0


def run(plan: Plan, folder: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Make a run; its figures. Leaves client.jsonl, ledger.jsonl, dump.json, run.json and the processes' logs."""
    folder.mkdir(parents=True, exist_ok=True)
    started_s = time.monotonic()
    with Stack(plan, folder) as stack:
        say(f"up after {time.monotonic() - started_s:.1f} s: {', '.join(stack.names)}")
        figures: dict[str, Any] = {"plan": asdict(plan) | {"postgres_url": None, "rabbitmq_url": None}}
        figures["versions"] = versions(stack)
        figures |= _under_load(stack, say)
        figures["settled_after_s"] = round(settle.settled(stack, say), 1)
        figures["queued"] = settle.drained(stack)
        figures["unacknowledged"] = stack.unacknowledged()
        figures["died"] = stack.died + _ended(stack)
        data = dump.dump(stack.database_url)
    dump.save(data, folder / "dump.json")
    figures["took_s"] = round(time.monotonic() - started_s, 1)
    (folder / "run.json").write_text(json.dumps(figures, indent=1), encoding="utf-8")
    return figures


def _under_load(stack: Stack, say: Callable[[str], None]) -> dict[str, Any]:
    plan, started_s = stack.plan, time.monotonic()
    log = load.ClientLog(stack.folder / "client.jsonl")
    callers = load.Load(stack, log)
    sales = load.orders(plan, stack.terminals)
    broken = faults.Faults(stack, faults.planned(plan, stack.names), say)
    try:
        broken.start()
        callers.run(sales)
        broken.join()
        loaded_s = time.monotonic() - started_s
        say(f"load over after {loaded_s:.1f} s")
        callers.confirm_tasks(sales, _CONFIRM_WITHIN_S)
    finally:
        callers.close()
        log.close()
    return {"load_s": round(loaded_s, 1), "faults": broken.done, "enqueued_again": callers.enqueued_again}


def _ended(stack: Stack) -> list[str]:
    beats = [name for name in stack.names if name.startswith("beat")]  # stopped on purpose by now
    running = [name for name in stack.names if name not in beats]
    return [f"{name} ended by itself" for name in running if stack.process(name).poll() is not None]


def verdict(folder: Path) -> tuple[dict[str, Any], list[Violation]]:
    """Judge what a run left in its folder: its figures, and every violation."""
    figures = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    data = json.loads((folder / "dump.json").read_text(encoding="utf-8"))
    client, ledger = dump.read_lines(folder / "client.jsonl"), dump.read_lines(folder / "ledger.jsonl")
    violations = judge(client, data, ledger, figures["queued"])
    violations += [Violation("died", what.partition(" ")[0], what) for what in figures["died"]]
    violations += _lost_from_the_queue(figures)
    figures["violations"] = Counter(violation.rule for violation in violations)
    figures["payments"] = len(data["payments"])
    figures["outcomes"] = Counter(row["outcome"] or row["state"] for row in data["payments"])
    figures["reasons"] = Counter(row["reason"] for row in data["payments"] if row["reason"])
    figures["answers"] = Counter(f"{line['role']} {line['status']}" for line in client if line["kind"] == "answered")
    figures["enqueued"] = sum(line["kind"] == "enqueued" for line in client)
    figures["alarms"] = Counter(row["name"] for row in data["alarms"])
    figures["strays"] = Counter(row["why"] for row in data["strays"])
    figures["requests"] = sum(line["kind"] == "request" and line["category"] == "Payment" for line in ledger)
    figures["charges"] = sum(line["kind"] == "charge" for line in ledger)
    figures["status_checks"] = sum(line["kind"] == "status" for line in ledger)
    return figures, violations


def _lost_from_the_queue(figures: dict[str, Any]) -> list[Violation]:
    """Submissions that had to be enqueued again, where no known weakness of the broker explains it.

    Kombu's Redis transport loses what a worker had popped and not yet noted as its own when it was killed.
    """
    again, on_redis = figures["enqueued_again"], figures["plan"]["broker"] == "redis"
    if not again or (on_redis and figures["faults"].get("kill worker")):
        return []
    return [Violation("lost", "queue", f"{again} submissions by task had to be enqueued again")]
