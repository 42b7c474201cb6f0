"""Tell callers: a payment's tellings in order, each until it is delivered or parked.

Safe any number of times and from anywhere: the head is taken by a lease. A worker that dies after a delivery and
before it was noted delivers again, under the same id.
"""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

import structlog

from orchestrator import tracing
from orchestrator.caller import Reply
from orchestrator.log_context import about, identity_of
from orchestrator.meaning import Alarm
from orchestrator.policy import CALLBACK_LEASE_S, CALLBACK_TIMEOUT_S, Policy
from orchestrator.store.tellings import Telling, TellingStore
from orchestrator.subscription import DISPLAY
from orchestrator.views import told_json

log = structlog.get_logger()

#: A telling whose receiver has no lane free looks again after this, or spread over that when the receiver is failing:
#: thousands that look again each second would keep the sweep from everything else.
_LOOK_AGAIN_S: Final = 1.0
_LOOK_AGAIN_FAILING_S: Final = 30.0


class Lanes:
    """Who is being told right now in this process: a receiver that hangs holds its own lanes, not every thread."""

    def __init__(self, threads: int) -> None:
        """Let one receiver hold a quarter of the threads, and all of them together half."""
        self._each = max(1, threads // 4)
        self._all = max(1, threads // 2)
        self._held: Counter[str] = Counter()
        self._failing: set[str] = set()
        self._lock = threading.Lock()

    @contextmanager
    def hold(self, host: str) -> Iterator[bool]:
        """Hold a lane to a receiver; false when there is none."""
        with self._lock:
            got = self._held[host] < self._each and self._held.total() < self._all
            if got:
                self._held[host] += 1
        try:
            yield got
        finally:
            if got:
                self._leave(host)

    def note(self, host: str, *, failing: bool) -> None:
        """Remember how the receiver did last."""
        with self._lock:
            (self._failing.add if failing else self._failing.discard)(host)

    def look_again_s(self, host: str) -> float:
        """When to look for a lane again."""
        if host in self._failing:
            return random.uniform(_LOOK_AGAIN_S, _LOOK_AGAIN_FAILING_S)  # noqa: S311  -- it only spreads load
        return _LOOK_AGAIN_S

    def _leave(self, host: str) -> None:
        with self._lock:
            self._held[host] -= 1
            if not self._held[host]:
                del self._held[host]


@dataclass(frozen=True, slots=True)
class Teller:
    """Performs TELL_CALLER."""

    store: TellingStore
    post: Callable[..., Reply]
    policy: Policy
    lanes: Lanes

    def tell(self, command_id: int) -> None:
        """Tell what is due, in order, until something fails, nothing is left, or the thread was held long enough."""
        give_up_at_s = time.monotonic() + CALLBACK_TIMEOUT_S
        while time.monotonic() < give_up_at_s:
            telling = self.store.take(command_id, CALLBACK_LEASE_S, traced=tracing.is_on())
            if telling is None:
                self.store.settle(command_id)
                return
            with about(callback=str(telling.id), **(identity_of(telling.row) if telling.row else {})):
                goes_on = self._tell_one(command_id, telling)
            if not goes_on:
                return

    def _tell_one(self, command_id: int, telling: Telling) -> bool:
        host = urlsplit(telling.url).hostname or ""
        with self.lanes.hold(host) as got:
            if not got:
                self.store.put_back(command_id, telling, self.lanes.look_again_s(host))
                return False
            with _step(telling, host):
                reply = self._post(telling)
        self.lanes.note(host, failing=not reply.delivered)
        if reply.error is None:
            return self.store.delivered(command_id, telling, reply.status)
        self._failed(command_id, telling, reply.status, reply.error)
        return False

    def _post(self, telling: Telling) -> Reply:
        body, trace = told_json(telling.type, telling.at, telling.data), tracing.traceparent()
        more = {} if trace is None else {"traceparent": trace}
        reply = self.post(telling.url, str(telling.id), telling.taken_at, body, **more)
        tracing.note(status=reply.status)
        if reply.error is not None:
            tracing.failed(reply.error)
        return reply

    def _failed(self, command_id: int, telling: Telling, status: int | None, error: str) -> None:
        display = telling.type == DISPLAY
        wait_s = self.policy.tell_again_after_s(telling.attempts, display=display)
        alarm = None if display else Alarm.CALLBACK_PARKED
        self.store.failed(command_id, telling, status=status, error=error, wait_s=wait_s, alarm=alarm)
        log.warning(
            "callback_failed" if wait_s is not None else "callback_parked",
            attempts=telling.attempts,
            status=status,
            error=error,
        )


def _step(telling: Telling, host: str) -> AbstractContextManager[None]:
    """What the trace says of one delivery; of what is about no payment and no refund, nothing."""
    said = {"callback": telling.id, "attempt": telling.attempts, "host": host}
    return tracing.step(f"callback {telling.type}", telling.row, "client", **said) if telling.row else nullcontext()
