"""Structured logs: one line per event, JSON or console, with secrets and card numbers kept out at the last moment.

Modules write ``log = structlog.get_logger()`` and ``log.info("decided", payment=…, event=…, before=…, after=…)``. The
first word is the field ``action``, so that ``event`` stays free for the domain's own. What was bound by
``orchestrator.log_context`` comes along. What other libraries write through ``logging`` comes out the same way, from
WARNING on.
"""

import json
import logging
import math
import re
import sys
import threading
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Literal, TextIO

import structlog
from structlog.types import EventDict, Processor, WrappedLogger

from orchestrator.cards import CARD_DIGITS_MIN, SMALLEST_CARD_NUMBER, mask_card_numbers
from orchestrator.log_context import bound, bound_of

REDACTED = "[redacted]"
QUIET_LIBRARIES = (
    *("celery", "celery.task", "celery.redirected", "kombu", "amqp", "uvicorn", "uvicorn.access", "uvicorn.error"),
    *("httpx", "httpcore", "sqlalchemy", "alembic", "asyncio", "tornado"),
)
#: Names whose values never appear, in any spelling: api_key, API-Key, X-Api-Key, apiKey.
SECRET_NAME = re.compile(
    r"passw|passphrase|secret|token|credential|cookie|authorization|api_?key|hmac_?key|tag_?key|private_?key"
    r"|body|payload|track_?[12]|card_?number|^pan$|^cvc$|^cvv$"
)
#: The platform's own reference may be sixteen digits, and one in ten of those would look like a card number. The id of
#: a trace is random, and may have as many in a row.
PLAIN_NAMES = frozenset({"psp_reference", "trace"})
DEPTH_MAX = 6  # containers inside containers; what is deeper is not a log field


