"""``/v1/callbacks``: what callers were told, what is parked, and telling it again."""

from typing import Any
from uuid import UUID

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from orchestrator.errors import NotFound
from orchestrator.keys import Role
from orchestrator.views import telling_json
from orchestrator.web.answers import Json
from orchestrator.web.auth import Caller
from orchestrator.web.bodies import read_nothing
from orchestrator.web.paging import LIMIT_DEFAULT, Cursor, Limit, decode_number, page
from orchestrator.web.services import Services


def router(services: Services) -> APIRouter:
    """Make the routes."""
    routes = APIRouter(prefix="/v1/callbacks", tags=["callbacks"])
    viewer = Depends(services.needs(Role.VIEWER))
    operator = Depends(services.needs(Role.OPERATE))
    tellings = services.counterfoil.tellings

    @routes.get("")
    def many(
        caller: Caller = viewer, parked: bool | None = None, limit: Limit = LIMIT_DEFAULT, cursor: Cursor = None
    ) -> Response:
        """List callbacks, newest first; those that were given up with ``parked=true``."""
        before = decode_number(cursor)
        rows = tellings.many(caller.merchant_account, parked=parked, before=before, limit=limit)
        return Json(page([telling_json(row) for row in rows], limit, rows[-1]["number"] if rows else None))

    @routes.post("/{callback_id}/redeliver", status_code=202)
    async def redeliver(request: Request, callback_id: UUID, caller: Caller = operator) -> Response:
        """Tell it again now, whatever became of it; under the same id, so that a receiver knows it."""
        await read_nothing(request)
        return Json(await services.run(redelivered, services, callback_id, caller.merchant_account), 202)

    return routes


def redelivered(services: Services, callback_id: UUID, merchant_account: str) -> dict[str, Any]:
    ring = services.counterfoil.tellings.redeliver(callback_id, merchant_account)
    row = services.counterfoil.tellings.one(callback_id, merchant_account)
    if ring is None or row is None:
        raise NotFound
    services.counterfoil.bell([ring])
    return telling_json(row)
