"""Watches that beat ticks and that queues are served: behind a sweep, now and then."""

import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from orchestrator.errors import StoreUnavailable
from orchestrator.store.pulses import TICK_EVERY_S, PulseStore

log = structlog.get_logger()

#: A canary that waited this long says nothing any more: another one was sent.
CANARY_EXPIRES_S: Final = 600.0


class Vigil:
    """Keeps the sweep's sign of life, and sends canaries into queues that were not asked for a while."""

    def __init__(self, pulses: PulseStore, queues: Sequence[str]) -> None:
        """Take the queues to ask; none leaves the canaries out."""
        self._pulses = pulses
        self._queues = queues
        self._lock = threading.Lock()
        self._next_at_s = float("-inf")

    def swept(self, send: Callable[[str], None]) -> None:
        """Call after each sweep; ``send`` puts a canary into a queue. What goes wrong is no trouble of the sweep's."""
        with self._lock:
            now_s = time.monotonic()
            if now_s < self._next_at_s:
                return
            self._next_at_s = now_s + TICK_EVERY_S
        try:
            self._ask(self._pulses.tick(self._queues), send)
        except StoreUnavailable:
            return

    def answered(self, queue: str, worker: str) -> None:
        """Keep that a worker took a canary."""
        if queue in self._queues:
            self._pulses.answer(queue, worker)

    def _ask(self, queues: Sequence[str], send: Callable[[str], None]) -> None:
        for number, queue in enumerate(queues):
            try:
                send(queue)
            except Exception as error:  # noqa: BLE001  -- each broker's library raises its own
                log.warning("canary_not_sent", queue=queue, error=type(error).__name__)
                self._pulses.not_asked(queues[number:])
                return
