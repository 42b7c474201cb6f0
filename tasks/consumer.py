"""The worker's consumer: outlives a Redis that goes away under messages in hand, and sends task events in batches."""

import logging
import time
from collections.abc import Callable
from typing import Any, Final

from tasks.channel import make_careful
from tasks.messages import CarefulConsumer

log = logging.getLogger(__name__)

#: Task events are for people who look at Flower. Celery sends them at each turn of its loop, which on Redis costs more
#: than anything else that a worker does for a task; gathered for this long they come 24 to a message under load.
_EVENTS_EVERY_S: Final = 0.1


class Consumer(CarefulConsumer):
    """The careful one, but for one error of its transport.

    Celery 5.7 closes a lost connection twice. The second time, Kombu 5.7's Redis channel tries to give the messages in
    hand back through a transport that is gone, which ends in an AttributeError, and that in the end of the worker. The
    messages are none the worse: the broker gives them out again, and the sweep rings what is due.
    """

    hub: Any  # Celery's loop; its types do not know these two
    _flush_events: Callable[[], None]

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """Take what Celery's own consumer takes."""
        super().__init__(*arguments, **options)
        self._events_go_at_s = 0.0

    def connection_for_read(self, heartbeat: float | None = None) -> Any:
        """Connect for tasks."""
        return self.ensure_connected(make_careful(self.app.connection_for_read(heartbeat=heartbeat)))

    def connection_for_write(self, url: str | None = None, heartbeat: float | None = None) -> Any:
        """Connect for task events, without confirms.

        Threads of the pool send events too. On RabbitMQ one of them would wait for its confirm, holding the lock that
        the loop's thread then wants, while that thread had read the confirm: the worker would stand still for ever.
        """
        unconfirmed = {"confirm_publish": False} if self.app.conf.broker_url.startswith("amqp") else {}
        return self.ensure_connected(
            self.app.connection_for_write(url=url, heartbeat=heartbeat, transport_options=unconfirmed)
        )

    def on_send_event_buffered(self) -> None:  # type: ignore[override]  # its types say that it returns something
        """Called in any thread when an event was put with those that wait."""
        now_s = time.monotonic()
        if self.hub and now_s >= self._events_go_at_s:
            self._events_go_at_s = now_s + _EVENTS_EVERY_S
            self.hub.call_soon(self.hub.call_later, _EVENTS_EVERY_S, self._flush_events)

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Clean up after a lost connection; the worker goes on to connect anew whatever comes of that."""
        try:
            super().on_connection_error_after_connected(exc)
        except (AttributeError, AssertionError):
            log.warning("the lost connection to the broker could not be closed in order; connecting anew")
