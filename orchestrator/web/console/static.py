"""``/console/static``: styles, scripts and the wordmark. Kept for a year by the hash in their address; no login."""

from typing import Final

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse

from orchestrator.web.console.desk import Desk
from orchestrator.web.console.rendering import STATIC, hash_of

#: What there is to be served; a licence or a manifest is not.
_TYPES: Final = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml", ".png": "image/png"}
#: One year, the most that RFC 2616 (section 14.21) allows.
_KEEP: Final = "public, max-age=31536000, immutable"
_ASK_AGAIN: Final = "no-cache"


def router(desk: Desk) -> APIRouter:
    """Make the route."""
    routes = APIRouter(prefix="/console/static", include_in_schema=False)

    @routes.get("/{name:path}")
    def file(name: str, v: str = "") -> FileResponse:
        found = {str(path.relative_to(STATIC)): path for path in STATIC.rglob("*") if path.suffix in _TYPES}.get(name)
        if found is None:
            raise HTTPException(404)
        caching = _KEEP if v == hash_of(name) else _ASK_AGAIN
        return FileResponse(found, media_type=_TYPES[found.suffix], headers={"Cache-Control": caching})

    return routes
