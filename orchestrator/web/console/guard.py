"""What stands before every page: forms from elsewhere are refused, bodies are small, and each answer says its limits.

It is outside of the framework, so that no view can forget it.
"""

import asyncio
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: Nothing is loaded but from here, nothing runs that is written into a page, and no other page may frame this one.
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "font-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",  # a payment's address is nobody else's business; our own forms still say `Origin`
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}
#: Pages say what happened to people's money: neither a proxy nor a shared till's browser keeps them.
NOT_KEPT: Final = "no-store"

#: The longest form has a reason of 500 characters and a dozen fields.
FORM_MAX_BYTES: Final = 65_536
#: A form of that size takes a second on a bad line.
_FORM_WITHIN_S: Final = 10.0

#: Addresses that take a file: it goes on as it comes, and the view limits it.
TAKES_FILES: Final = frozenset({"/console/reconciliation/reports"})

_READS: Final = frozenset({"GET", "HEAD", "OPTIONS"})

Refusal = Callable[[Request, int], Response]


class Guard:
    """An ASGI application around the console's."""

    def __init__(self, app: ASGIApp, refusal: Refusal) -> None:
        """Take the console, and what makes the page of a refusal with this status."""
        self._app = app
        self._refusal = refusal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve."""

        async def headed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", NOT_KEPT)
            await send(message)

        if "\0" in scope["path"] or b"%00" in scope["query_string"]:
            await self._refusal(Request(scope), 400)(scope, receive, headed)
            return
        if scope["method"] in _READS:
            await self._app(scope, receive, headed)
            return
        if not from_here(Headers(scope=scope)):
            await self._refusal(Request(scope), 403)(scope, receive, headed)
            return
        if scope["path"] in TAKES_FILES:
            await self._app(scope, receive, headed)
            return
        body = await _body(Request(scope, receive))
        if isinstance(body, int):
            await self._refusal(Request(scope), body)(scope, receive, headed)
            return
        given = False

        async def once() -> Message:
            nonlocal given
            if given:
                return await receive()
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self._app(scope, once, headed)


def from_here(headers: Headers) -> bool:
    """Whether a form was sent from a page of ours, by the word of a browser: without a word it was not.

    ``Sec-Fetch-Site`` is sent where the connection is trustworthy; ``Origin`` is sent with every form. A proxy that
    ends TLS changes the scheme, not the host.
    """
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is not None and site != "same-origin":
        return False
    if origin is None:
        return site == "same-origin"
    try:
        return urlsplit(origin).netloc.lower() == headers.get("host", "").lower() != ""
    except ValueError:  # a bracket that is not closed
        return False


async def _body(request: Request) -> bytes | int:
    """The whole body, or the status that refuses it: no text of ours holds a NUL, and the database takes none."""
    body: bytes = b""
    try:
        async with asyncio.timeout(_FORM_WITHIN_S):
            while True:
                message = await request.receive()
                if message["type"] == "http.disconnect":
                    raise ClientDisconnect
                part: bytes = message.get("body", b"")
                body += part
                if len(body) > FORM_MAX_BYTES:
                    return 413
                if not message.get("more_body", False):
                    return 400 if b"%00" in body or b"\0" in body else body
    except TimeoutError:
        return 408
