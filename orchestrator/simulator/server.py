"""HTTP/1.1 over asyncio and h11, with full control of the socket: an answer can be whole, cut off, or a hang-up."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import h11

MAX_BODY_BYTES = 1_000_000  # a payment request has about 1 kB; the official samples stay below 20 kB
_READ_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request. Header names are in lower case; `path` is without the query."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer."""

    status: int = 200
    body: bytes = b""
    content_type: str = "text/plain"


@dataclass(frozen=True, slots=True)
class CutOff:
    """An answer that promises the whole body, sends a part of it and closes the connection."""

    whole: Reply
    sent_bytes: int


@dataclass(frozen=True, slots=True)
class HangUp:
    """The connection is closed without any answer."""


Answer = Reply | CutOff | HangUp
Handler = Callable[[Request], Awaitable[Answer]]


def json_reply(value: Any, status: int = 200, content_type: str = "application/json") -> Reply:
    """The value as a JSON body."""
    return Reply(status, json.dumps(value, separators=(",", ":")).encode(), content_type)


class TooLargeError(Exception):
    """The body exceeds MAX_BODY_BYTES."""


@dataclass(eq=False)
class Connection:
    """One client connection: requests one after the other, until either side has enough."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    handler: Handler
    wire: h11.Connection = field(default_factory=lambda: h11.Connection(h11.SERVER))

    async def serve(self) -> None:
        """Answer requests until the connection ends; a client that breaks off or talks nonsense only ends its own."""
        try:
            with suppress(ConnectionError, h11.RemoteProtocolError, TimeoutError):
                while await self._serve_one():
                    self.wire.start_next_cycle()
        finally:
            self.writer.close()

    async def _serve_one(self) -> bool:
        try:
            request = await self._read()
        except TooLargeError:
            await self._send(Reply(HTTPStatus.REQUEST_ENTITY_TOO_LARGE))
            return False
        if request is None:
            return False
        answer = await self.handler(request)
        if isinstance(answer, HangUp):
            return False
        if isinstance(answer, CutOff):
            self.writer.write(self._head(answer.whole) + answer.whole.body[: answer.sent_bytes])
            await self.writer.drain()
            return False
        await self._send(answer)
        return self.wire.our_state is h11.DONE and self.wire.their_state is h11.DONE

    async def _event(self) -> Any:
        while (event := self.wire.next_event()) is h11.NEED_DATA:
            if self.wire.they_are_waiting_for_100_continue:
                self.writer.write(self.wire.send(h11.InformationalResponse(status_code=100, headers=[])) or b"")
            self.wire.receive_data(await self.reader.read(_READ_BYTES))
        return event

    async def _read(self) -> Request | None:
        head = await self._event()
        if not isinstance(head, h11.Request):
            return None
        body = bytearray()
        while isinstance(event := await self._event(), h11.Data):
            body += event.data
            if len(body) > MAX_BODY_BYTES:
                raise TooLargeError
        if not isinstance(event, h11.EndOfMessage):
            return None
        path, _, query = head.target.decode("ascii", "replace").partition("?")
        headers = {name.decode("ascii"): value.decode("latin-1") for name, value in head.headers}
        return Request(head.method.decode("ascii"), path, query, headers, bytes(body))

    def _head(self, reply: Reply) -> bytes:
        headers = [("content-length", str(len(reply.body))), ("content-type", reply.content_type)]
        return self.wire.send(h11.Response(status_code=reply.status, headers=headers)) or b""

    async def _send(self, reply: Reply) -> None:
        head = self._head(reply)
        body = self.wire.send(h11.Data(data=reply.body)) or b""
        self.writer.write(head + body + (self.wire.send(h11.EndOfMessage()) or b""))
        await self.writer.drain()


def serve_streams(handler: Handler) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    """What asyncio's streams want to be told of each new connection."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # At shutdown the loop cancels what is open; asyncio of Python 3.11 would log that as an error.
        with suppress(asyncio.CancelledError):
            await Connection(reader, writer, handler).serve()

    return connected


async def listen(host: str, port: int, handler: Handler) -> asyncio.Server:
    """Serve the handler on host and port (0: any free one)."""
    return await asyncio.start_server(serve_streams(handler), host, port, backlog=1024)
