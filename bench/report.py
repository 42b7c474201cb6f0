"""Figures for people, each beside what it is to reach. What falls short says SHORT."""

import math
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final

_TITLES: Final = {"ours": "Counterfoil", "naive": "naive Celery", "dbos": "DBOS"}


class Report:
    """Prints sections as they are measured, and remembers what fell short."""

    def __init__(self) -> None:
        self.goals: list[dict[str, Any]] = []

    def section(self, title: str) -> None:
        self.line(f"\n== {title}")

    def line(self, text: str) -> None:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()

    def goal(self, name: str, value: float | None, limit: float, *, at_least: bool, unit: str = "") -> None:
        """Compare a figure with its target."""
        known = value if value is not None and not math.isnan(value) else None
        met = known is not None and (known >= limit if at_least else known <= limit)
        word = "ok" if met else "SHORT"
        sign = "at least" if at_least else "at most"
        shown = "not measured" if known is None else f"{known:.2f}"
        goal = {"name": name, "value": known, "limit": limit, "at_least": at_least, "met": met}
        self.goals.append(goal)
        self.line(f"  {word:5} {name}: {shown} {unit}, to reach {sign} {limit:g}")

    @property
    def short(self) -> list[str]:
        return [goal["name"] for goal in self.goals if not goal["met"]]


def print_throughput(report: Report, found: Mapping[str, Any]) -> None:
    """The side by side."""
    names = list(found)
    report.line(f"  {'':34}" + "".join(f"{_TITLES[name]:>16}" for name in names))

    def row(label: str, value: Callable[[Mapping[str, Any]], float | None], form: str = ".2f") -> None:
        cells = (value(found[name]) for name in names)
        report.line(f"  {label:34}" + "".join(f"{'-' if c is None else format(c, form):>16}" for c in cells))

    row("payments per second", lambda f: f["payments_per_s"], ".1f")
    row("CPU ms per payment, all of it", lambda f: f["cpu_ms_sum"])
    for part in ("api", "worker", "beat", "database", "broker"):
        row(f"    {part}", lambda f, part=part: f["cpu_ms"].get(part))  # type: ignore[misc]
    row("writing database transactions", lambda f: f["writing_transactions"])
    row("all database transactions", lambda f: f["transactions"])
    row("broker messages", lambda f: f["messages"])
    row("submission answered, p50 ms", lambda f: f["accept_p50_ms"], ".0f")
    row("submission to outcome, p50 ms", lambda f: f["whole_p50_ms"], ".0f")
    row("simulator's CPU ms (not counted)", lambda f: f["simulator_cpu_ms"])
    row("tills' CPU ms (not counted)", lambda f: f["load_cpu_ms"])
    for name in names:
        rounds = ", ".join(f"{rate:.0f}" for rate in found[name]["rounds_per_s"])
        failed = f"; failed: {found[name]['failed']}" if found[name]["failed"] else ""
        report.line(f"  rounds of {_TITLES[name]}: {rounds} a second{failed}")


def judge_throughput(report: Report, leg: str, found: Mapping[str, Any]) -> None:
    ours = found["ours"]
    for other in ("naive", "dbos"):
        if other in found:
            rate = found[other]["payments_per_s"]
            ratio = ours["payments_per_s"] / rate if rate else None
            report.goal(f"{leg}: payments per second, times {_TITLES[other]}", ratio, 1.0, at_least=True)
    # The 0.05: payments under way when the counters are read, and autovacuum's own transactions.
    report.goal(
        f"{leg}: writing transactions per payment", round(ours["writing_transactions"], 2), 3.05, at_least=False
    )
    report.goal(f"{leg}: broker messages per payment", round(ours["messages"], 2), 1.05, at_least=False)


def print_latency(report: Report, found: Mapping[str, Any]) -> None:
    for name, figures in found.items():
        report.line(f"  {_TITLES[name]} at {figures['rate_per_s']:.0f} a second, {figures['payments']} payments:")
        for part in ("accept", "to_wire", "to_outcome", "whole"):
            spread = figures[part]
            report.line(
                f"    {part:12} p50 {spread['p50_ms']:8.1f} ms   p99 {spread['p99_ms']:8.1f} ms   "
                f"max {spread['max_ms']:8.1f} ms"
            )
        if figures["failed"]:
            report.line(f"    failed: {figures['failed']}")


def judge_latency(report: Report, leg: str, ours: Mapping[str, Any]) -> None:
    for part, words in (("to_wire", "accepted to on the wire"), ("to_outcome", "notification to outcome")):
        report.goal(f"{leg}: {words}, p50", ours[part]["p50_ms"], 30, at_least=False, unit="ms")
        report.goal(f"{leg}: {words}, p99", ours[part]["p99_ms"], 150, at_least=False, unit="ms")


def print_kills(report: Report, found: Mapping[str, Any]) -> None:
    for name, counts in found.items():
        words = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in counts.items())
        report.line(f"  {_TITLES[name]}: {words}")


def print_waiting(report: Report, memory: Mapping[str, Any]) -> None:
    for name in ("ours", "naive"):
        figures = memory[name]
        for process, per in figures["bytes_per_payment"].items():
            before, after = figures["before_mb"][process], figures["after_mb"][process]
            report.line(
                f"  {_TITLES[name]:14} {process:8} {before:7.1f} MB before, {after:7.1f} MB after: "
                f"{per} bytes a payment"
            )
