"""The views, one module each with ``router(desk)``; a new one is named here, and in the navigation (``rendering``)."""

from types import ModuleType
from typing import Final

from orchestrator.web.console import (
    attention,
    callbacks,
    charts,
    health,
    login,
    payment,
    reconciliation,
    search,
    static,
    terminals,
)

VIEWS: Final[tuple[ModuleType, ...]] = (
    login,
    search,
    attention,
    payment,
    terminals,
    reconciliation,
    callbacks,
    health,
    charts,
    static,
)
