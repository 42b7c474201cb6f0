"""Announces changes on the exchange, for whoever would rather listen than be called. Best effort: callbacks are sure.

A thread of its own publishes, in order, after the commit that it tells of. While the broker is away a number of
announcements waits, and what comes on top is dropped: whoever listens sees the gap by ``sequence``, and can ask.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Protocol

import structlog

from orchestrator.background import Background
from orchestrator.views import told_json

log = structlog.get_logger()

#: What may wait for a broker that is away: some minutes of a busy shop, and tens of megabytes.
_WAITING_MAX: Final = 10_000

#: How often a broker that is away is tried.
_RETRY_EVERY_S: Final = 1.0

#: Between two looks at what waits. The first announcement after a silence goes out at once; under load they go out
#: together, so that asking a broker who listens costs nothing that counts.
_PAUSE_S: Final = 0.1
_TOGETHER_MAX: Final = 200


@dataclass(frozen=True, slots=True)
class Announcement:
    """A change, its type the routing key; ``data`` spells it once somebody listens."""

    type: str
    at: datetime
    data: Callable[[], Mapping[str, Any]]


class Publisher(Protocol):
    """Publishes to the exchange. Its methods raise whatever the broker's library raises."""

    def heard(self, types: Collection[str]) -> Collection[str]:
        """Of these types, those that somebody listens for, as far as the broker tells."""

    def publish(self, messages: Sequence[tuple[str, str]]) -> None:
        """Publish routing keys and bodies, in order."""

    def close(self) -> None:
        """Let go of the connection, whatever its state."""


class Announcer:
    """Announces from a thread of its own."""

    def __init__(self, make_publisher: Callable[[], Publisher]) -> None:
        self._make_publisher = make_publisher
        self._waiting = Background[Announcement]("announcer", _WAITING_MAX, self._run)
        self.dropped = 0

    def __call__(self, type_: str, at: datetime, data: Callable[[], Mapping[str, Any]]) -> None:
        """Announce a change that is committed; return at once."""
        if not self._waiting.put(Announcement(type_, at, data)):
            self.dropped += 1
            self._complain("announcements_dropped", dropped=self.dropped)

    def close(self, timeout_s: float = 2.0) -> None:
        """Announce what waits, if the broker is there, and stop."""
        self._waiting.close(timeout_s)

    def _run(self) -> None:
        publisher: Publisher | None = None
        over = False
        while not over:
            items, over = self._waiting.take(_TOGETHER_MAX)
            while items:
                try:
                    publisher = publisher or self._make_publisher()
                    _publish(publisher, items)
                    break
                except Exception as error:  # noqa: BLE001  -- whatever the broker's library raises
                    self._complain("broker_away", error=type(error).__name__, remedy="announcements wait; callbacks go")
                if publisher:
                    publisher.close()
                    publisher = None
                if self._waiting.closing.wait(_RETRY_EVERY_S):
                    return
            self._waiting.closing.wait(_PAUSE_S)
        if publisher:
            publisher.close()

    def _complain(self, action: str, **said: object) -> None:
        if self._waiting.may_complain():
            log.warning(action, **said)


def _publish(publisher: Publisher, items: Sequence[Announcement]) -> None:
    heard = publisher.heard({item.type for item in items})
    messages = [(item.type, body) for item in items if item.type in heard and (body := _spelled(item))]
    if messages:
        publisher.publish(messages)


def _spelled(item: Announcement) -> str | None:
    try:
        return told_json(item.type, item.at, item.data())
    except Exception:  # ours to mend, and no reason to keep the others waiting
        log.exception("defect", announcement=item.type)
        return None
