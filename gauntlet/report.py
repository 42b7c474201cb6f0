"""The figures for people, and for machines."""

import json
import os
import platform
from collections.abc import Sequence
from typing import Any

from gauntlet.checker import Violation

_SHOWN_VIOLATIONS = 20
_PROMISES = {
    "second-request": "second requests",
    "second-charge": "second charges for a sale",
    "lost": "payments lost",
    "disagrees": "outcomes that disagree with the ledger",
    "no-evidence": "outcomes without evidence",
    "unexplained-unknown": "unknowns that evidence could have settled",
    "prompted-late": "requests after send_by",
    "broken-chain": "broken journals",
    "left-behind": "things left behind",
    "died": "processes that died by themselves",
}


def machine() -> dict[str, Any]:
    """Where it ran."""
    return {"system": platform.system(), "machine": platform.machine(), "cpus": os.cpu_count()}


def table(figures: dict[str, Any], violations: Sequence[Violation]) -> str:
    """The summary."""
    plan = figures["plan"]
    rows = [
        ("broker", plan["broker"]),
        ("payments", figures["payments"]),
        ("payment requests, charges", f"{figures['requests']}, {figures['charges']}"),
        ("faults", _pairs(figures["faults"])),
        ("broker away", f"{plan['broker_outage_s']:g} s"),
        ("load, then settled", f"{figures['load_s']} s, {figures['settled_after_s']} s"),
        ("outcomes", _pairs(figures["outcomes"])),
        ("reasons", _pairs(figures["reasons"])),
        ("callers were answered", _pairs(figures["answers"])),
        ("enqueued, and again", f"{figures['enqueued']}, {figures['enqueued_again']}"),
        ("alarms", _pairs(figures["alarms"])),
        *((text, figures["violations"].get(rule, 0)) for rule, text in _PROMISES.items()),
    ]
    width = max(len(name) for name, _ in rows)
    lines = [f"{name:<{width}}  {value}" for name, value in rows]
    lines += [f"VIOLATION  {violation}" for violation in violations[:_SHOWN_VIOLATIONS]]
    if len(violations) > _SHOWN_VIOLATIONS:
        lines.append(f"… and {len(violations) - _SHOWN_VIOLATIONS} more violations")
    return "\n".join(lines)


def as_json(figures: dict[str, Any], violations: Sequence[Violation]) -> str:
    """One JSON object on one line."""
    whole = {"machine": machine(), "seed": figures["plan"]["seed"], **figures}
    return json.dumps(whole | {"found": [str(violation) for violation in violations]}, separators=(",", ":"))


def _pairs(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items())) or "none"
