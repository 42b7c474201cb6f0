"""``/v1/payments/{id}/refunds`` and ``/v1/refunds``: pay back, read, list, journal, status checks."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from orchestrator.errors import NotFound
from orchestrator.evidence import CheckAsked
from orchestrator.keys import Role
from orchestrator.model import State
from orchestrator.refunding.intake import AcceptedRefund
from orchestrator.refunds.model import RefundOutcome
from orchestrator.store.refunds import RefundFilter
from orchestrator.store.rows import Row
from orchestrator.views import line_json, refund_json
from orchestrator.web.answers import Json
from orchestrator.web.auth import Caller
from orchestrator.web.bodies import parse_object, read_body, read_nothing
from orchestrator.web.paging import LIMIT_DEFAULT, Cursor, Limit, decode_number, page
from orchestrator.web.payments import Filter, idempotency_key, owned
from orchestrator.web.problems import Problem
from orchestrator.web.services import Services


def router(services: Services) -> APIRouter:
    """Make the routes."""
    routes = APIRouter(tags=["refunds"])
    _of_payments(routes, services)
    _unreferenced(routes, services)
    _reading(routes, services)
    return routes


def _of_payments(routes: APIRouter, services: Services) -> None:
    viewer = Depends(services.needs(Role.VIEWER))
    refunds = services.counterfoil.refund_intake

    @routes.post("/v1/payments/{payment_id}/refunds", status_code=201)
    async def refund(request: Request, payment_id: UUID, caller: Caller = viewer) -> Response:
        """Pay a payment back, in part or whole: 201 once it is durable, 200 when this key and body were seen before."""
        if not (caller.role.includes(Role.SUBMIT) or caller.role.includes(Role.FINANCE)):
            needed = f"This needs the role `submit` or `finance`; the key has `{caller.role.value}`"
            raise Problem("forbidden", needed)
        envelope = {"merchant_account": caller.merchant_account, "idempotency_key": idempotency_key(request)}
        body = parse_object(await read_body(request))
        return _shown(await services.run(refunds.refund, payment_id, body, envelope, caller.name))

    @routes.get("/v1/payments/{payment_id}/refunds")
    def of_payment(payment_id: UUID, caller: Caller = viewer) -> Response:
        """Read the refunds of a payment, oldest first."""
        owned(services, payment_id, caller)
        rows = services.counterfoil.refunds.of_payment(payment_id)
        return Json({"data": [refund_json(row) for row in rows], "next_cursor": None})


def _unreferenced(routes: APIRouter, services: Services) -> None:
    finance = Depends(services.needs(Role.FINANCE))
    refunds = services.counterfoil.refund_intake

    @routes.post("/v1/refunds", status_code=201)
    async def pay_out(request: Request, caller: Caller = finance) -> Response:
        """Pay to a card that is presented, without a payment; off by default.

        201 once it is durable; 202 while it waits for a second person, who sends the same body and `Idempotency-Key`
        with a key of their own.
        """
        envelope = {"merchant_account": caller.merchant_account, "idempotency_key": idempotency_key(request)}
        body = parse_object(await read_body(request))
        return _shown(await services.run(refunds.pay_out, body, envelope, caller.name))


def _reading(routes: APIRouter, services: Services) -> None:
    viewer = Depends(services.needs(Role.VIEWER))
    operator = Depends(services.needs(Role.OPERATE))
    counterfoil = services.counterfoil

    @routes.get("/v1/refunds/{refund_id}")
    def read(refund_id: UUID, caller: Caller = viewer) -> Response:
        """Read a refund."""
        return Json(refund_json(_owned(services, refund_id, caller)))

    @routes.get("/v1/refunds/{refund_id}/journal")
    def journal(
        refund_id: UUID, caller: Caller = viewer, limit: Limit = LIMIT_DEFAULT, cursor: Cursor = None
    ) -> Response:
        """Read why the refund says what it says, in ascending order."""
        after = decode_number(cursor) or 0
        _owned(services, refund_id, caller)
        lines = counterfoil.refunds.journal(refund_id, after, limit)
        return Json(page([line_json(line) for line in lines], limit, lines[-1]["sequence"] if lines else None))

    @routes.post("/v1/refunds/{refund_id}/status-checks", status_code=202)
    async def check(request: Request, refund_id: UUID, caller: Caller = operator) -> Response:
        """Ask the terminal now, while no answer to the refund is known."""
        await read_nothing(request)
        return Json(await services.run(_checked, services, refund_id, caller), 202)

    @routes.get("/v1/refunds")
    def many(  # noqa: PLR0917  -- one parameter for each filter, as the documentation lists them
        caller: Caller = viewer,
        reference: Filter = None,
        poi_id: Filter = None,
        state: State | None = None,
        outcome: RefundOutcome | None = None,
        psp_reference: Filter = None,
        payment_id: Annotated[UUID | None, Query()] = None,
        limit: Limit = LIMIT_DEFAULT,
        cursor: Cursor = None,
    ) -> Response:
        """List refunds, newest first."""
        narrowed = RefundFilter(
            merchant_account=caller.merchant_account,
            reference=reference,
            poi_id=poi_id,
            state=state and state.value,
            outcome=outcome and outcome.value,
            psp_reference=psp_reference,
            payment_id=payment_id,
        )
        rows = counterfoil.refunds.many(narrowed, decode_number(cursor), limit)
        return Json(page([refund_json(row) for row in rows], limit, rows[-1]["number"] if rows else None))


def _shown(accepted: AcceptedRefund) -> Response:
    status = 202 if accepted.awaits_approval else 201 if accepted.created else 200
    return Json(refund_json(accepted.row), status, {"location": f"/v1/refunds/{accepted.row['id']}"})


def _owned(services: Services, refund_id: UUID, caller: Caller) -> Row:
    row = services.counterfoil.refunds.row(refund_id)
    if row is None or row["merchant_account"] != caller.merchant_account:
        raise NotFound
    return row


def _checked(services: Services, refund_id: UUID, caller: Caller) -> dict[str, Any]:
    _owned(services, refund_id, caller)
    services.counterfoil.refund_recorder.record(refund_id, CheckAsked(asked_by=caller.name))
    return refund_json(_owned(services, refund_id, caller))
