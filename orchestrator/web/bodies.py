"""Bodies: read with limits on size, depth and time before anything believes them."""

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from fastapi import Request
from starlette.requests import ClientDisconnect

from orchestrator.terminal_api import strict_json
from orchestrator.web.problems import Problem

#: The longest official message has some 20 kB; a submission has less.
MAX_BODY_BYTES: Final = 262_144

#: A body of that size takes a second on a bad line.
BODY_WITHIN_S: Final = 10.0


async def read_body(request: Request) -> bytes:
    """Read the body, or refuse it by size or time."""
    announced = request.headers.get("content-length")
    if announced is not None and len(announced) > len(str(MAX_BODY_BYTES)):
        raise _too_large()
    try:
        async with asyncio.timeout(BODY_WITHIN_S):
            return await _received(request)
    except TimeoutError:
        raise Problem("body-too-slow", f"The body has to arrive within {BODY_WITHIN_S:.0f} s") from None


async def _received(request: Request) -> bytes:
    body = b""
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        part: bytes = message.get("body", b"")
        body += part
        if len(body) > MAX_BODY_BYTES:
            raise _too_large()
        if not message.get("more_body", False):
            return body


def _too_large() -> Problem:
    return Problem("body-too-large", f"The body may have {MAX_BODY_BYTES} bytes at most")


def parse_object(body: bytes) -> Mapping[str, Any]:
    """Read a JSON object: no duplicate members, no NaN, no depth beyond reason."""
    value = strict_json.loads(body)
    if not isinstance(value, dict):
        raise Problem("malformed-body", "The body has to be a JSON object")
    return value


async def read_nothing(request: Request) -> None:
    """Read the body of a request that takes no members: ``{}``, or none at all."""
    body = await read_body(request)
    if body and parse_object(body):
        raise Problem("malformed-body", "This request takes no members; send {}")
