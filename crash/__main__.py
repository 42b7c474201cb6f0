"""`python -m crash`: the crash test from the command line; exit status 1 when something did not hold."""

import argparse
import json
import math
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from crash.report import as_json, as_table, write_document
from crash.run import LANES, Lanes, Servers, crash, figures
from crash.seams import Mode, Result, Victim, parts
from crash.syscalls import supported
from tests.services import Embedded

_TELL_EVERY = 50


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, and print or write the figures."""
    options = _parser().parse_args(arguments)
    modes = tuple(options.mode or (mode for mode in Mode if mode is not Mode.SYSCALLS or supported()))
    chosen = parts(modes, tuple(options.process or Victim))
    began_s = time.monotonic()
    embedded = Embedded()
    try:
        servers = embedded.servers()
        with (
            tempfile.TemporaryDirectory(prefix="cf-crash-") as folder,
            Lanes(Servers(servers.database_url, servers.broker_url), Path(folder), options.lanes) as lanes,
        ):
            results = crash(lanes, chosen, options.sample, options.seed, tell=Progress(), minutes=options.minutes)
    finally:
        embedded.stop()
    took_s = time.monotonic() - began_s
    found = figures(results)
    print(json.dumps(as_json(found, results, took_s), indent=1) if options.json else as_table(found, took_s))
    if options.document:
        write_document(options.document, found, results, took_s, options.lanes)
    return int(any(result.violations for result in results))


class Progress:
    """Tells standard error how many seams each part has, how far the run is, and every violation at once."""

    def __init__(self) -> None:
        self._tried = 0

    def __call__(self, result: Result) -> None:
        tried = result.tried
        for violation in result.violations:
            self._say(f"VIOLATION {tried.part}, seam {tried.seam} ({result.place}): {violation}")
        if not tried.seam:
            self._say(f"{tried.part}: {result.seams} seams")
            return
        self._tried += 1
        if self._tried % _TELL_EVERY == 0:
            self._say(f"{self._tried} tried")

    @staticmethod
    def _say(text: str) -> None:
        print(f"{datetime.now(UTC):%H:%M:%S} {text}", file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="crash", description="SIGKILL at every seam of a payment's life.")
    add = parser.add_argument
    add("--mode", type=Mode, action="append", choices=list(Mode), help="repeatable; both when left out")
    add("--process", type=Victim, action="append", choices=list(Victim), help="repeatable; all when left out")
    add("--sample", type=int, metavar="N", help="so many seams, drawn by the seed; all when left out")
    add("--minutes", type=float, default=math.inf, metavar="M", help="begin nothing after so many; no limit by default")
    add("--seed", type=int, default=1)
    add("--lanes", type=int, default=LANES, help=f"payments at a time (default {LANES}, at most 15)")
    add("--json", action="store_true", help="print JSON instead of a table")
    add("--document", type=Path, metavar="FILE", help="write the figures to docs/crash.md")
    return parser


if __name__ == "__main__":
    sys.exit(main())
