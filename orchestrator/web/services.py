"""What the routes share."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, TypeVar

from fastapi.telemetry import TelemetryConfig

from orchestrator.bootstrap import Counterfoil
from orchestrator.keys import Role
from orchestrator.store.keys import KeyStore
from orchestrator.store.pages import Pages
from orchestrator.store.terminals import TerminalStore
from orchestrator.web.auth import Callers, needs
from orchestrator.web.streams import Streams
from orchestrator.web.waiting import Waiting

#: Threads for handlers: each holds a database connection for some milliseconds, of which there are twenty.
THREADS: Final = 24

#: The framework would send query strings and the texts of exceptions to whoever set a provider up; ours is `tracing`.
NO_TELEMETRY: Final = TelemetryConfig(
    tracing=False, metrics=False, logs=False, operation_spans=False, auto_configure=False
)

T = TypeVar("T")


@dataclass(frozen=True)
class Services:
    """The parts of the product that routes call, made once per process."""

    counterfoil: Counterfoil

    @cached_property
    def callers(self) -> Callers:
        """Who asks."""
        return Callers(KeyStore(self.counterfoil.database), self.run)

    @cached_property
    def pages(self) -> Pages:
        """Lists."""
        return Pages(self.counterfoil.database)

    @cached_property
    def terminals(self) -> TerminalStore:
        """Registered terminals."""
        return TerminalStore(self.counterfoil.database)

    @cached_property
    def waiting(self) -> Waiting:
        """Long polls."""
        return Waiting(self.pages)

    @cached_property
    def streams(self) -> Streams:
        """Server-sent events."""
        return Streams(self.counterfoil.live, self.terminals, self.run)

    @cached_property
    def _threads(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(THREADS, "web")

    async def run(self, function: Callable[..., T], *arguments: Any) -> T:
        """Do work that waits for the database, in one hop to a thread and back; cheaper than the framework's own.

        What is bound for logs and traces comes along, and stays behind when the thread is done.
        """
        within = copy_context()
        return await asyncio.get_running_loop().run_in_executor(self._threads, within.run, function, *arguments)

    def needs(self, *roles: Role) -> Callable[..., Any]:
        """A dependency that lets these roles pass."""
        return needs(self.callers, *roles)

    def close(self) -> None:
        """Let what runs in threads end."""
        self._threads.shutdown()
