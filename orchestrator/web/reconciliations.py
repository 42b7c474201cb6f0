"""``/v1/reconciliations``, ``/v1/differences`` and ``/v1/reports``: runs, what they found, and what they read."""

from collections.abc import Iterator
from itertools import islice
from typing import Annotated, Final, Literal
from uuid import UUID

import structlog
from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from starlette.responses import Response, StreamingResponse

from orchestrator.errors import NotFound
from orchestrator.intake import refusal
from orchestrator.keys import Role
from orchestrator.reconciliation.export import DIFFERENCE_COLUMNS, csv_text, difference_cells
from orchestrator.reconciliation.run import Wish, period_of
from orchestrator.reconciliation.sign_off import sign_off
from orchestrator.store.differences import DifferenceFilter, DifferenceStore
from orchestrator.store.words import DifferenceKind, DifferenceState
from orchestrator.views import difference_json, run_json
from orchestrator.web.answers import Json
from orchestrator.web.auth import Caller
from orchestrator.web.bodies import parse_object, read_body
from orchestrator.web.paging import LIMIT_DEFAULT, Cursor, Limit, decode_number, page
from orchestrator.web.report_files import take_report
from orchestrator.web.services import Services

log = structlog.get_logger()

_REMEDIES: Final = {
    "from": "the first day, written like 2025-11-25",
    "to": "the last day, written like 2025-11-25",
    "note": "3 to 500 characters without line breaks: what you know, and from where",
}
#: Lines of a file that are sent at once: some 30 kB.
_LINES_AT_ONCE: Final = 200

#: What may be done to a difference, and what it is then.
ACTS: Final = {
    "explain": DifferenceState.EXPLAINED,
    "close": DifferenceState.CLOSED,
    "reopen": DifferenceState.OPEN,
}


Note = Annotated[str, StringConstraints(min_length=3, max_length=500, pattern=r"^[^\x00-\x1f\x7f-\x9f]+$")]


class RunBody(BaseModel):
    """A period of whole days, in the time zone of the reports."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)

    first_day: Annotated[str, Field(alias="from")]
    last_day: Annotated[str, Field(alias="to")]


class NoteBody(BaseModel):
    """What a person knows of a difference."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)

    note: Note


class SignOffBody(BaseModel):
    """A sign-off; the note may be left out where no difference is open."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)

    note: Note | None = None


def router(services: Services) -> APIRouter:
    """Make the routes."""
    routes = APIRouter(tags=["reconciliation"])
    _runs(routes, services)
    _differences(routes, services)
    _reports(routes, services)
    return routes


def _runs(routes: APIRouter, services: Services) -> None:
    viewer = Depends(services.needs(Role.VIEWER))
    finance = Depends(services.needs(Role.FINANCE))
    runs = services.counterfoil.reconciler.runs

    @routes.post("/v1/reconciliations", status_code=201)
    async def start(request: Request, caller: Caller = finance) -> Response:
        """Have a period reconciled by a worker: 201, or 200 when the same period waits already."""
        body = await read_body(request)
        return await services.run(_started, services, caller, body)

    @routes.get("/v1/reconciliations")
    def many(caller: Caller = viewer, limit: Limit = LIMIT_DEFAULT, cursor: Cursor = None) -> Response:
        """List runs, newest first."""
        rows = runs.many(caller.merchant_account, decode_number(cursor), limit)
        return Json(page([run_json(row) for row in rows], limit, rows[-1]["number"] if rows else None))

    @routes.get("/v1/reconciliations/{run_id}")
    def read(run_id: UUID, caller: Caller = viewer) -> Response:
        """Read a run: how far it has come, and in the end its summary."""
        row = runs.one(run_id, caller.merchant_account)
        if row is None:
            raise NotFound
        return Json(run_json(row))

    @routes.post("/v1/reconciliations/{run_id}/sign-off")
    async def sign(request: Request, run_id: UUID, caller: Caller = finance) -> Response:
        """Sign a run off; it goes by the key's id. With open differences a note has to say why."""
        body = await read_body(request)
        return await services.run(_signed, services, run_id, caller, body)


def _signed(services: Services, run_id: UUID, caller: Caller, body: bytes) -> Response:
    try:
        note = SignOffBody.model_validate(parse_object(body) if body else {}).note
    except ValidationError as error:
        raise refusal(error, _REMEDIES) from None
    runs = services.counterfoil.reconciler.runs
    row = sign_off(runs, run_id, caller.merchant_account, by=caller.name, note=note)
    log.info("run_signed_off", run=str(run_id), by=caller.name, open=row["signed_open"])
    return Json(run_json(row))


