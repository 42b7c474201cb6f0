"""Posts notifications to the product, as the platform does: kept-alive connections, basic auth, retries on 5xx only."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import ssl
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import h11

from orchestrator.simulator.encoding import Json
from orchestrator.simulator.ledger import Ledger
from orchestrator.simulator.sealing import SharedKey, seal

# Asynchronous responses are repeated up to three times, and only on 5xx or when nobody answers.
# Source: https://docs.adyen.com/point-of-sale/design-your-integration/choose-your-architecture/cloud
MAX_REPEATS = 3
_FIRST_BACKOFF_S = 2.0
_ANSWER_WITHIN_S = 10.0  # older documentation wants the acknowledgement within 10 s; never scaled
_CONNECTIONS = 64
_REUSE_WITHIN_S = 2.0  # below the idle time of any receiver, so that a push does not meet a closing connection
_READ_BYTES = 65_536
_SERVER_ERROR = 500


class NotDeliveredError(Exception):
    """No answer came; the text says why."""


@dataclass(eq=False, slots=True)
class _Line:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    wire: h11.Connection = field(default_factory=lambda: h11.Connection(h11.CLIENT))
    idle_since: float = 0.0

    async def post(self, head: h11.Request, body: bytes) -> int:
        start = self.wire.send(head) or b""
        self.writer.write(
            start + (self.wire.send(h11.Data(data=body)) or b"") + (self.wire.send(h11.EndOfMessage()) or b"")
        )
        await self.writer.drain()
        status = 0
        while True:
            event = self.wire.next_event()
            if event is h11.NEED_DATA:
                self.wire.receive_data(await self.reader.read(_READ_BYTES))
            elif isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.EndOfMessage | h11.ConnectionClosed):
                break
        if not status:
            raise NotDeliveredError("closed without an answer")
        return status

    def reusable(self) -> bool:
        return self.wire.our_state is h11.DONE and self.wire.their_state is h11.DONE

    def close(self) -> None:
        with suppress(OSError):
            self.writer.close()


class Poster:
    """HTTP client for one URL."""

    def __init__(self, url: str, username: str, password: str) -> None:
        parts = urlsplit(url)
        self._host = parts.hostname or ""
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._port = parts.port or (443 if self._tls else 80)
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._headers = [("host", parts.netloc.rpartition("@")[2]), ("content-type", "application/json")]
        if username or password:
            token = base64.b64encode(f"{username}:{password}".encode()).decode()
            self._headers.append(("authorization", f"Basic {token}"))
        self._idle: list[_Line] = []
        self._slots = asyncio.Semaphore(_CONNECTIONS)

    async def post(self, body: bytes) -> int:
        """The HTTP status; NotDeliveredError when none came."""
        headers = [*self._headers, ("content-length", str(len(body)))]
        head = h11.Request(method="POST", target=self._target, headers=headers)
        async with self._slots:
            line = None
            try:
                async with asyncio.timeout(_ANSWER_WITHIN_S):
                    line = await self._line()
                    status = await line.post(head, body)
            except (OSError, h11.ProtocolError, TimeoutError) as error:
                raise NotDeliveredError(type(error).__name__) from error
            finally:
                if line is not None:
                    self._put_back(line)
        return status

    async def _line(self) -> _Line:
        while self._idle:
            line = self._idle.pop()
            if time.monotonic() - line.idle_since < _REUSE_WITHIN_S and not line.reader.at_eof():
                return line
            line.close()
        return _Line(*await asyncio.open_connection(self._host, self._port, ssl=self._tls))

    def _put_back(self, line: _Line) -> None:
        if not line.reusable():
            line.close()
            return
        line.wire.start_next_cycle()
        line.idle_since = time.monotonic()
        self._idle.append(line)

    def close(self) -> None:
        """Close the idle connections."""
        while self._idle:
            self._idle.pop().close()


@dataclass(eq=False)
class Delivery:
    """Delivers notifications and keeps the ledger of each attempt."""

    ledger: Ledger
    poster: Poster | None
    """None: there is nobody to tell."""
    wait: Callable[[float], Awaitable[None]]
    """Waits for so many protocol seconds."""
    is_losing: Callable[[], bool]
    """Whether notifications are being lost at this moment."""
    key: SharedKey | None = None
    """What notifications are sealed with; None: they go in clear."""

    async def response(self, body: Json, **about: object) -> None:
        """Push an asynchronous response, repeated on 5xx or silence."""
        for attempt in range(1, MAX_REPEATS + 2):
            if await self._attempt(body, attempt, about) or attempt > MAX_REPEATS:
                return
            await self.wait(_FIRST_BACKOFF_S * 2 ** (attempt - 1))

    async def event(self, body: Json, **about: object) -> None:
        """Push an event or display notification: no repeats are documented."""
        await self._attempt(body, 1, about)

    async def _attempt(self, body: Json, attempt: int, about: dict[str, object]) -> bool:
        """Whether that was the last word: answered below 500, lost on purpose, or nobody to tell."""
        text = json.dumps(body, separators=(",", ":")).encode()
        if self.key is not None:
            text = seal(self.key, text)
        status, error, is_over = 0, "", True
        if self.poster is None:
            error = "nobody to tell"
        elif self.is_losing():
            error = "lost"
        else:
            try:
                status = await self.poster.post(text)
            except NotDeliveredError as failed:
                error = str(failed)
            is_over = 0 < status < _SERVER_ERROR
        digest = hashlib.sha256(text).hexdigest()
        self.ledger.write("notification", **about, attempt=attempt, status=status, error=error, body_sha256=digest)
        await self.ledger.durable()
        return is_over
