"""Server-sent events: all who watch in this process are served by one look at the database, four times a second.

A watcher is a place in what its terminal shows, and a mark of the state that it knows. It is given more only once it
has taken what it was given, so a slow one lags, costs two batches of memory at most, and loses nothing. While nobody
watches, nothing is asked.
"""

import asyncio
import json
import re
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, Protocol, Self
from uuid import UUID

import structlog
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from orchestrator.errors import StoreUnavailable
from orchestrator.store.live import LiveStore, Place, shown
from orchestrator.store.rows import Row
from orchestrator.store.terminals import TerminalStore
from orchestrator.views import payment_json, terminal_json
from orchestrator.web.answers import json_bytes
from orchestrator.web.problems import Problem

log = structlog.get_logger()

#: A display text is of use within a second; four looks a second leave the rest of it for the way.
LOOK_EVERY_S: Final = 0.25

#: Who comes now is served at once, together with those who come in the same moment: a till room after a restart.
_GATHER_S: Final = 0.05

#: While the database is away.
_LOOK_AGAIN_S: Final = 1.0

#: Proxies close what is silent, most after a minute or half of one; also how soon a revoked key ends a stream.
BEAT_EVERY_S: Final = 15.0

#: Who has taken nothing for this long is gone, or asleep; it resumes when it is back.
_STUCK_S: Final = 30.0

#: Streams of one process: a socket and some 60 kB each, and a few probes of indexes for each look.
STREAMS_MAX: Final = 1_000

#: When to connect again, in ms: spread, so that a restart is not followed by everybody in the same instant.
_RETRY_MS, _RETRY_SPREAD_MS, _RETRY_STEPS = 500, 100, 20

#: Of a payment's sequence: far more than any has, and still what the database takes.
_SEQUENCE_DIGITS: Final = 9

_ID: Final = re.compile(r"([0-9]{1,18})(?:\.([0-9a-f]{0,10}))?")
ID_PATTERN: Final = rf"^{_ID.pattern}$"


class Run(Protocol):
    """Does work in a thread."""

    def __call__(self, function: Callable[..., Any], *arguments: Any) -> Awaitable[Any]: ...


class Watcher:
    """One stream: of a payment (its UUID) or of a terminal (its POIID)."""

    def __init__(self, key: UUID | str, merchant_account: str, after: int, mark: str) -> None:
        self.key = key
        self.merchant_account = merchant_account
        self.after = after
        self.mark = mark
        self._given: list[bytes] = []
        self._changed = asyncio.Event()
        self.is_over = False

    @classmethod
    def resumed(cls, key: UUID | str, merchant_account: str, event_id: str | None, begin: int) -> Self:
        """Begin at a place that was looked up; the state that the id names is known already."""
        mark = read_id(event_id)[1]
        is_mark = isinstance(key, str) or (mark.isdecimal() and len(mark) <= _SEQUENCE_DIGITS)
        return cls(key, merchant_account, begin, mark if is_mark else "")

    @property
    def is_ready(self) -> bool:
        """Whether it has taken what it was given."""
        return not self._given and not self.is_over

    def give(self, state: tuple[str, Any, str] | None, rows: Iterable[Row]) -> None:
        """Give it the state (event, data, mark) where that is news, then what the terminal showed."""
        if state is not None and state[2] != self.mark:
            self.mark = state[2]
            self._give(state[0], state[1])
        for row in rows:
            self.after = row["id"]
            self._give(f"terminal.{row['kind']}", shown(row))

    def _give(self, event: str, data: Any) -> None:
        self._given.append(encode(event, f"{self.after}.{self.mark}", data))
        self._changed.set()

    def end(self) -> None:
        """Let it go; it may come again."""
        self.is_over = True
        self._changed.set()

    async def take(self, within_s: float) -> bytes:
        """What was given since the last time; empty when nothing was in this time, or when it is over."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._changed.wait()
        if not self.is_over:
            self._changed.clear()
        given, self._given = b"".join(self._given), []
        return given


def read_id(event_id: str | None) -> tuple[int | None, str]:
    """Take an event's id apart: the place, None for none, and the mark of the state."""
    found = _ID.fullmatch(event_id or "")
    return (int(found[1]), found[2] or "") if found else (None, "")


def encode(event: str, event_id: str, data: Any) -> bytes:
    """Spell an event; JSON has no line breaks."""
    return b"event: %b\nid: %b\ndata: %b\n\n" % (event.encode(), event_id.encode(), json_bytes(data))


