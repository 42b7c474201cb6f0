"""Redis's channel, for messages that are not even Celery's envelope, and for answers to a broker that went away.

Kombu 5.7 reads the envelope in the worker's loop, and what it cannot read ends the worker: one push onto a list by
anybody else's program would. Here it is dropped like any other poison, and nothing of it is quoted. Neither may a task
end the worker that outlived the connection its message came by: the broker gives that message out again anyway.
"""

from typing import Any

import structlog
from kombu import Connection
from kombu.transport.redis import Channel

log = structlog.get_logger()


class CarefulChannel(Channel):
    """Kombu's channel, but for envelopes that are none, and acknowledgements of a lost connection's messages."""

    def basic_ack(self, delivery_tag: str, multiple: bool = False) -> None:
        """Acknowledge, unless nobody is there to hear it."""
        if not self._is_lost:
            super().basic_ack(delivery_tag, multiple)

    def basic_reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """Reject, unless nobody is there to hear it."""
        if not self._is_lost:
            super().basic_reject(delivery_tag, requeue)

    @property
    def _is_lost(self) -> bool:
        return getattr(self.connection, "client", None) is None

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)  # type: ignore[misc]  # its types do not know it
        except (ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
            if self.client.connection is None:  # nothing was read: the broker is away
                raise
            remedy = "see who publishes to our queues"
            why = f"no envelope ({type(error).__name__})"
            log.error("poison_message", why=why, remedy=remedy)  # noqa: TRY400  # a traceback would quote the message
            return True


def make_careful(connection: Connection) -> Connection:
    """Have a connection that is not yet open use the careful channel, where its broker is a Redis."""
    if connection.transport.driver_type == "redis":
        connection.transport.Channel = CarefulChannel  # type: ignore[attr-defined]  # likewise
    return connection
