"""``counterfoil demo``: the product and a simulator as real processes, and every kind of trouble, in half a minute.

``stage`` brings everything up, ``scenes`` are what happens, ``judge`` holds the simulator's ledger file against the
database at the end: the demo fails when they disagree, whatever the scenes said.
"""

from collections.abc import Sequence

from orchestrator.demo.play import main as _main


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; 0 when every payment ended as its evidence says."""
    return _main(arguments)


__all__ = ["main"]
