"""``counterfoil``: the command line. Each module registers its commands on ``app``."""

import sys
from collections.abc import Sequence

from orchestrator.cli.root import app, run


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave with its exit status."""
    sys.exit(run(app, arguments))


__all__ = ["app", "main"]
