"""``/v1/payments``: submit, read, list, journal, status checks, abort."""

import math
import re
from collections.abc import Mapping
from typing import Annotated, Any, Final, Protocol
from urllib.parse import parse_qs
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request
from pydantic import AwareDatetime
from starlette.responses import Response

from orchestrator.errors import NotFound
from orchestrator.evidence import AbortAsked, CheckAsked, Evidence
from orchestrator.keys import Role
from orchestrator.model import Outcome, State
from orchestrator.store.pages import PaymentFilter
from orchestrator.store.rows import Row
from orchestrator.views import line_json, payment_json
from orchestrator.web.answers import Json
from orchestrator.web.auth import Caller
from orchestrator.web.bodies import parse_object, read_body, read_nothing
from orchestrator.web.paging import LIMIT_DEFAULT, Cursor, Limit, decode_number, page
from orchestrator.web.problems import Problem
from orchestrator.web.services import Services

#: The longest that a long poll may take; proxies cut at a minute.
WAIT_MAX_S: Final = 60
Wait = Annotated[float, Query(ge=0, le=WAIT_MAX_S, description="seconds to wait for an outcome or `unknown`")]
Filter = Annotated[str | None, Query(min_length=1, max_length=80, pattern=r"^[ -~]+$")]


class Asker(Protocol):
    """Whoever asks, by key or logged in: it sees what its merchant account has."""

    @property
    def merchant_account(self) -> str: ...


_KEY: Final = re.compile(r"[ -~]{1,255}")


def router(services: Services) -> APIRouter:
    """Make the routes."""
    routes = APIRouter(prefix="/v1/payments", tags=["payments"])
    viewer = Depends(services.needs(Role.VIEWER))
    operator = Depends(services.needs(Role.OPERATE))
    submitter = Depends(services.needs(Role.SUBMIT))
    handler = Submit(services)

    @routes.post("", status_code=201)
    async def submit(request: Request) -> Response:
        """Submit a payment: 201 once it is durable, 200 when this key and body were seen before."""
        return await handler(request)

    @routes.get("/{payment_id}")
    async def read(payment_id: UUID, caller: Caller = viewer, wait: Wait = 0) -> Response:
        """Read a payment, after waiting for an outcome or `unknown` when asked to."""
        row = await services.run(owned, services, payment_id, caller)
        return Json(payment_json(await _waited(services, row, wait)))

    @routes.get("/{payment_id}/journal")
    def journal(
        payment_id: UUID, caller: Caller = viewer, limit: Limit = LIMIT_DEFAULT, cursor: Cursor = None
    ) -> Response:
        """Read why the payment says what it says, in ascending order."""
        after = decode_number(cursor) or 0
        owned(services, payment_id, caller)
        lines = services.pages.journal(payment_id, after, limit)
        return Json(page([line_json(line) for line in lines], limit, lines[-1]["sequence"] if lines else None))

    @routes.post("/{payment_id}/status-checks", status_code=202)
    async def check(request: Request, payment_id: UUID, caller: Caller = operator) -> Response:
        """Ask the terminal now."""
        await read_nothing(request)
        asked = CheckAsked(asked_by=caller.name)
        return Json(await services.run(_recorded, services, payment_id, caller, asked), 202)

    @routes.post("/{payment_id}/abort", status_code=202)
    async def abort(request: Request, payment_id: UUID, caller: Caller = submitter) -> Response:
        """Ask for the payment to be stopped; only its own result tells whether it was."""
        await read_nothing(request)
        asked = AbortAsked(asked_by=caller.name)
        return Json(await services.run(_recorded, services, payment_id, caller, asked), 202)

    _list_route(routes, services)
    return routes


