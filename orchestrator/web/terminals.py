"""``/v1/terminals``: registered terminals, what runs and waits on them, hold and release."""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, TypeVar

import structlog
from fastapi import APIRouter, Depends, Path, Request
from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints, ValidationError
from starlette.responses import Response

from orchestrator.errors import ConfigurationError, NotFound
from orchestrator.intake import refusal
from orchestrator.keys import Role
from orchestrator.model import Transport
from orchestrator.terminal_api.endpoints import local_address
from orchestrator.views import terminal_json
from orchestrator.web.answers import Json
from orchestrator.web.auth import Caller
from orchestrator.web.bodies import parse_object, read_body, read_nothing
from orchestrator.web.paging import LIMIT_DEFAULT, Cursor, Limit, decode_text, page
from orchestrator.web.problems import Problem
from orchestrator.web.services import Services

log = structlog.get_logger()

PoiId = Annotated[str, Path(pattern=r"^[A-Za-z0-9]{1,16}-[A-Za-z0-9]{1,32}$", description="model-serial")]

Model = TypeVar("Model", bound=BaseModel)

_PRINTABLE: Final = r"^[ -~]+$"

#: What would be right, by member.
_REMEDIES: Final = {
    "merchant_account": "leave it out; a terminal belongs to the merchant account of the API key",
    "store": "1 to 80 printable ASCII characters, or null",
    "transport": "async, sync or local; left out it is the setting's",
    "region": "eu, us, au, apse or nea, or null for the setting's",
    "cloud_api": "terminal or device, or null for the setting's",
    "till_prints": "true where the till prints receipts, false where the terminal does, or null for the setting's",
    "address": "where a local terminal listens, such as 192.0.2.7:8443; a local terminal needs one",
    "reason": "1 to 500 printable ASCII characters, or null",
}


def _address(text: str) -> str:
    try:
        return local_address(text)
    except ConfigurationError as error:
        raise ValueError(str(error)) from None


Address = Annotated[str, StringConstraints(max_length=255), AfterValidator(_address)]


class Registration(BaseModel):
    """What a registration says of a terminal; null and left out mean the setting's."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)

    merchant_account: str | None = None
    store: Annotated[str, StringConstraints(min_length=1, max_length=80, pattern=_PRINTABLE)] | None = None
    transport: Literal["async", "sync", "local"] | None = None
    region: Literal["eu", "us", "au", "apse", "nea"] | None = None
    cloud_api: Literal["terminal", "device"] | None = None
    till_prints: bool | None = None
    address: Address | None = None


class Move(BaseModel):
    """Where a terminal listens now."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)

    address: Address


