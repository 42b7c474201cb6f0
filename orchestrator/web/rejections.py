"""``/v1/rejections``: refused submissions that came by task."""

from fastapi import APIRouter, Depends
from starlette.responses import Response

from orchestrator.keys import Role
from orchestrator.views import rejection_json
from orchestrator.web.answers import Json
from orchestrator.web.auth import Caller
from orchestrator.web.paging import LIMIT_DEFAULT, Cursor, Limit, decode_number, page
from orchestrator.web.services import Services


def router(services: Services) -> APIRouter:
    """Make the route."""
    routes = APIRouter(prefix="/v1/rejections", tags=["rejections"])
    viewer = Depends(services.needs(Role.VIEWER))

    @routes.get("")
    def many(caller: Caller = viewer, limit: Limit = LIMIT_DEFAULT, cursor: Cursor = None) -> Response:
        """List the refusals of the last 30 days, newest first. A refusal does not consume its idempotency key."""
        rows = services.pages.rejections(caller.merchant_account, decode_number(cursor), limit)
        return Json(page([rejection_json(row) for row in rows], limit, rows[-1]["id"] if rows else None))

    return routes