class Submit:
    """The handler of submissions."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def __call__(self, request: Request) -> Response:
        """Answer with the payment once it is durable."""
        caller = await self._services.callers(request, Role.SUBMIT)
        envelope = {"merchant_account": caller.merchant_account, "idempotency_key": idempotency_key(request)}
        wait_s = _wait_s(request)
        body = await read_body(request)
        if not wait_s:
            return await self._services.run(self._accepted, body, envelope)
        row, status = await self._services.run(self._submitted, body, envelope)
        return _shown(await _waited(self._services, row, wait_s), status)

    def _accepted(self, body: bytes, envelope: Mapping[str, Any]) -> Response:
        return _shown(*self._submitted(body, envelope))

    def _submitted(self, body: bytes, envelope: Mapping[str, Any]) -> tuple[Row, int]:
        accepted = self._services.counterfoil.intake.submit(parse_object(body), envelope)
        return accepted.row, 201 if accepted.created else 200


def _shown(row: Row, status: int) -> Response:
    return Json(payment_json(row), status, {"location": f"/v1/payments/{row['id']}"})


def idempotency_key(request: Request) -> str:
    """Read the key that names a submission on every retry."""
    key = request.headers.get("idempotency-key")
    if not key:
        raise Problem(
            "missing-idempotency-key",
            "Send an `Idempotency-Key` of your choice, the same on every retry",
            field="Idempotency-Key",
        )
    if not _KEY.fullmatch(key):
        detail = "Idempotency-Key: has 1 to 255 printable ASCII characters"
        raise Problem("invalid-field", detail, field="Idempotency-Key")
    return key


def _wait_s(request: Request) -> float:
    """Read ``?wait=`` as the framework reads it on the other routes."""
    query: bytes = request.scope["query_string"]
    text = parse_qs(query.decode("latin-1")).get("wait", ["0"])[-1] if query else "0"
    try:
        wait_s = float(text)
    except ValueError:
        wait_s = math.nan
    if not 0 <= wait_s <= WAIT_MAX_S:
        raise Problem("invalid-field", f"wait: is a number of seconds from 0 to {WAIT_MAX_S}", field="wait")
    return wait_s


def _list_route(routes: APIRouter, services: Services) -> None:
    viewer = Depends(services.needs(Role.VIEWER))

    @routes.get("")
    def many(  # noqa: PLR0917  -- one parameter for each filter, as the documentation lists them
        caller: Caller = viewer,
        reference: Filter = None,
        sale_reference_id: Filter = None,
        poi_id: Filter = None,
        state: State | None = None,
        outcome: Outcome | None = None,
        charged: bool | None = None,
        psp_reference: Filter = None,
        amount: Annotated[int | None, Query(ge=1, le=2**63 - 1, description="minor units")] = None,
        created_from: AwareDatetime | None = None,
        created_to: AwareDatetime | None = None,
        limit: Limit = LIMIT_DEFAULT,
        cursor: Cursor = None,
    ) -> Response:
        """List payments, newest first; `created_from` is included, `created_to` is not."""
        narrowed = PaymentFilter(
            merchant_account=caller.merchant_account,
            reference=reference,
            sale_reference_id=sale_reference_id,
            poi_id=poi_id,
            state=state,
            outcome=outcome,
            charged=charged,
            psp_reference=psp_reference,
            amount_minor=amount,
            created_from=created_from,
            created_to=created_to,
        )
        rows = services.pages.payments(narrowed, decode_number(cursor), limit)
        return Json(page([payment_json(row) for row in rows], limit, rows[-1]["number"] if rows else None))


def owned(services: Services, payment_id: UUID, caller: Asker) -> Row:
    """Read a payment of the caller's merchant account; another's does not exist."""
    row = services.counterfoil.store.row(payment_id)
    if row["merchant_account"] != caller.merchant_account:
        raise NotFound
    return row


async def _waited(services: Services, row: Row, wait_s: float) -> Row:
    if wait_s <= 0 or row["state"] != State.PENDING:
        return row
    await services.waiting.wait_for(row["id"], wait_s)
    return await services.run(services.counterfoil.store.row, row["id"])


def asked(services: Services, payment_id: UUID, caller: Asker, evidence: Evidence) -> Row:
    """Record what somebody asks of a payment of theirs; return it as it is then."""
    owned(services, payment_id, caller)
    services.counterfoil.recorder.record(payment_id, evidence)
    return services.counterfoil.store.row(payment_id)


def _recorded(services: Services, payment_id: UUID, caller: Caller, evidence: Evidence) -> dict[str, Any]:
    return payment_json(asked(services, payment_id, caller, evidence))
