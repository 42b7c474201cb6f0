"""``python -m gauntlet.books``: a day of payments whose answers get lost and whose books lie, and the reports of it.

Payments go to the product over HTTP; the simulator loses answers, approves late, forges and contradicts webhooks, and
writes the day's reports with planted differences. The product reconciles the day twice. ``books_judge`` then says, from
the simulator's ledger and from what was planted, whether every payment ended where its evidence says.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import psycopg

from gauntlet import books_judge, dump, load, settle
from gauntlet.options import Plan
from gauntlet.servers import libpq
from gauntlet.stack import MERCHANT, Stack, versions
from orchestrator.simulator.choice import MIXES, WEBHOOK_MIXES

_KEYS = ("5A" * 32, "0F" * 32)
_OFFICE = timezone(timedelta(hours=1))  # in whose days the simulator's reports are
_LATEST_WEBHOOK_S = 700  # of protocol time: ten minutes late, a minute after the answer, and some on top
_QUIET_S = 3.0
_SETTLE_WITHIN_S = 240.0
_RUN_WITHIN_S = 300.0
_SHOWN_VIOLATIONS = 30

#: Approvals offline that the issuer refuses, and by the card itself, are in no load mix: they are about the books.
_MIX = {name: rate for name, rate in MIXES["default"].items() if name != "approve"} | {
    "approve": 0.77,
    "offline-refused": 0.01,
    "chip-refuses": 0.01,
}
_WEBHOOK_MIX = dict(WEBHOOK_MIXES["default"]) | {"webhook-forged": 0.02, "webhook-contradicts": 0.01}
#: Of a thousand payments; at least two of each.
_PLANTED_PER_MILLE = {
    "missing": 10, "duplicate": 6, "amount": 6, "currency": 4, "state": 6, "extra": 4, "other-merchant": 4,
}  # fmt: skip


class BooksStack(Stack):
    """The stack, with webhooks to the first API and a folder for reports."""

    @property
    def reports(self) -> Path:
        """Where the simulator writes reports and the product looks for them."""
        return self.folder / "reports"

    def _simulator_arguments(self) -> list[str]:
        options = {
            "--webhook": f"{self.urls[0]}/webhooks/standard", "--merchant": MERCHANT,
            "--webhook-mix": _spelled(_WEBHOOK_MIX), "--reports-dir": str(self.reports),
        }  # fmt: skip
        keys = [part for key in _KEYS for part in ("--hmac-key", key)]
        return [*super()._simulator_arguments(), *(part for pair in options.items() for part in pair), *keys]

    def environment(self) -> dict[str, str]:
        books = {"COUNTERFOIL_HMAC_KEYS": ",".join(_KEYS), "COUNTERFOIL_REPORTS_DIR": str(self.reports)}
        return super().environment() | books

    def reconcile(self, day: date, *more: str) -> dict[str, Any]:
        """Reconcile a day by the command line; its exit status, and the run as JSON."""
        command = [sys.executable, "-m", "orchestrator.cli", "reconcile", "run", "--json", "--merchant", MERCHANT]
        days = more or ("--from", day.isoformat(), "--to", day.isoformat())
        done = subprocess.run(
            [*command, *days], env={"PATH": os.defpath, **self.environment()}, capture_output=True, text=True,
            timeout=_RUN_WITHIN_S, check=False, cwd=Path(__file__).parents[1],
        )  # fmt: skip
        if not done.stdout.startswith("{"):
            raise RuntimeError(f"reconcile ended with {done.returncode}: {done.stderr[-500:]}")
        return {"status": done.returncode, "run": json.loads(done.stdout)}


def run(plan: Plan, folder: Path, say: Callable[[str], None]) -> None:
    """Make a run. Leaves ledger.jsonl, reports/planted.json, first.json, second.json, books.json and the logs."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "reports").mkdir()
    day, started_s = datetime.now(_OFFICE).date(), time.monotonic()
    with BooksStack(plan, folder) as stack:
        figures: dict[str, Any] = {"plan": asdict(plan) | {"postgres_url": None, "rabbitmq_url": None}}
        figures["versions"] = versions(stack)
        figures["load_s"] = _submitted(stack, say)
        figures["settled_after_s"] = _settled(stack, say)
        wanted = {kind: max(2, round(rate * plan.payments / 1000)) for kind, rate in _PLANTED_PER_MILLE.items()}
        say(f"reports of {day} with {wanted}")
        stack.simulator.write_reports(day, discrepancies=wanted, seed=plan.seed)
        before = _snapshot(stack)
        figures["torn"] = stack.reconcile(day, "--report", str(_torn(stack, day)))
        figures["torn"]["changed"] = before["books_lines"] != _snapshot(stack)["books_lines"]
        for name in ("first", "second"):
            began_s = time.monotonic()
            figures[name] = stack.reconcile(day) | {"took_s": round(time.monotonic() - began_s, 1)}
            (folder / f"{name}.json").write_text(json.dumps(_snapshot(stack)), encoding="utf-8")
            say(f"the {name} run ended with {figures[name]['status']} after {figures[name]['took_s']} s")
    figures["took_s"] = round(time.monotonic() - started_s, 1)
    (folder / "books.json").write_text(json.dumps(figures, indent=1), encoding="utf-8")