class Hold(BaseModel):
    """Why a terminal is held."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)

    reason: Annotated[str, StringConstraints(min_length=1, max_length=500, pattern=_PRINTABLE)] | None = None


def router(services: Services) -> APIRouter:
    """Make the routes."""
    routes = APIRouter(prefix="/v1/terminals", tags=["terminals"])
    viewer = Depends(services.needs(Role.VIEWER))

    @routes.get("")
    def many(caller: Caller = viewer, limit: Limit = LIMIT_DEFAULT, cursor: Cursor = None) -> Response:
        """List terminals, in the order of their POIIDs."""
        rows = services.terminals.many(caller.merchant_account, decode_text(cursor), limit)
        return Json(page([terminal_json(row) for row in rows], limit, rows[-1]["poi_id"] if rows else None))

    @routes.get("/{poi_id}")
    def one(poi_id: PoiId, caller: Caller = viewer) -> Response:
        """Read a terminal: what runs, how many wait, how many are unknown."""
        return Json(_shown(services, poi_id, caller))

    _registration_routes(routes, services)
    _hold_routes(routes, services)
    return routes


def _registration_routes(routes: APIRouter, services: Services) -> None:
    admin = Depends(services.needs(Role.ADMIN))

    @routes.put("/{poi_id}")
    async def put(request: Request, poi_id: PoiId, caller: Caller = admin) -> Response:
        """Register a terminal (201), or replace what is known of it (200)."""
        registration = _checked(Registration, await read_body(request))
        return await services.run(_put, services, poi_id, registration, caller)

    @routes.delete("/{poi_id}", status_code=204)
    def delete(poi_id: PoiId, caller: Caller = admin) -> Response:
        """Forget a terminal that has nothing pending."""
        if not services.terminals.remove(poi_id, caller.merchant_account):
            _shown(services, poi_id, caller)  # there is one at all
            detail = "Payments of this terminal have not ended; hold it, and delete it once they have"
            raise Problem("terminal-in-use", detail, field="poi_id")
        log.info("terminal_removed", terminal=poi_id, by=caller.name)
        return Response(status_code=204)


def _hold_routes(routes: APIRouter, services: Services) -> None:
    operator = Depends(services.needs(Role.OPERATE))

    @routes.put("/{poi_id}/address")
    async def move(request: Request, poi_id: PoiId, caller: Caller = operator) -> Response:
        """Note where a local terminal listens now; its certificate's name still has to be its own."""
        wanted = _checked(Move, await read_body(request))
        return Json(await services.run(_move, services, poi_id, wanted.address, caller))

    @routes.post("/{poi_id}/hold")
    async def hold(request: Request, poi_id: PoiId, caller: Caller = operator) -> Response:
        """Let nothing more start on a terminal; what runs goes on."""
        wanted = _checked(Hold, await read_body(request))
        return Json(await services.run(_hold, services, poi_id, wanted.reason, caller))

    @routes.post("/{poi_id}/release")
    async def release(request: Request, poi_id: PoiId, caller: Caller = operator) -> Response:
        """Let payments start again; the first that waits starts at once."""
        await read_nothing(request)
        return Json(await services.run(_release, services, poi_id, caller))


def _put(services: Services, poi_id: str, registration: Registration, caller: Caller) -> Response:
    if registration.merchant_account not in {None, caller.merchant_account}:
        detail = f"merchant_account: is not the key's; {_REMEDIES['merchant_account']}"
        raise Problem("invalid-field", detail, field="merchant_account")
    transport = registration.transport or services.counterfoil.settings.transport.value
    if transport == Transport.LOCAL.value and registration.address is None:
        raise Problem("invalid-field", f"address: is missing; {_REMEDIES['address']}", field="address")
    known = registration.model_dump(exclude={"merchant_account", "transport"})
    terminal = {**known, "poi_id": poi_id, "merchant_account": caller.merchant_account, "transport": transport}
    row = services.terminals.put(terminal, may_reassign=False)
    if not row:  # registered for another merchant account, whose objects do not exist for this one
        raise NotFound
    log.info("terminal_registered", terminal=poi_id, transport=transport, by=caller.name, created=row["created"])
    return Json(_shown(services, poi_id, caller), 201 if row["created"] else 200)


def _move(services: Services, poi_id: str, address: str, caller: Caller) -> dict[str, Any]:
    if not services.terminals.move(poi_id, address, caller.merchant_account):
        raise NotFound
    log.info("terminal_moved", terminal=poi_id, by=caller.name)
    return _shown(services, poi_id, caller)


def _hold(services: Services, poi_id: str, reason: str | None, caller: Caller) -> dict[str, Any]:
    if not services.terminals.hold(poi_id, caller.name, reason, caller.merchant_account):
        raise NotFound
    log.info("terminal_held", terminal=poi_id, by=caller.name)
    return _shown(services, poi_id, caller)


def _release(services: Services, poi_id: str, caller: Caller) -> dict[str, Any]:
    rings = services.terminals.release(poi_id, caller.merchant_account)
    if rings is None:
        raise NotFound
    services.counterfoil.bell(rings)
    log.info("terminal_released", terminal=poi_id, by=caller.name)
    return _shown(services, poi_id, caller)


def _shown(services: Services, poi_id: str, caller: Caller) -> dict[str, Any]:
    row = services.terminals.one(poi_id, caller.merchant_account)
    if row is None:
        raise NotFound
    return terminal_json(row)


def _checked(model: type[Model], body: bytes) -> Model:
    members: Mapping[str, Any] = parse_object(body) if body else {}
    try:
        return model.model_validate(members)
    except ValidationError as error:
        raise refusal(error, _REMEDIES) from None
