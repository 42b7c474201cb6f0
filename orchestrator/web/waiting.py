"""Long polls: one query for all who wait in this process, ten times a second, and none when nobody does."""

import asyncio
from typing import Final
from uuid import UUID

from starlette.concurrency import run_in_threadpool

from orchestrator.errors import StoreUnavailable
from orchestrator.store.pages import Pages

_LOOK_EVERY_S: Final = 0.1


class Waiting:
    """Wakes those who wait for a payment to leave ``pending``."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self._waiting: dict[UUID, set[asyncio.Event]] = {}
        self._looking: asyncio.Task[None] | None = None

    async def wait_for(self, payment_id: UUID, timeout_s: float) -> None:
        """Return when the payment left ``pending``, or when the time is over."""
        event = asyncio.Event()
        self._waiting.setdefault(payment_id, set()).add(event)
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look())
        try:
            async with asyncio.timeout(timeout_s):
                await event.wait()
        except TimeoutError:
            pass
        finally:
            events = self._waiting.get(payment_id, set())
            events.discard(event)
            if not events:
                self._waiting.pop(payment_id, None)

    async def _look(self) -> None:
        while self._waiting:
            try:
                concluded = await run_in_threadpool(self._pages.concluded_among, list(self._waiting))
            except StoreUnavailable:
                concluded = set()
            for payment_id in concluded:
                for event in self._waiting.get(payment_id, set()):
                    event.set()
            await asyncio.sleep(_LOOK_EVERY_S)
