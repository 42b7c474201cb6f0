"""``/docs``: the description of the API for people, from files of this package alone; no browser is sent elsewhere.

The page needs no API key, as the description it shows needs none; what is tried out on it needs one.
"""

import json
from pathlib import Path
from typing import Final

from fastapi import APIRouter
from starlette.responses import FileResponse, HTMLResponse

_HERE: Final = Path(__file__).parent
_VENDORED: Final = _HERE / "vendored" / "swagger-ui"

#: Swagger UI writes `style` attributes and draws its signs from `data:` URLs; nothing else is let through.
_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",  # a key is typed into this page
}
_ASK_AGAIN: Final = {"Cache-Control": "no-cache"}
#: One year, the most that RFC 2616 (section 14.21) allows. The version is in the path: what is there never changes.
_KEEP: Final = {"Cache-Control": "public, max-age=31536000, immutable"}

#: Relative, so that it also works behind a proxy that adds a prefix. The empty icon keeps browsers from asking for one.
_PAGE: Final = """<!DOCTYPE html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <meta name="viewport" content="width=device-width, initial-scale=1">
  <title>Counterfoil: the HTTP API</title>
  <link rel="icon" href="data:,">
  <link rel="stylesheet" href="docs/swagger-ui-{version}/swagger-ui.css">
</head>
<body>
  <div id="swagger-ui"></div>
  <script src="docs/swagger-ui-{version}/swagger-ui-bundle.js"></script>
  <script src="docs/init.js"></script>
</body>
</html>
"""


def router() -> APIRouter:
    """Make the routes of the page, its script and its style."""
    routes = APIRouter(prefix="/docs", include_in_schema=False)
    version = json.loads((_VENDORED / "MANIFEST.json").read_text())["version"]
    page = _PAGE.format(version=version)

    @routes.get("")
    async def docs() -> HTMLResponse:
        return HTMLResponse(page, headers=_HEADERS | _ASK_AGAIN)

    _serve(routes, "/init.js", _HERE / "init.js", "text/javascript", _ASK_AGAIN)
    for name, kind in (("swagger-ui-bundle.js", "text/javascript"), ("swagger-ui.css", "text/css")):
        _serve(routes, f"/swagger-ui-{version}/{name}", _VENDORED / name, kind, _KEEP)
    return routes


def _serve(routes: APIRouter, path: str, file: Path, media_type: str, caching: dict[str, str]) -> None:
    @routes.get(path)
    async def served() -> FileResponse:
        return FileResponse(file, media_type=media_type, headers=_HEADERS | caching)
