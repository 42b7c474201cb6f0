"""Play the scenes, show them live, and let the judge decide."""

import argparse
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from orchestrator.client import Payment
from orchestrator.demo.judge import Finding, judge
from orchestrator.demo.scenes import REFERENCES, SCENES, Scene
from orchestrator.demo.stage import TIME_SCALE, Stage
from orchestrator.policy import Policy
from orchestrator.simulator.ledger import read_lines
from orchestrator.store.chain import verify_chain
from orchestrator.store.database import Database
from orchestrator.store.pages import Pages, PaymentFilter
from orchestrator.store.rows import Row

#: How a terminal's result reached us, in two words.
_WAYS = {"notification": "pushed result", "status": "status check", "connection": "answer"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo.

    Returns:
        0 when every scene ended as it should and the ledger agrees with the database, else 1.
    """
    parser = argparse.ArgumentParser(prog="counterfoil demo", description="See the product at work, in half a minute.")
    parser.add_argument("--keep", metavar="FOLDER", help="keep data, ledger and logs in this folder")
    options = parser.parse_args(arguments)
    folder = Path(options.keep or tempfile.mkdtemp(prefix="counterfoil-demo-")).absolute()
    console = Console(highlight=False)
    try:
        with Stage(_started(console, folder)) as stage:
            failed = play(stage, console)
            problems = show_verdict(stage.ledger_path, stage.database, console)
    finally:
        if not options.keep:
            shutil.rmtree(folder, ignore_errors=True)
    return 1 if failed or problems else 0


def _started(console: Console, folder: Path) -> Path:
    console.print("[bold]Counterfoil[/]: a payment goes out once, and ends with proof.\n")
    console.print(
        f"Starting PostgreSQL, Valkey, the API, a worker, beat and a simulator; waits are divided by {TIME_SCALE}."
    )
    return folder


def play(stage: Stage, console: Console) -> int:
    """Play every scene; return how many did not end as they should."""
    failed = 0
    for number, (scene, reference) in enumerate(zip(SCENES, REFERENCES, strict=True), 1):
        console.print(f"\n[bold]{number}. {scene.title}[/]\n   [dim]{scene.story}[/]")
        started_s = time.monotonic()
        payment = scene.act(stage, reference)
        failed += not _show(scene, payment, time.monotonic() - started_s, console)
    return failed


def _show(scene: Scene, payment: Payment, took_s: float, console: Console) -> bool:
    as_told = payment.outcome == scene.outcome
    colour = "green" if as_told else "red"
    charged = {True: "charged", False: "not charged", None: "not known yet"}[payment.charged]
    reason = f" ({payment.reason})" if payment.reason else ""
    console.print(f"   [{colour}]{payment.outcome}{reason}, {charged}[/] after {took_s:.1f} s")
    return as_told


def show_verdict(ledger_path: Path, database: Database, console: Console) -> int:
    """Join the ledger file with the database, print the table, and return the number of problems."""
    pages = Pages(database)
    rows = pages.payments(PaymentFilter(), None, 1000)
    findings = sorted(judge(read_lines(ledger_path), rows), key=lambda finding: finding.reference)
    console.print("\n[bold]The simulator's ledger against the database[/]")
    console.print(_table(findings, pages))
    broken = [problem for row in rows for problem in verify_chain(database, row["id"], Policy.scaled(TIME_SCALE))]
    problems = [f"{f.reference}: {problem}" for f in findings for problem in f.problems] + broken
    for problem in problems:
        console.print(f"[red]{problem}[/]")
    if not problems:
        console.print(f"[green]{len(findings)} payments, each sent at most once; every outcome has its evidence.[/]")
    return len(problems)


def _table(findings: Sequence[Finding], pages: Pages) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in ("payment", "sent", "charged", "we say", "because of", "agree"):
        table.add_column(heading, no_wrap=True)
    for finding in findings:
        charged = ", ".join(f"{c['amount_minor'] / 100:.2f} {c['currency']}" for c in finding.charges) or "nothing"
        said = finding.row["outcome"] or finding.row["state"] if finding.row else "-"
        because = _because(finding.row, pages) if finding.row else "-"
        agree = "[red]NO[/]" if finding.problems else "[green]yes[/]"
        table.add_row(finding.reference, str(finding.requests), charged, said, because, agree)
    return table


def _because(row: Row, pages: Pages) -> str:
    """The evidence of the journal line that concluded, by the way it came."""
    lines = [line for line in pages.journal(row["id"], 0, 200) if line["before"] != line["after"]]
    if not lines:
        return "-"
    channel = (lines[-1]["detail"] or {}).get("channel")
    return _WAYS.get(str(channel)) or str(lines[-1]["evidence"]).removesuffix("_reported").replace("_", " ")
