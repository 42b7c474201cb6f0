"""The HTTP application: routes, problems, health, documentation."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio.to_thread
from fastapi import FastAPI, Request, Response

from orchestrator.bootstrap import Counterfoil
from orchestrator.store import health, revisions
from orchestrator.web import (
    alarms,
    callbacks,
    docs,
    live,
    metrics,
    notifications,
    openapi,
    payments,
    receipts,
    reconciliations,
    refunds,
    rejections,
    ruling,
    terminals,
    webhooks,
)
from orchestrator.web.answers import Json
from orchestrator.web.console.app import WithConsole
from orchestrator.web.front import Front, Handler
from orchestrator.web.problems import TOLD, answer_to
from orchestrator.web.services import NO_TELEMETRY, THREADS, Services


def web_app(counterfoil: Counterfoil) -> Front:
    """Make the application."""
    services = Services(counterfoil)
    app = FastAPI(
        title="Counterfoil",
        version="1",
        lifespan=partial(_lifespan, services),
        default_response_class=Json,
        docs_url=None,  # the framework's page loads its script from elsewhere; ours is in `docs`
        redoc_url=None,
        redirect_slashes=False,
        telemetry=NO_TELEMETRY,
    )
    for module in (
        payments,
        refunds,
        receipts,
        ruling,
        terminals,
        live,
        rejections,
        alarms,
        callbacks,
        reconciliations,
        notifications,
        webhooks,
        metrics,
    ):
        app.include_router(module.router(services))
    app.include_router(docs.router())
    _health(app, counterfoil)
    for kind in (*TOLD, Exception):
        app.add_exception_handler(kind, _answer)
    app.openapi = partial(openapi.document, app)  # type: ignore[method-assign]
    hot: dict[tuple[str, str], Handler] = {
        ("POST", "/v1/payments"): payments.Submit(services),
        ("POST", "/notifications/terminal"): notifications.Receive(services),
    }
    return Front(WithConsole(app, services), hot, services.streams.close)


@asynccontextmanager
async def _lifespan(services: Services, _: FastAPI) -> AsyncIterator[None]:
    anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
    services.counterfoil.start_traces("api")
    services.counterfoil.database.open()
    yield
    services.close()
    services.counterfoil.close()


async def _answer(_: Request, error: Exception) -> Response:
    return answer_to(error)


def _health(app: FastAPI, counterfoil: Counterfoil) -> None:
    @app.get("/healthz", tags=["health"])
    async def healthz() -> dict[str, str]:
        """The process runs."""
        return {"status": "ok"}

    @app.get("/readyz", tags=["health"])
    def readyz() -> Response:
        """The database answers, and has the schema of this release or of a later one."""
        found = health.server(counterfoil.database).revision
        ready = revisions.serves(found)
        body: dict[str, Any] = {"status": "ok" if ready else "not ready", "schema": found}
        return Json(body, 200 if ready else 503)