def _submitted(stack: Stack, say: Callable[[str], None]) -> float:
    """Every sale once or more over HTTP, and no second payment for one: what that does is for the other run to show."""
    sales = [replace(order, by_task=False, clashes=False, has_rival=False)
             for order in load.orders(stack.plan, stack.terminals)]  # fmt: skip
    log, began_s = load.ClientLog(stack.folder / "client.jsonl"), time.monotonic()
    callers = load.Load(stack, log)
    try:
        callers.run(sales)
    finally:
        callers.close()
        log.close()
    took_s = time.monotonic() - began_s
    say(f"load over after {took_s:.1f} s")
    return round(took_s, 1)


def _settled(stack: Stack, say: Callable[[str], None]) -> float:
    """Wait until terminals have told what they will, and then for the last webhook."""
    began_s = time.monotonic()
    settle.settled(stack, say, _left)
    time.sleep(_LATEST_WEBHOOK_S / stack.plan.time_scale)
    known = -1
    while known != (now := _count(stack, "SELECT count(*) FROM webhooks")):
        known = now
        time.sleep(_QUIET_S)
    say(f"{known} webhooks taken")
    return round(time.monotonic() - began_s, 1)


def _left(stack: Stack) -> list[tuple[str, str]]:
    """What terminals can still settle; a contradiction waits for the report."""
    with psycopg.connect(libpq(stack.database_url)) as connection:
        rows = connection.execute("SELECT reference FROM payments WHERE state = 'unknown' AND reason = 'contradiction'")
        disputed = {row[0] for row in rows}
    return [each for each in settle.open_work(stack) if each[0] not in disputed]


def _count(stack: Stack, statement: str) -> int:
    with psycopg.connect(libpq(stack.database_url)) as connection:
        row = connection.execute(statement.encode()).fetchone()
    return int(row[0]) if row else 0