class Streams:
    """Everyone who watches in this process."""

    def __init__(self, live: LiveStore, terminals: TerminalStore, run: Run) -> None:
        self._live = live
        self._terminals = terminals
        self._run = run
        self._watchers: set[Watcher] = set()
        self._looking: asyncio.Task[None] | None = None
        self._somebody_came = asyncio.Event()
        self._is_closed = False

    def has_room(self) -> None:
        """Refuse when this process serves as many as it can.

        Raises:
            Problem: it does.
        """
        if len(self._watchers) >= STREAMS_MAX or self._is_closed:
            raise Problem("too-many-streams")

    def join(self, watcher: Watcher) -> None:
        """Serve it from now on."""
        if self._is_closed:
            watcher.end()
            return
        self._watchers.add(watcher)
        self._somebody_came.set()
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look())

    def leave(self, watcher: Watcher) -> None:
        """Serve it no more."""
        self._watchers.discard(watcher)

    def close(self) -> None:
        """End every stream, so that the process can end: they come again, elsewhere."""
        self._is_closed = True
        for watcher in self._watchers:
            watcher.end()

    async def _look(self) -> None:
        try:
            while self._watchers:
                with suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_EVERY_S):
                        await self._somebody_came.wait()
                        await asyncio.sleep(_GATHER_S)
                self._somebody_came.clear()
                await self._look_once()
        except Exception:
            log.exception("streams_failed")
            for watcher in self._watchers:  # they come again, and another task looks for them
                watcher.end()

    async def _look_once(self) -> None:
        ready = [watcher for watcher in self._watchers if watcher.is_ready]
        if not ready:
            return
        try:
            rows, states = await self._run(self._read, ready)
        except StoreUnavailable:
            await asyncio.sleep(_LOOK_AGAIN_S)
            return
        for watcher, news in zip(ready, rows, strict=True):
            state = states.get(watcher.key)
            if isinstance(watcher.key, str) and (state is None or state[3] != watcher.merchant_account):
                watcher.end()  # the terminal was removed, or is another merchant account's by now
            else:
                watcher.give(state and state[:3], news)

    def _read(self, ready: Sequence[Watcher]) -> tuple[list[list[Row]], Mapping[UUID | str, tuple[str, Any, str, str]]]:
        """One look: what was shown, for each watcher; and by payment or terminal its state where it may be news."""
        rows: list[list[Row]] = [[] for _ in ready]
        places = [Place(number, watcher.key, watcher.after) for number, watcher in enumerate(ready)]
        for row in self._live.news(places):
            rows[row["number"]].append(row)
        known = {watcher.key: int(watcher.mark or 0) for watcher in ready if isinstance(watcher.key, UUID)}
        terminals = {watcher.key for watcher in ready if isinstance(watcher.key, str)}
        states: dict[UUID | str, tuple[str, Any, str, str]] = {}
        for row in self._live.moved(known) if known else []:
            states[row["id"]] = (f"payment.{row['state']}", payment_json(row), str(row["sequence"]), "")
        for row in self._terminals.among(list(terminals)) if terminals else []:
            seen = terminal_json(row)
            mark = format(zlib.crc32(json.dumps(seen).encode()), "x")
            states[row["poi_id"]] = ("terminal.state", seen, mark, row["merchant_account"])
        return rows, states


class EventStream(Response):
    """The answer that goes on. ``may_stay`` is asked at each beat whether the caller may still be told."""

    media_type = "text/event-stream"

    def __init__(self, streams: Streams, watcher: Watcher, may_stay: Callable[[], Awaitable[bool]]) -> None:
        super().__init__(headers={"cache-control": "no-store", "x-accel-buffering": "no"})
        del self.headers["content-length"]  # of the empty body that a plain answer would have
        self._streams = streams
        self._watcher = watcher
        self._may_stay = may_stay

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve until the client leaves, takes nothing any more, or may not stay."""
        gone = asyncio.create_task(self._until_gone(receive))
        self._streams.join(self._watcher)
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            async for chunk in self._chunks():
                async with asyncio.timeout(_STUCK_S):
                    await send(_body(chunk, more=True))
            await send(_body(b"", more=False))
        except TimeoutError:
            log.info("stream_stuck")
        finally:
            self._streams.leave(self._watcher)
            gone.cancel()

    async def _until_gone(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._watcher.end()

    async def _chunks(self) -> AsyncIterator[bytes]:
        clock = asyncio.get_running_loop().time
        spread_ms = id(self._watcher) // 64 % _RETRY_STEPS * _RETRY_SPREAD_MS
        yield b"retry: %d\n\n" % (_RETRY_MS + spread_ms)
        beat_at_s = clock() + BEAT_EVERY_S
        while not self._watcher.is_over:
            given = await self._watcher.take(max(0.0, beat_at_s - clock()))
            if given:
                yield given
            if clock() >= beat_at_s:
                if not await self._may_stay():
                    return
                yield b": \n\n"
                beat_at_s = clock() + BEAT_EVERY_S


def _body(chunk: bytes, *, more: bool) -> Message:
    return {"type": "http.response.body", "body": chunk, "more_body": more}
