"""What comes from the broker is looked at before Celery takes it: a poison message is rejected, and blocks nothing.

Left to Celery, a body that is no task would kill the consumer or be held for ever by the thread that failed on it, and
most complaints quote the message. Here one is named by its task and its size; what it says appears nowhere.
"""

import logging
from collections.abc import Callable, Mapping
from typing import Any, Final

import structlog
from celery.worker.consumer import Consumer

log = structlog.get_logger()

#: For Celery, which formats its lines itself.
_celery_log = logging.getLogger(__name__)

#: A submission is at most some 10 kB of JSON; nothing else that we take is larger.
MAX_MESSAGE_BYTES: Final = 256 * 1024

_KNOWN_NAME_CHARACTERS: Final = 80


class CarefulConsumer(Consumer):
    """Celery's consumer, behind a check of each message."""

    connection_errors: tuple[type[Exception], ...]
    channel_errors: tuple[type[Exception], ...]

    def create_task_handler(self, *arguments: Any, **options: Any) -> Callable[[Any], None]:
        """Put the check before Celery's own handler."""
        handle = super().create_task_handler(*arguments, **options)
        broken_connection = (*self.connection_errors, *self.channel_errors)

        def on_task_received(message: Any) -> None:
            why = trouble_with(message, self.app.tasks)
            if why is not None:
                self._reject(message, why)
                return
            try:
                handle(message)
            except broken_connection:
                raise
            except Exception as error:  # noqa: BLE001  # whatever Celery stumbled over, the next message is fine
                self._reject(message, f"unusable headers ({type(error).__name__})")

        return on_task_received

    def on_invalid_task(self, body: Any, message: Any, exc: Exception) -> None:
        """What Celery's own checks refuse."""
        self._reject(message, "invalid headers")

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        """What Celery could not decode."""
        self._reject(message, "undecodable")

    def _reject(self, message: Any, why: str) -> None:
        remedy = "see who publishes to our queues"
        log.error("poison_message", why=why, task_name=_task_name(message), bytes=_size(message), remedy=remedy)
        message.reject_log_error(_celery_log, self.connection_errors)


def trouble_with(message: Any, tasks: Mapping[str, Any]) -> str | None:
    """Say why a message is no task of ours, None when it may be one. Reads the body; quotes nothing of it."""
    if _size(message) > MAX_MESSAGE_BYTES:
        return "too large"
    if message.content_type != "application/json":
        return "not JSON"
    try:
        payload = message.payload
    except Exception:  # noqa: BLE001  # whatever a decoder raises about bytes of somebody else's
        return "not JSON"
    if not _has_usable_headers(message, payload):
        return "unusable headers"
    name, arguments, keywords = _call(message, payload)
    if not isinstance(name, str) or name not in tasks:
        return "unknown task"
    if not isinstance(arguments, list) or not isinstance(keywords, dict):
        return "arguments are not a list and an object"
    try:
        tasks[name].__header__(*arguments, **keywords)
    except TypeError:
        return "arguments that the task does not take"
    return None


def _has_usable_headers(message: Any, payload: Any) -> bool:
    """Whether Celery can read what it reads unasked. A KeyError of its own it takes for a lost connection, for ever."""
    headers = message.headers if isinstance(message.headers, dict) else {}
    fields = headers if "task" in headers else payload if isinstance(payload, dict) else {}
    limits = fields.get("timelimit")
    return (
        isinstance(fields.get("id"), str)
        and (limits is None or (isinstance(limits, list | tuple) and len(limits) == len(("hard", "soft"))))
        and all(isinstance(fields.get(name), str | float | int | None) for name in ("eta", "expires"))
    )


def _call(message: Any, payload: Any) -> tuple[Any, Any, Any]:
    """Task name, positional and named arguments, in either version of Celery's protocol; None for what is not there."""
    headers = message.headers if isinstance(message.headers, dict) else {}
    if "task" in headers and isinstance(payload, list) and len(payload) == 3:  # args, kwargs, embed
        arguments, keywords, embed = payload
        return headers["task"], arguments, keywords if isinstance(embed, dict | None) else None
    if isinstance(payload, dict):
        return headers.get("task", payload.get("task")), payload.get("args", []), payload.get("kwargs", {})
    return None, None, None


def _task_name(message: Any) -> str | None:
    name = message.headers.get("task") if isinstance(message.headers, dict) else None
    return name[:_KNOWN_NAME_CHARACTERS] if isinstance(name, str) and name.isprintable() else None


def _size(message: Any) -> int:
    return len(message.body) if isinstance(message.body, str | bytes | bytearray | memoryview) else 0