def _started(services: Services, caller: Caller, body: bytes) -> Response:
    try:
        asked = RunBody.model_validate(parse_object(body))
    except ValidationError as error:
        raise refusal(error, _REMEDIES) from None
    days = period_of(asked.first_day, asked.last_day)
    first_day, last_day = days or (None, None)
    wish = Wish(merchant_account=caller.merchant_account, first_day=first_day, last_day=last_day)
    row = services.counterfoil.reconciler.ask(wish, caller.name)
    services.counterfoil.start_run(row)
    return Json(run_json(row), 201 if row["created"] else 200, {"location": f"/v1/reconciliations/{row['id']}"})


def _differences(routes: APIRouter, services: Services) -> None:
    viewer = Depends(services.needs(Role.VIEWER))
    finance = Depends(services.needs(Role.FINANCE))
    differences = DifferenceStore(services.counterfoil.database)
    runs = services.counterfoil.reconciler.runs

    @routes.get("/v1/reconciliations/{run_id}/differences")
    def of_run(
        run_id: UUID,
        caller: Caller = viewer,
        format: Literal["json", "csv"] = "json",  # noqa: A002  -- the query's own name
        limit: Limit = LIMIT_DEFAULT,
        cursor: Cursor = None,
    ) -> Response:
        """Read the differences of a run's period, a page at a time; all of them with `format=csv`."""
        if runs.one(run_id, caller.merchant_account) is None:
            raise NotFound
        narrowed = DifferenceFilter(merchant_account=caller.merchant_account, run_id=run_id)
        if format == "csv":
            return csv_response(f"differences-{run_id}", differences, narrowed)
        return _page(differences, narrowed, limit, cursor)

    @routes.get("/v1/differences")
    def many(  # noqa: PLR0917  -- one parameter for each filter, as the documentation lists them
        caller: Caller = viewer,
        state: DifferenceState | None = None,
        kind: DifferenceKind | None = None,
        payment_id: UUID | None = None,
        format: Literal["json", "csv"] = "json",  # noqa: A002  -- likewise
        limit: Limit = LIMIT_DEFAULT,
        cursor: Cursor = None,
    ) -> Response:
        """List differences, oldest first, whoever found them; all of them with `format=csv`."""
        narrowed = DifferenceFilter(
            merchant_account=caller.merchant_account, state=state, kind=kind, payment_id=payment_id
        )
        if format == "csv":
            return csv_response("differences", differences, narrowed)
        return _page(differences, narrowed, limit, cursor)

    @routes.post("/v1/differences/{difference_id}/{act}")
    async def change(
        request: Request, difference_id: UUID, act: Literal["explain", "close", "reopen"], caller: Caller = finance
    ) -> Response:
        """Explain, close or open a difference again, with a note; it goes by the key's id."""
        body = await read_body(request)
        return await services.run(_changed, differences, difference_id, act, caller, body)


def _changed(differences: DifferenceStore, difference_id: UUID, act: str, caller: Caller, body: bytes) -> Response:
    try:
        note = NoteBody.model_validate(parse_object(body)).note
    except ValidationError as error:
        raise refusal(error, _REMEDIES) from None
    row = differences.change(
        difference_id, ACTS[act], by=caller.name, note=note, merchant_account=caller.merchant_account
    )
    if row is None:
        raise NotFound
    return Json(difference_json(row))


def _page(differences: DifferenceStore, narrowed: DifferenceFilter, limit: int, cursor: str | None) -> Response:
    rows = differences.many(narrowed, decode_number(cursor) or 0, limit)
    return Json(page([difference_json(row) for row in rows], limit, rows[-1]["number"] if rows else None))


def csv_response(name: str, differences: DifferenceStore, narrowed: DifferenceFilter) -> Response:
    """Give differences as a file, some in memory at a time."""
    text = csv_text(DIFFERENCE_COLUMNS, (difference_cells(row) for row in differences.every(narrowed)))
    headers = {"content-disposition": f'attachment; filename="{name}.csv"'}
    return StreamingResponse(_encoded(text), media_type="text/csv; charset=utf-8", headers=headers)


def _encoded(text: Iterator[str]) -> Iterator[bytes]:
    """Some lines at a time: each part is a hop to a thread and back."""
    while lines := list(islice(text, _LINES_AT_ONCE)):
        yield "".join(lines).encode()


def _reports(routes: APIRouter, services: Services) -> None:
    finance = Depends(services.needs(Role.FINANCE))

    @routes.put("/v1/reports/{name}", status_code=201)
    async def put(request: Request, name: str, caller: Caller = finance) -> Response:
        """Put a report of the platform's where runs find it, under the platform's name. It is read through first."""
        _, source = await take_report(services, caller.merchant_account, name, request.stream())
        return Json({**source.json(), "name": name}, 201)
