"""Rings commands: publishes "perform this now". Never in the way, never trusted.

A thread of its own publishes, so that a broker that hangs delays nobody. What waited for a publish that failed is
forgotten, and so is what the sweep is about to ring again: the row is still there.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import structlog

from orchestrator.background import Background
from orchestrator.commands import CommandKind
from orchestrator.model import Transport
from orchestrator.store.rows import Ring

log = structlog.get_logger()

#: Publishing is a courtesy; past this the sweep, which rings 5 s after the commit, is as good.
_STALE_AFTER_S: Final = 4.0

#: Most messages that are published together: one round trip where the broker's library can (Redis).
_TOGETHER_MAX: Final = 100

#: More than this many waiting means that the broker is away.
_WAITING_MAX: Final = 2000

#: Which task performs a command, and on which queue. What is not here the sweep does itself.
TASKS: Final[dict[CommandKind, tuple[str, str]]] = {
    CommandKind.SEND: ("tasks.payments.send", "payments"),
    CommandKind.CHECK_STATUS: ("tasks.status.check", "status"),
    CommandKind.SEND_ABORT: ("tasks.status.check", "status"),
    CommandKind.TELL_CALLER: ("tasks.callbacks.tell", "callbacks"),
    CommandKind.SEND_REFUND: ("tasks.refunds.send", "payments"),
    CommandKind.CHECK_REFUND: ("tasks.refunds.check", "status"),
    CommandKind.EXPECT_REFUND: ("tasks.refunds.check", "status"),
}

#: On the queue `held` where terminals answer on the connection. A refund's answer always does, but soon.
_SENDS: Final = frozenset({CommandKind.SEND, CommandKind.SEND_REFUND})


@dataclass(frozen=True, slots=True)
class Message:
    """One task message. ``shown`` is what Flower shows for the arguments."""

    task: str
    queue: str
    kwargs: dict[str, Any]
    shown: str


class Sender(Protocol):
    """Publishes task messages, in order; raises when it cannot."""

    def __call__(self, messages: Sequence[Message]) -> None: ...


class ThreadedBell:
    """A bell that publishes from a thread of its own."""

    def __init__(self, make_sender: Callable[[], Sender]) -> None:
        self._make_sender = make_sender
        self._waiting = Background[tuple[float, Ring]]("bell", _WAITING_MAX, self._publish)

    def __call__(self, rings: list[Ring]) -> None:
        """Have these rung; return at once."""
        for ring in rings:
            if ring.kind in TASKS and not self._waiting.put((time.monotonic(), ring)):
                return

    def close(self, timeout_s: float = 2.0) -> None:
        """Publish what is waiting, and stop."""
        self._waiting.close(timeout_s)

    def _publish(self) -> None:
        sender = self._make_sender()
        failed_at_s = float("-inf")
        over = False
        while not over:
            items, over = self._waiting.take(_TOGETHER_MAX)
            oldest_s = max(failed_at_s, time.monotonic() - _STALE_AFTER_S)
            messages = [message_of(ring) for rung_at_s, ring in items if rung_at_s > oldest_s]
            try:
                sender(messages)
            except Exception as error:  # noqa: BLE001  -- whatever the broker's library raises, the sweep rings again
                failed_at_s = time.monotonic()
                self._complain(error)

    def _complain(self, error: Exception) -> None:
        if self._waiting.may_complain():
            log.warning("broker_away", error=type(error).__name__, remedy="payments are late, not lost; see the broker")


def message_of(ring: Ring) -> Message:
    """Spell a ring. The message names the payment for Flower's search; the task itself reads only the id."""
    name, queue_name = TASKS[ring.kind]
    if ring.kind in _SENDS and ring.transport is not Transport.ASYNC:
        queue_name = "held"
    shown = f"payment_id={ring.payment_id} reference={ring.reference} poi_id={ring.poi_id} command={ring.kind.value}"
    return Message(name, queue_name, {"command_id": ring.command_id}, shown)
