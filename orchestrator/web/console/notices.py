"""What is said once on the next page, and ways back: signed, so that nobody else speaks in our name."""

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, urlsplit

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

COOKIE: Final = "counterfoil_said"
_PATH: Final = "/console"
#: Long enough for a redirect on a bad line; what was not shown by then surprises more than it tells.
_KEPT_S: Final = 60
#: A cookie may have 4,096 bytes (RFC 6265, section 6.1), with its name, signature and Base64.
_CHARACTERS_MAX: Final = 500
_NEXT_CHARACTERS_MAX: Final = 2_000


@dataclass(frozen=True, slots=True)
class Notice:
    """What was done, or could not be."""

    said: str
    failed: bool


class Notices:
    """Says what was done on the page that follows."""

    def __init__(self, keys: Callable[[], Sequence[bytes]], *, secure: bool) -> None:
        """Take what gives the keys of the result tag: every process has them. Ours is derived, and of no other use."""
        self._keys = keys
        self._secure = secure

    def redirect(self, to: str, said: str, *, failed: bool) -> Response:
        """Go to a page of ours and say this there, once."""
        response = RedirectResponse(inside(to), 303)
        text = json.dumps([said[:_CHARACTERS_MAX], failed], ensure_ascii=False)
        value = base64.urlsafe_b64encode(text.encode("utf-8", "replace")).decode()
        response.set_cookie(
            COOKIE,
            f"{value}.{self._sign(value)}",
            max_age=_KEPT_S,
            path=_PATH,
            httponly=True,
            samesite="strict",
            secure=self._secure,
        )
        return response

    def read(self, request: Request) -> Notice | None:
        """What is to be said, if we said so."""
        value, _, signature = request.cookies.get(COOKIE, "").partition(".")
        if not value or not hmac.compare_digest(signature.encode(), self._sign(value).encode()):
            return None
        try:
            said, failed = json.loads(base64.urlsafe_b64decode(value))
        except (binascii.Error, ValueError):  # pragma: no cover  -- it is signed: we wrote it
            return None
        return Notice(str(said), bool(failed))

    def forget(self, response: Response) -> None:
        """It was said."""
        response.delete_cookie(COOKIE, path=_PATH, httponly=True, samesite="strict", secure=self._secure)

    def to_login(self, request: Request) -> Response:
        """Ask who it is, and come back."""
        if request.headers.get("hx-request"):  # a part of a page that is open: have the whole page ask
            return Response(status_code=204, headers={"HX-Refresh": "true"})
        back = f"?next={quote(here(request), safe='')}" if request.method == "GET" and here(request) != _PATH else ""
        return RedirectResponse(f"{_PATH}/login{back}", 303)

    def _sign(self, value: str) -> str:
        key = hmac.new(self._keys()[0], b"notices of the console", hashlib.sha256).digest()
        return hmac.new(key, value.encode(), hashlib.sha256).hexdigest()


def inside(url: str) -> str:
    """A path of the console, or its first page for anything else: nobody is sent elsewhere from here."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return _PATH
    ours = parts.path == _PATH or parts.path.startswith(_PATH + "/")
    climbs = "/.." in parts.path.lower().replace("%2e", ".")  # a browser takes both for the same
    plain = url.isprintable() and url.isascii() and "\\" not in url and " " not in url and not climbs
    if parts.scheme or parts.netloc or not ours or not plain or len(url) > _NEXT_CHARACTERS_MAX:
        return _PATH
    return url


def here(request: Request) -> str:
    """The address that was asked for, as a browser spells it."""
    path = quote(request.url.path, safe="/:@!$&'()*+,;=~-._")
    return path + (f"?{request.url.query}" if request.url.query else "")
