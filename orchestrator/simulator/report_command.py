"""Reports that somebody asks for: `POST /reports`, or without a server `counterfoil simulate --write-reports`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from datetime import date
from functools import partial
from pathlib import Path

from orchestrator.simulator.encoding import Json, as_object
from orchestrator.simulator.ledger import read_lines
from orchestrator.simulator.reports import KINDS, Period, Written, write
from orchestrator.simulator.stories import DISCREPANCIES, from_ledger, made_up

SOURCES = ("--write-reports", "--made-up-reports")


def _planting(text: str) -> tuple[str, int]:
    kind, _, count = text.partition("=")
    if kind not in DISCREPANCIES or not count.isdecimal():
        message = f"{text!r} is not KIND=COUNT with one of {', '.join(DISCREPANCIES)}"
        raise argparse.ArgumentTypeError(message)
    return kind, int(count)


def write_wanted(wanted: Json, folder: Path, ledger: Path, merchant: str) -> Written:
    """The reports that `POST /reports` asks for; ValueError names what is wrong."""
    if unknown := wanted.keys() - {"day", "kinds", "discrepancies", "seed"}:
        message = f"unknown member {min(unknown)!r}; there are day, kinds, discrepancies and seed"
        raise ValueError(message)
    try:
        day = date.fromisoformat(str(wanted.get("day", "")))
    except ValueError as error:
        raise ValueError("day: YYYY-MM-DD, by the office's clock") from error
    return write(
        folder,
        from_ledger(read_lines(ledger)),
        Period(day, merchant),
        kinds=wanted.get("kinds") or KINDS,
        plant={str(kind): int(count) for kind, count in as_object(wanted.get("discrepancies")).items()},
        seed=int(wanted.get("seed", 0)),
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="counterfoil simulate",
        description="Write the platform's reports of one day, and planted.json, which says what was planted.",
        epilog="What can be planted: " + "; ".join(f"{kind}, {meaning}" for kind, meaning in DISCREPANCIES.items()),
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--write-reports", type=Path, metavar="LEDGER", help="of what a simulator's ledger holds")
    source.add_argument("--made-up-reports", type=int, metavar="N", help="of so many made-up payments, streamed")
    add = parser.add_argument
    add("--day", type=date.fromisoformat, required=True, metavar="YYYY-MM-DD", help="by the office's clock, UTC+1")
    add("--out", type=Path, required=True, metavar="DIR")
    add("--kind", action="append", choices=KINDS, help="repeatable; all by default")
    add("--plant", action="append", default=[], type=_planting, metavar="KIND=COUNT", help="a difference; repeatable")
    add("--seed", type=int, default=0, help="of what is made up, and of which payments differ")
    add("--merchant", default="ExampleMerchantPOS", help="the merchant account that the reports are for")
    return parser


def main(argv: Sequence[str]) -> int:
    """Write the reports; prints what was written as one JSON object. The exit status."""
    parser = _parser()
    chosen = parser.parse_args(argv)
    period = Period(chosen.day, chosen.merchant)
    count = chosen.made_up_reports or 0
    if chosen.write_reports is not None and not chosen.write_reports.is_file():
        parser.error(f"--write-reports: there is no ledger at {chosen.write_reports}")
    if count < 0:
        parser.error("--made-up-reports: 0 or more")
    make_up = partial(made_up, count, seed=chosen.seed, day=chosen.day)
    stories = make_up if chosen.write_reports is None else from_ledger(read_lines(chosen.write_reports))
    kinds = chosen.kind or KINDS
    try:
        written = write(
            chosen.out, stories, period, kinds=kinds, plant=dict(chosen.plant), seed=chosen.seed, count=count
        )
    except ValueError as error:
        parser.error(str(error))
    said = {"files": list(written.files.values()), "lines": written.lines, "planted": len(written.planted)}
    sys.stdout.write(json.dumps(said) + "\n")
    return 0
