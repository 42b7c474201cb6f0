"""``/v1/alarms``: what a person has to look at, and saying that one did."""

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError
from starlette.responses import Response

from orchestrator.errors import NotFound
from orchestrator.intake import refusal
from orchestrator.keys import Role
from orchestrator.meaning import MONEY_ALARMS, Alarm
from orchestrator.store.alarms import AlarmStore
from orchestrator.views import alarm_json
from orchestrator.web.answers import Json
from orchestrator.web.auth import Caller
from orchestrator.web.bodies import parse_object, read_body
from orchestrator.web.paging import LIMIT_DEFAULT, Cursor, Limit, decode_number, page
from orchestrator.web.problems import Problem
from orchestrator.web.services import Services

#: What a closing says, as a note about a difference is: something, and on one line.
Reason = Annotated[str, StringConstraints(min_length=3, max_length=500, pattern=r"^[^\x00-\x1f\x7f-\x9f]+$")]
AlarmId = Annotated[int, Path(ge=1, le=2**63 - 1)]

_REMEDIES: Final = {"reason": "3 to 500 characters without line breaks: what was found, and what was done"}


#: Who closes alarms: who operates any of them, finance those about money.
CLOSERS: Final = (Role.OPERATE, Role.FINANCE)


def may_close(role: Role, name: str) -> bool:
    """Whether a role closes alarms of this name."""
    return role.includes(Role.OPERATE) or (role.includes(Role.FINANCE) and name in MONEY_ALARMS)


class ClosingBody(BaseModel):
    """Why an alarm is closed."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)

    reason: Reason


def router(services: Services) -> APIRouter:
    """Make the routes."""
    routes = APIRouter(prefix="/v1/alarms", tags=["alarms"])
    viewer = Depends(services.needs(Role.VIEWER))
    closer = Depends(services.needs(*CLOSERS))
    alarms = AlarmStore(services.counterfoil.database)

    @routes.get("")
    def many(
        caller: Caller = viewer,
        name: Alarm | None = None,
        closed: Annotated[bool, Query(description="those that were closed, too")] = False,
        limit: Limit = LIMIT_DEFAULT,
        cursor: Cursor = None,
    ) -> Response:
        """List open alarms, newest first; those that were closed, too, with ``closed=true``."""
        rows = alarms.many(
            name and name.value,
            closed_too=closed,
            limit=limit,
            merchant_account=caller.merchant_account,
            before=decode_number(cursor),
        )
        return Json(page([alarm_json(row) for row in rows], limit, rows[-1]["id"] if rows else None))

    @routes.post("/{alarm_id}/close")
    async def close(request: Request, alarm_id: AlarmId, caller: Caller = closer) -> Response:
        """Say that an alarm was seen to, and how; it moves nothing else. One that is closed stays as it was closed."""
        body = await read_body(request)
        return await services.run(_closed, alarms, alarm_id, caller, body)

    return routes


def _closed(alarms: AlarmStore, alarm_id: int, caller: Caller, body: bytes) -> Response:
    try:
        asked = ClosingBody.model_validate(parse_object(body))
    except ValidationError as error:
        raise refusal(error, _REMEDIES) from None
    found = alarms.one(alarm_id, caller.merchant_account)
    if found is None:
        raise NotFound
    if not may_close(caller.role, found["name"]):
        raise Problem("forbidden", f"This needs the role `operate`; the key has `{caller.role.value}`")
    alarms.close([alarm_id], caller.name, asked.reason, merchant_account=caller.merchant_account)
    return Json(alarm_json(alarms.one(alarm_id, caller.merchant_account) or found))
