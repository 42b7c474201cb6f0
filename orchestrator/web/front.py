"""The front of the application: the two hot paths go straight to their handlers, and nothing that escapes is lost.

Routing, dependencies and middleware of the framework cost more than a submission's own work. Both handlers are routes
of the framework too, so that its documentation lists them.
"""

import re
import secrets
import traceback
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final

import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from orchestrator import tracing
from orchestrator.log_context import about, bound_of
from orchestrator.web.problems import TOLD, answer_to

log = structlog.get_logger()

Handler = Callable[[Request], Awaitable[Response]]

#: Innermost frames that are named when something escapes: enough to find it.
_FRAMES: Final = 4


#: A caller's own id of a request: one word that cannot be mistaken for anything else in a log.
_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._:=+/@-]{0,99}")
_REQUEST_ID_BYTES: Final = 8

#: What begins no trace: what machines ask all day, what the platform pushes (each message goes on with the trace of
#: its own payment), and files.
_UNTRACED: Final = ("/healthz", "/readyz", "/metrics", "/notifications/", "/webhooks/", "/console/static/")


class Front:
    """An ASGI application around another one."""

    def __init__(self, app: ASGIApp, hot: Mapping[tuple[str, str], Handler], end_streams: Callable[[], None]) -> None:
        """Take the application, handlers by method and path that are called without it, and what ends its streams.

        A server that is to stop waits for its answers, and these have no end of their own.
        """
        self._app = app
        self._hot = hot
        self.end_streams = end_streams

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id, parent = _named_by_caller(scope)
        with about(request=request_id), _span(scope, request_id, parent):
            await self._serve(scope, receive, send, request_id)

    async def _serve(self, scope: Scope, receive: Receive, send: Send, request_id: str) -> None:
        started = False

        async def noting(message: Message) -> None:
            nonlocal started
            if not started:
                started = True
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id.encode())]
                _note(scope, message)
            await send(message)

        try:
            handler = self._hot.get((scope["method"], scope["path"]))
            if handler is None:
                await self._app(scope, receive, noting)
            else:
                scope["hot"] = scope["path"]
                await (await _answer(handler, Request(scope, receive)))(scope, receive, noting)
        except ClientDisconnect:
            return  # nobody is there to be answered
        except Exception as error:  # noqa: BLE001  -- the outermost wrapper: told once, answered, never with a payload
            _tell_log(scope, error)
            if not started:
                await answer_to(error)(scope, receive, noting)


async def _answer(handler: Handler, request: Request) -> Response:
    try:
        return await handler(request)
    except TOLD as error:
        return answer_to(error)


def _tell_log(scope: Scope, error: Exception) -> None:
    """Name the kind and the place; an error's own text may quote what it stumbled over."""
    frames = traceback.extract_tb(error.__traceback__)[-_FRAMES:]
    where = [f"{frame.filename.rpartition('/')[2]}:{frame.lineno}" for frame in frames]
    with about(**bound_of(error)):
        log.error("request_failed", error=type(error).__name__, where=where, method=scope["method"])


def _named_by_caller(scope: Scope) -> tuple[str, str | None]:
    """The id of a request, the caller's own where it is a sane one, and the trace that it goes on with."""
    request_id, parent = None, None
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
            request_id = value.decode()
        elif name == b"traceparent":
            parent = value.decode("latin-1")
    return request_id or secrets.token_hex(_REQUEST_ID_BYTES), parent


def _span(scope: Scope, request_id: str, parent: str | None) -> AbstractContextManager[None]:
    if not tracing.is_on() or scope["path"].startswith(_UNTRACED):
        return nullcontext()
    return tracing.door(scope["method"], "server", parent, method=scope["method"], request=request_id)


def _note(scope: Scope, started: Message) -> None:
    """Name the span by its route: a path would be another name for each payment."""
    if tracing.is_on():
        route: Any = scope.get("route")
        path = getattr(route, "path", None) or scope.get("hot")
        tracing.note(route=path, status=started["status"])
        if path is not None:
            tracing.rename(f"{scope['method']} {path}")
        if started["status"] >= 500:
            tracing.failed(f"status-{started['status']}")
