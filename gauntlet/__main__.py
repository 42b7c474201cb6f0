"""``python -m gauntlet``: make a run and judge it, or judge an earlier one again. Exit status 1 on a violation."""

import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from gauntlet import report
from gauntlet.options import parse
from gauntlet.run import run, verdict


def main(argv: Sequence[str] | None = None) -> int:
    """Run with these arguments; the exit status."""
    chosen = parse(argv)
    folder = chosen.check
    if folder is None:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is stopped
        folder = chosen.folder or Path(tempfile.mkdtemp(prefix="gauntlet-"))
        run(chosen.plan, folder, _say)
    figures, violations = verdict(folder)
    sys.stdout.write(report.table(figures, violations) + f"\nlogs are in {folder}\n")
    if chosen.as_json:
        sys.stdout.write(report.as_json(figures, violations) + "\n")
    return 1 if violations else 0


def _say(text: str) -> None:
    sys.stderr.write(f"{time.strftime('%H:%M:%S')}  {text}\n")


if __name__ == "__main__":
    sys.exit(main())
