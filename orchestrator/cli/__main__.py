"""``python -m orchestrator.cli`` is ``counterfoil``."""

from orchestrator.cli import main

main()
