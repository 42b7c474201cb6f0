"""``/notifications/terminal``: what the platform pushes. Stored before it is acknowledged.

Only a 5xx makes the platform send again, so 5xx is the answer to a failure of ours, and nothing else: a well-formed,
authenticated body never gets a 4xx.
"""

import base64
import binascii
import hmac
from typing import Final

import structlog
from fastapi import APIRouter, Request
from starlette.responses import PlainTextResponse, Response

from config.settings import Settings
from orchestrator.errors import RemoteProtocolError
from orchestrator.web.bodies import read_body
from orchestrator.web.problems import Problem
from orchestrator.web.services import Services

log = structlog.get_logger()

_PATH: Final = "/notifications/terminal"
_CHALLENGE: Final = {"www-authenticate": 'Basic realm="notifications"'}


def router(services: Services) -> APIRouter:
    """Make the route, as the documentation lists it."""
    routes = APIRouter(tags=["platform"])
    receive = Receive(services)

    @routes.post(_PATH, response_class=PlainTextResponse)
    async def terminal(request: Request) -> Response:
        """Take an asynchronous response, an event or a display notification."""
        return await receive(request)

    return routes


class Receive:
    """The handler."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._wanted = _credentials(services.counterfoil.settings)

    async def __call__(self, request: Request) -> Response:
        """Answer ``[accepted]`` once the message is stored."""
        if not self._is_the_platform(request.headers.get("authorization", "")):
            log.warning("notification_unauthorized", alarm="notification_unauthorized")
            raise Problem(
                "unauthorized",
                "Use basic authentication with COUNTERFOIL_NOTIFICATION_USERNAME and COUNTERFOIL_NOTIFICATION_PASSWORD",
                headers=_CHALLENGE,
            )
        body = await read_body(request)
        try:
            kind = await self._services.run(self._services.counterfoil.receiver.receive, body)
        except RemoteProtocolError as error:
            log.warning("notification_malformed", why=str(error))
            raise
        log.debug("notification", kind=kind)
        return PlainTextResponse("[accepted]")

    def _is_the_platform(self, authorization: str) -> bool:
        """Whether the basic authentication is right. Without a configured password nothing is."""
        scheme, _, credentials = authorization.partition(" ")
        if self._wanted is None or scheme.lower() != "basic":
            return False
        try:
            given = base64.b64decode(credentials, validate=True)
        except (binascii.Error, ValueError):
            return False
        return hmac.compare_digest(given, self._wanted)


def _credentials(settings: Settings) -> bytes | None:
    if not settings.notification_username or settings.notification_password is None:
        return None
    password = settings.notification_password.get_secret_value()
    return f"{settings.notification_username}:{password}".encode() if password else None
