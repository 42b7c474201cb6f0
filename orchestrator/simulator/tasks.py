"""Work that goes on beside everything else; kept, since the loop itself only holds a weak reference."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine


class Tasks:
    """What is going on."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        """Run this beside everything else."""
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task