def _torn(stack: BooksStack, day: date) -> Path:
    """The accounting report as a broken transfer leaves it: it ends within a line."""
    (whole,) = stack.reports.glob("payments_accounting_report_*.csv")
    text = whole.read_bytes()
    path = stack.folder / f"payments_accounting_report_{day:%Y_%m_%d}.csv"
    path.write_bytes(text[: text.rindex(b",", 0, len(text) // 2) - 20])
    return path


_DIFFERENCES = """
SELECT d.kind, d.reference, d.psp_reference, d.state, d.source, d.merchant_account, p.reference AS payment
FROM differences d LEFT JOIN payments p ON p.id = d.payment_id ORDER BY d.kind, d.reference, d.psp_reference
"""
_BOOKS_LINES = "SELECT count(*) FROM journal WHERE evidence IN ('books_reported', 'report_silent')"


def _snapshot(stack: Stack) -> dict[str, Any]:
    """The database by plain SQL, as far as the judge looks."""
    data = dump.dump(stack.database_url)
    with psycopg.connect(libpq(stack.database_url), row_factory=psycopg.rows.dict_row) as connection:
        differences = connection.execute(_DIFFERENCES).fetchall()
    return {
        "payments": data["payments"],
        "alarms": data["alarms"],
        "differences": differences,
        "journal_lines": len(data["journal"]),
        "books_lines": _count(stack, _BOOKS_LINES),
        "webhooks": _count(stack, "SELECT count(*) FROM webhooks"),
        "quarantine": _count(stack, "SELECT count(*) FROM webhook_quarantine"),
    }


def _spelled(mix: dict[str, float]) -> str:
    return ",".join(f"{name}={rate:g}" for name, rate in mix.items())


def table(said: dict[str, Any]) -> str:
    """The verdict for people."""
    rows = [
        ("payments", said["payments"]),
        ("seconds", _pairs(said["seconds"])),
        ("webhooks", _pairs(said["webhooks"])),
        ("planted in the report", _pairs(said["planted"])),
        ("differences", _pairs(said["differences"])),
        ("of these had to be found", said["must_be_found"]),
        ("and could be", said["found_that_may_be"]),
        ("told by an alarm alone", len(said["alarmed_alone"])),
        ("journal lines of the second run", said["journal_lines_of_the_second_run"]),
        *((f"  {name}", _pairs(counts)) for name, counts in said["classes"].items()),
        ("violations", len(said["violations"])),
    ]
    width = max(len(name) for name, _ in rows)
    lines = [f"{name:<{width}}  {value}" for name, value in rows]
    return "\n".join(lines + [f"VIOLATION  {each}" for each in said["violations"][:_SHOWN_VIOLATIONS]])


def _pairs(counts: dict[str, Any]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items())) or "none"


def main(argv: Sequence[str] | None = None) -> int:
    """Run with these arguments, or judge an earlier run again; exit status 1 on a violation."""
    parser = argparse.ArgumentParser(prog="python -m gauntlet.books", description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    add("--payments", type=int, default=5000, metavar="N")
    add("--seed", type=int, default=7)
    add("--rate", type=float, default=45.0, metavar="X", help="payments per second")
    add("--postgres-url", metavar="URL", help="a server to make a throw-away database in; else a private cluster")
    add("--folder", type=Path, metavar="DIR", help="where everything goes; must be new")
    add("--check", type=Path, metavar="DIR", help="judge an earlier run again, and run nothing")
    add("--json", dest="as_json", action="store_true", help="print one JSON object last")
    chosen = parser.parse_args(argv)
    folder = chosen.check
    if folder is None:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is stopped
        folder = chosen.folder or Path(tempfile.mkdtemp(prefix="gauntlet-books-"))
        run(plan_of(chosen.payments, chosen.seed, chosen.rate, chosen.postgres_url), folder, _say)
    verdict = books_judge.verdict(folder)
    sys.stdout.write(table(verdict) + f"\neverything is in {folder}\n")
    if chosen.as_json:
        sys.stdout.write(json.dumps(verdict, separators=(",", ":")) + "\n")
    return 1 if verdict["violations"] else 0


def plan_of(payments: int, seed: int, rate: float, postgres_url: str | None = None) -> Plan:
    """A plan without faults of the machine: those are the other run's; here everybody else lies."""
    return Plan(
        payments=payments, seed=seed, rate=rate, settle_within_s=_SETTLE_WITHIN_S, postgres_url=postgres_url,
        kills=0, stops=0, terminals=200, beats=1, mix=_spelled(_MIX),
    )  # fmt: skip


def _say(text: str) -> None:
    sys.stderr.write(f"{datetime.now(UTC):%H:%M:%S}  {text}\n")


if __name__ == "__main__":
    sys.exit(main())
