"""The console as an application of its own: its errors are pages, and the API's description does not know it."""

from collections.abc import Awaitable, Callable

from fastapi import FastAPI, Request, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from orchestrator.web.console.desk import Desk
from orchestrator.web.console.faults import TOLD, answer_to, refusal
from orchestrator.web.console.guard import Guard
from orchestrator.web.console.routes import VIEWS
from orchestrator.web.services import NO_TELEMETRY, Services


def console_app(services: Services) -> FastAPI:
    """Make the console, without the guard before it."""
    desk = Desk(services)
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False, telemetry=NO_TELEMETRY)
    for view in VIEWS:
        app.include_router(view.router(desk))
    answer = _answer(desk)
    for kind in (*TOLD, Exception):
        app.add_exception_handler(kind, answer)
    return app


def _answer(desk: Desk) -> Callable[[Request, Exception], Awaitable[Response]]:
    async def answer(request: Request, error: Exception) -> Response:
        return answer_to(request, error, desk.notices)

    return answer


class WithConsole:
    """An ASGI application, and the console at ``/console`` of it."""

    def __init__(self, app: ASGIApp, services: Services) -> None:
        self._app = app
        self._console = Guard(console_app(services), refusal)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve."""
        ours = scope["type"] == "http" and (scope["path"] == "/console" or scope["path"].startswith("/console/"))
        await (self._console if ours else self._app)(scope, receive, send)