class _Lines:
    """Writes whole lines. A log that cannot be written never fails the work that it speaks of."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def msg(self, line: str) -> None:
        with self._lock:
            try:
                self._stream.write(line + "\n")
                self._stream.flush()
            except (OSError, ValueError):  # a full disk, a broken pipe, a closed stream
                return

    debug = info = warning = error = critical = msg


class Logger(structlog.BoundLoggerBase):
    """What ``structlog.get_logger()`` gives. The action is positional only; every field name is free."""

    def debug(self, action: str, /, **fields: object) -> None:
        self._write("debug", action, fields)

    def info(self, action: str, /, **fields: object) -> None:
        self._write("info", action, fields)

    def warning(self, action: str, /, **fields: object) -> None:
        self._write("warning", action, fields)

    def error(self, action: str, /, **fields: object) -> None:
        self._write("error", action, fields)

    def critical(self, action: str, /, **fields: object) -> None:
        self._write("critical", action, fields)

    def exception(self, action: str, /, **fields: object) -> None:
        self._write("error", action, {"exc_info": True, **fields})

    def _write(self, level: str, action: str, fields: dict[str, Any]) -> None:
        try:
            arguments, _ = self._process_event(level, None, {"action": action, **fields})
        except structlog.DropEvent:
            return
        self._logger.msg(*arguments)


def _silent(self: Logger, action: str, /, **fields: object) -> None:
    """A level that is off costs one call."""


@lru_cache(maxsize=16)
def _logger_class(level: int) -> type[Logger]:
    numbers = logging.getLevelNamesMapping()
    names = ("debug", "info", "warning", "error", "critical")
    return type("Logger", (Logger,), {name: _silent for name in names if numbers[name.upper()] < level})


@lru_cache(maxsize=4096)
def _is_secret(name: str) -> bool:
    return SECRET_NAME.search(name.lower().replace("-", "_")) is not None


def _clean(value: Any, depth: int = 0) -> Any:
    if isinstance(value, str):
        return mask_card_numbers(str(value))  # an enumeration's word, without its class
    if isinstance(value, int):
        return mask_card_numbers(str(value)) if value >= SMALLEST_CARD_NUMBER else value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)  # JSON knows no NaN
    if value is None:
        return value
    if isinstance(value, bytes | bytearray | memoryview):
        return REDACTED  # bytes are somebody's payload
    if isinstance(value, Mapping | list | tuple | set | frozenset):
        if depth == DEPTH_MAX:
            return REDACTED
        if isinstance(value, Mapping):
            return {str(name): _clean_field(str(name), inner, depth + 1) for name, inner in value.items()}
        return [_clean(inner, depth + 1) for inner in value]
    return mask_card_numbers(str(value))


def _clean_field(name: str, value: Any, depth: int = 0) -> Any:
    if _is_secret(name):
        return REDACTED
    return value if name in PLAIN_NAMES and isinstance(value, str) else _clean(value, depth)


def redact(_logger: WrappedLogger, _method: str, fields: EventDict) -> EventDict:
    """The last look before a line is rendered: secret names lose their values, card numbers all but four digits."""
    for name, value in fields.items():
        if _is_secret(name):
            fields[name] = REDACTED
        elif type(value) is not str or (len(value) >= CARD_DIGITS_MIN and name not in PLAIN_NAMES):  # most are neither
            fields[name] = _clean_field(name, value)
    return fields


def _on_one_line(_logger: WrappedLogger, _method: str, fields: EventDict) -> EventDict:
    """For the console: a value with control characters is shown quoted, so that nobody can forge a line."""
    return {
        name: repr(value) if isinstance(value, str) and not value.isprintable() and name != "exception" else value
        for name, value in fields.items()
    }


def _as_json(_logger: WrappedLogger, _method: str, fields: EventDict) -> str:
    return _encode(fields)


_encode: Callable[[EventDict], str] = json.JSONEncoder(separators=(",", ":")).encode


def _name_first(_logger: WrappedLogger, method: str, fields: EventDict) -> EventDict:
    """``action`` where `logging` says ``event``."""
    fields["action"] = fields.pop("event")
    return fields


def _levelled(_logger: WrappedLogger, method: str, fields: EventDict) -> EventDict:
    return {"level": "error" if method == "exception" else method, **fields}


def _in_context(_logger: WrappedLogger, _method: str, fields: EventDict) -> EventDict:
    """Say what the line is about: what it says itself goes first, then what its exception brings, then what is bound.

    An exception that is logged where it ended up was about something where it began.
    """
    told = fields.get("exc_info")
    error = sys.exc_info()[1] if told is True else told[1] if isinstance(told, tuple) else told
    about = {**bound(), **bound_of(error)} if error is not None else bound()
    return {**fields, **{name: value for name, value in about.items() if name not in fields}} if about else fields


def configure_logs(
    log_format: Literal["console", "json"] = "console", stream: TextIO | None = None, level: int = logging.INFO
) -> None:
    """Set structlog and `logging` up to write to the stream (standard error). May be called again."""
    target = sys.stderr if stream is None else stream
    finish: list[Processor] = [
        _in_context,
        structlog.processors.format_exc_info,
        redact,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
    ]
    if log_format == "json":
        finish.append(_as_json)
    else:
        renderer = structlog.dev.ConsoleRenderer(
            colors=target.isatty(),
            event_key="action",
            timestamp_key="at",
            exception_formatter=structlog.dev.plain_traceback,  # the rich one prints local variables
        )
        finish += [_on_one_line, renderer]
    lines = _Lines(target)
    structlog.configure(
        processors=[_levelled, *finish],
        wrapper_class=_logger_class(level),
        logger_factory=lambda *_names: lines,
        cache_logger_on_first_use=False,  # a module may log before this ran; the next line must still obey
    )
    _route_logging(lines, finish)


def _route_logging(lines: _Lines, finish: list[Processor]) -> None:
    handler = _Handler(lines)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, structlog.stdlib.add_log_level, _name_first],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *finish],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.captureWarnings(capture=True)
    for name in QUIET_LIBRARIES:
        library = logging.getLogger(name)
        library.handlers.clear()
        library.propagate = True
        library.setLevel(logging.WARNING)
    logging.getLogger("celery.beat").addFilter(_without_stack)


def _without_stack(record: logging.LogRecord) -> bool:
    """Beat tries the broker anew each second: while it is away, the same two stacks would come each time."""
    if str(record.msg).startswith("Message Error") and isinstance(record.args, tuple):
        record.msg, record.args = "%s", record.args[:1]
        record.exc_info = None
    return True


class _Handler(logging.Handler):
    """Hands the lines of `logging` to the same writer."""

    def __init__(self, lines: _Lines) -> None:
        super().__init__()
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._lines.msg(self.format(record))
        except Exception:  # noqa: BLE001  # as every handler of `logging`: a line that cannot be formatted is told, not raised
            self.handleError(record)
