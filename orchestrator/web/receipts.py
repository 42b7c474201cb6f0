"""``/v1/payments/{id}/receipts``: what the terminal wants printed, as data, as text and as a page; and once more."""

from typing import Annotated, Any, Final, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response

from orchestrator.evidence import CheckAsked
from orchestrator.keys import Role
from orchestrator.store.receipts import ReceiptStore
from orchestrator.store.rows import Row
from orchestrator.terminal_api.receipts import WIDTH_COLUMNS, as_html, as_text
from orchestrator.views import instant, payment_json
from orchestrator.web.answers import Json
from orchestrator.web.auth import Caller
from orchestrator.web.bodies import read_nothing
from orchestrator.web.payments import owned
from orchestrator.web.problems import Problem
from orchestrator.web.services import Services

#: The page holds its style and nothing else that a browser could run or load.
_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"

Copy = Annotated[Literal["customer", "cashier"] | None, Query(description="only this copy")]
Width = Annotated[int, Query(ge=24, le=80, description="columns of the text: 40 or 48 on paper of 80 mm, 32 on 58 mm")]


def router(services: Services) -> APIRouter:
    """Make the routes."""
    routes = APIRouter(prefix="/v1/payments/{payment_id}/receipts", tags=["payments"])
    viewer = Depends(services.needs(Role.VIEWER))
    submitter = Depends(services.needs(Role.SUBMIT))

    @routes.get("")
    def read(
        payment_id: UUID,
        caller: Caller = viewer,
        format: Literal["json", "text", "html"] = "json",  # noqa: A002  -- the parameter's name
        copy: Copy = None,
        width: Width = WIDTH_COLUMNS,
    ) -> Response:
        """Read a payment's receipts: as data with their text, as text alone, or as a page to print."""
        row = owned(services, payment_id, caller)
        kept = ReceiptStore(services.counterfoil.database).of(payment_id)
        wanted = [each for each in (kept["receipts"] if kept else []) if copy in {None, each["copy"]}]
        if kept is None or not wanted:
            raise Problem("no-receipts", _why_none(row, services, kept))
        match format:
            case "text":
                return PlainTextResponse("\n\n".join(as_text(each, width) for each in wanted))
            case "html":
                return HTMLResponse(as_html(wanted, row["reference"]), headers={"content-security-policy": _POLICY})
            case _:
                return Json({"at": instant(kept["at"]), "data": [_shown(each, width) for each in wanted]})

    @routes.post("", status_code=202)
    async def reprint(request: Request, payment_id: UUID, caller: Caller = submitter) -> Response:
        """Ask the terminal for the receipts once more; they come with the answer to a status check."""
        await read_nothing(request)
        return Json(await services.run(_asked_again, services, payment_id, caller), 202)

    return routes


def _shown(receipt: dict[str, Any], width: int) -> dict[str, Any]:
    return {**receipt, "text": as_text(receipt, width)}


def _asked_again(services: Services, payment_id: UUID, caller: Caller) -> dict[str, Any]:
    row = owned(services, payment_id, caller)
    if not services.counterfoil.settings.receipts:
        raise Problem("no-receipts", _why_none(row, services, None))
    services.counterfoil.recorder.record(payment_id, CheckAsked(asked_by=caller.name))
    return payment_json(services.counterfoil.store.row(payment_id))


def _why_none(row: Row, services: Services, kept: Row | None) -> str:
    if kept is not None:
        return "There is no such copy among this payment's receipts; leave out `copy`"
    if not services.counterfoil.settings.receipts:
        return "Receipts are not kept; set COUNTERFOIL_RECEIPTS=true"
    if row["outcome"] is None:
        return "The payment has not ended; its receipts come with its result"
    return "The terminal sent none with its result; POST to the same path asks it once more"
