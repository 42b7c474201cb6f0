"""``/v1/payments/{id}/events`` and ``/v1/terminals/{poi_id}/events``: what happens, while it happens."""

from collections.abc import Awaitable, Callable
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Query, Request
from starlette.responses import Response

from orchestrator.errors import NotFound, StoreUnavailable
from orchestrator.keys import Role
from orchestrator.web.auth import Caller
from orchestrator.web.payments import owned
from orchestrator.web.problems import Problem
from orchestrator.web.services import Services
from orchestrator.web.streams import ID_PATTERN, EventStream, Watcher, read_id
from orchestrator.web.terminals import PoiId

#: Where a client was, as a browser says it, and for clients that cannot set the header.
LastEventId = Annotated[
    str | None, Header(alias="Last-Event-ID", pattern=ID_PATTERN, description="the `id` of the last event received")
]
After = Annotated[str | None, Query(pattern=ID_PATTERN, description="as `Last-Event-ID`; `0`: all that is kept")]


def router(services: Services) -> APIRouter:
    """Make the routes."""
    routes = APIRouter(prefix="/v1", tags=["live"])
    viewer = Depends(services.needs(Role.VIEWER))

    @routes.get("/payments/{payment_id}/events", status_code=200, response_class=EventStream)
    async def payment_events(
        request: Request,
        payment_id: UUID,
        caller: Caller = viewer,
        last_event_id: LastEventId = None,
        after: After = None,
    ) -> Response:
        """Follow a payment as server-sent events: its state now and at each change, and what its terminal shows."""
        await services.run(owned, services, payment_id, caller)
        return await _stream(services, request, caller, payment_id, last_event_id or after)

    @routes.get("/terminals/{poi_id}/events", status_code=200, response_class=EventStream)
    async def terminal_events(
        request: Request,
        poi_id: PoiId,
        caller: Caller = viewer,
        last_event_id: LastEventId = None,
        after: After = None,
    ) -> Response:
        """Follow a terminal as server-sent events: what runs and waits on it, and what it shows and says."""
        if await services.run(services.terminals.one, poi_id, caller.merchant_account) is None:
            raise NotFound
        return await _stream(services, request, caller, poi_id, last_event_id or after)

    return routes


async def _stream(
    services: Services, request: Request, caller: Caller, key: UUID | str, event_id: str | None
) -> EventStream:
    async def may_stay() -> bool:
        """A key that was revoked, or the database that is away: only the first ends it."""
        try:
            await services.callers(request, Role.VIEWER)
        except Problem:
            return False
        except StoreUnavailable:
            pass
        return True

    return await follow(services, key, caller.merchant_account, event_id, may_stay)


async def follow(
    services: Services,
    key: UUID | str,
    merchant_account: str,
    event_id: str | None,
    may_stay: Callable[[], Awaitable[bool]],
) -> EventStream:
    """Follow a payment, or a terminal, from where this event was; for as long as whoever follows may stay.

    Raises:
        Problem: this process serves as many as it can.
    """
    services.streams.has_room()
    begin = await services.run(services.counterfoil.live.begin, key, read_id(event_id)[0])
    return EventStream(services.streams, Watcher.resumed(key, merchant_account, event_id, begin), may_stay)
