"""``/webhooks/standard``: the platform's books, event by event. Believed by their signature alone.

Anything but a 2xx makes the platform send again, for a month, and holds back what comes behind: so what is signed is
answered 200 whatever it says, and 5xx is for a failure of ours. What is not signed gets a 401.
"""

from typing import Final

import structlog
from fastapi import APIRouter, Request
from starlette.responses import PlainTextResponse, Response

from orchestrator.errors import RemoteProtocolError
from orchestrator.web.bodies import read_body
from orchestrator.web.problems import Problem
from orchestrator.web.services import Services

log = structlog.get_logger()

_CHALLENGE: Final = {"www-authenticate": "HmacSHA256"}


def router(services: Services) -> APIRouter:
    """Make the route."""
    routes = APIRouter(tags=["platform"])
    intake = services.counterfoil.webhooks

    @routes.post("/webhooks/standard", response_class=PlainTextResponse)
    async def standard(request: Request) -> Response:
        """Take standard webhooks. Answers ``[accepted]`` once they are stored and processed."""
        body = await read_body(request)
        try:
            signed = await services.run(intake.receive, body, request.headers.get("hmacsignature"))
        except RemoteProtocolError as error:
            log.warning("webhook_malformed", why=str(error))
            raise
        if not signed:
            log.warning("webhook_unauthorized")
            raise Problem(
                "unauthorized",
                "Sign each item, or the body in the HmacSignature header, with a key of COUNTERFOIL_HMAC_KEYS",
                headers=_CHALLENGE,
            )
        return PlainTextResponse("[accepted]")

    return routes
