"""What a doctor asks the broker, with short time-outs: is it there, and which workers answer."""

import contextlib
from dataclasses import dataclass
from typing import Any, Final

from config.celery import QUEUES, celery_app
from config.settings import Settings

_TIMEOUT_S: Final = 2.0

#: Workers answer at once or are busy with something else; those that are dead never do.
_ANSWER_WITHIN_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker that answered, and the queues that it serves."""

    name: str
    queues: frozenset[str]


def broker_version(settings: Settings, broker_url: str) -> str:
    """The broker's name and version; raises whatever its library does when it is not there."""
    app = _impatient(settings, broker_url)
    with app.connection_for_read(connect_timeout=_TIMEOUT_S) as connection:
        # As `connect` does it, without the two seconds that it would wait before it tries again.
        connection.ensure_connection(max_retries=1, interval_start=0, interval_step=0)
        if broker_url.startswith("amqp"):
            properties = connection.connection.server_properties
            return f"{properties.get('product', 'AMQP')} {properties.get('version', '')}".strip()
        told = connection.default_channel.client.info("server")
        name = "Valkey" if "valkey_version" in told else "Redis"
        return f"{name} {told.get('valkey_version') or told.get('redis_version', '')}"


def queue_lengths(settings: Settings, broker_url: str) -> dict[str, int]:
    """How many messages wait in each queue that there is; raises whatever the broker's library does.

    Redis forgets a queue that is empty. RabbitMQ lacks one only where no worker ever served it.
    """
    app = _impatient(settings, broker_url)
    found = {} if broker_url.startswith("amqp") else dict.fromkeys(QUEUES, 0)
    with app.connection_for_read(connect_timeout=_TIMEOUT_S) as connection:
        for name in QUEUES:
            with contextlib.suppress(*connection.channel_errors), connection.channel() as channel:
                found[name] = channel.queue_declare(name, passive=True).message_count
    return found


def workers(settings: Settings, broker_url: str) -> list[Worker]:
    """The workers that answer now."""
    app = _impatient(settings, broker_url)
    answered = app.control.inspect(timeout=_ANSWER_WITHIN_S).active_queues() or {}
    return [Worker(name, frozenset(queue["name"] for queue in queues)) for name, queues in sorted(answered.items())]


def _impatient(settings: Settings, broker_url: str) -> Any:
    app = celery_app(settings, broker_url)
    app.conf.broker_connection_timeout = _TIMEOUT_S
    app.conf.broker_connection_retry = False
    if not broker_url.startswith("amqp"):
        # redis-py repeats a connection attempt ten times unless it is told not to.
        app.conf.broker_transport_options |= {
            "socket_timeout": _TIMEOUT_S,
            "socket_connect_timeout": _TIMEOUT_S,
            "max_retries": 0,
        }
    return app
