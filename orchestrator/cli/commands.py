"""Which module registers which command, in the order of ``counterfoil --help``.

Only the module of the command that runs is imported: a worker that starts, or a doctor that is asked once a minute,
does not pay for the web framework.
"""

from collections.abc import Sequence
from importlib import import_module
from typing import Final

MODULES: Final = {
    "up": "up",
    "pay": "payments",
    "watch": "payments",
    "show": "payments",
    "list": "payments",
    "check": "payments",
    "abort": "payments",
    "rule": "ruling",
    "refund": "refunds",
    "refunds": "refunds",
    "receipt": "receipts",
    "serve": "processes",
    "worker": "processes",
    "beat": "processes",
    "flower": "flower",
    "simulate": "development",
    "demo": "development",
    "bench": "development",
    "gauntlet": "development",
    "doctor": "doctor",
    "db": "database",
    "config": "configuration",
    "terminals": "terminals",
    "keys": "keys",
    "users": "users",
    "journal": "journal",
    "alarms": "alarms",
    "callbacks": "callbacks",
    "webhooks": "webhooks",
    "reconcile": "reconcile",
    "retention": "retention",
}


def register(arguments: Sequence[str] = ()) -> None:
    """Register the command that the arguments name; every one when they name none."""
    named = MODULES.get(arguments[0]) if arguments else None
    for module in [named] if named else dict.fromkeys(MODULES.values()):
        import_module(f"orchestrator.cli.{module}")
