"""``/v1/payments/{id}/ruling``: a person settles an unknown."""

from collections.abc import Mapping
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from starlette.responses import Response

from orchestrator.errors import InvalidSubmission
from orchestrator.intake import Amount, refusal
from orchestrator.keys import Role
from orchestrator.model import Outcome
from orchestrator.ruling import Person, Verdict
from orchestrator.store.rows import Row
from orchestrator.views import payment_json
from orchestrator.web.answers import Json
from orchestrator.web.auth import Caller
from orchestrator.web.bodies import parse_object, read_body
from orchestrator.web.payments import Asker, owned
from orchestrator.web.services import Services

_REMEDIES: Final = {
    "outcome": "approved, partially_approved, declined, cancelled, aborted or not_performed",
    "reason": "3 to 500 characters without line breaks: what you know, and from where",
    "sequence": "the payment's `sequence` as you saw it",
    "authorised_amount": 'what was charged, such as {"currency": "EUR", "value": 1050}; for a charge alone',
}


class RulingBody(BaseModel):
    """A ruling. ``sequence`` is the payment's as the person saw it."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    outcome: Outcome
    reason: Annotated[str, StringConstraints(min_length=3, max_length=500, pattern=r"^[^\x00-\x1f\x7f-\x9f]+$")]
    sequence: Annotated[int, Field(strict=True, ge=1)]
    authorised_amount: Amount | None = None


def router(services: Services) -> APIRouter:
    """Make the route."""
    routes = APIRouter(prefix="/v1/payments", tags=["payments"])
    finance = Depends(services.needs(Role.FINANCE))

    @routes.post("/{payment_id}/ruling")
    async def rule(request: Request, payment_id: UUID, caller: Caller = finance) -> Response:
        """Settle an unknown: 200 with the payment, or 202 while a second key has to send the same body."""
        body = await read_body(request)
        return await services.run(_ruled, services, payment_id, caller, body)

    return routes


def _ruled(services: Services, payment_id: UUID, caller: Caller, body: bytes) -> Response:
    person = Person(str(caller.key_id), caller.name)
    row, counts = ruled(services, payment_id, caller, person, parse_object(body))
    if not counts:
        waits = "a second key with the role `finance` has to send the same body"
        return Json({"status": "pending-second-person", "detail": waits, "payment": payment_json(row)}, 202)
    return Json(payment_json(row))


def ruled(
    services: Services, payment_id: UUID, caller: Asker, person: Person, members: Mapping[str, Any]
) -> tuple[Row, bool]:
    """Rule on a payment of the caller's; return it, and whether the ruling counts, or waits for a second person."""
    row = owned(services, payment_id, caller)
    decision = services.counterfoil.rulings.rule(payment_id, _verdict(members, row), person)
    return (row, False) if decision is None else (services.counterfoil.store.row(payment_id), True)


def _verdict(members: Mapping[str, Any], row: Row) -> Verdict:
    try:
        given = RulingBody.model_validate(members)
    except ValidationError as error:
        raise refusal(error, _REMEDIES) from None
    amount = given.authorised_amount
    if amount is not None and amount.currency != row["currency"]:
        raise InvalidSubmission("authorised_amount.currency: is not the payment's", field="authorised_amount.currency")
    return Verdict(given.outcome, given.reason, given.sequence, amount.value if amount else None)
