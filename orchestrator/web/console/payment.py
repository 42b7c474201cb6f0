"""``/console/payments/{id}``: did it charge, why do we say so, and what can be done about it."""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final
from uuid import UUID

import structlog
from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from orchestrator.errors import IdempotencyConflict, InvalidSubmission, NotFound, SubmissionRejected
from orchestrator.evidence import AbortAsked, CheckAsked
from orchestrator.keys import Role
from orchestrator.model import Outcome
from orchestrator.ruling import Person as Ruler
from orchestrator.store.one_payment import OnePayment, OnePaymentStore
from orchestrator.terminal_api import money
from orchestrator.web.callbacks import redelivered
from orchestrator.web.console.desk import Desk, Person
from orchestrator.web.console.fields import REASON_CHARACTERS_MAX, REASON_CHARACTERS_MIN, one_line
from orchestrator.web.console.offers import Act, objection
from orchestrator.web.console.payment_view import identity_of, major_text, situation_of, values_of
from orchestrator.web.live import After, LastEventId, follow
from orchestrator.web.payments import asked, owned
from orchestrator.web.ruling import ruled
from orchestrator.web.streams import EventStream

log = structlog.get_logger()

#: What was typed into a form, by the names of its fields.
Typed = Mapping[str, str]

#: The longest thing that a form of ours holds; what is longer was not typed into it.
_FIELD_CHARACTERS_MAX: Final = 1_000
#: A refund's reference is the payment's and a number; together they have the 80 characters that a reference may have.
_REFERENCE_CHARACTERS_MAX: Final = 72
#: Who presses now has not seen the refund that came between; who sees it may mean another one.
_REFUNDED_MEANWHILE: Final = (
    "Another refund was taken since you opened this page; it is below. Press again if this one is meant as well."
)
_NUMBER: Final = re.compile(r"[0-9]{1,9}")


def router(desk: Desk) -> APIRouter:
    """Make the routes."""
    routes = APIRouter()
    page = _Page(desk)
    _reading(routes, desk, page)
    _asking(routes, desk, page)
    _money(routes, desk, page)
    return routes


def _reading(routes: APIRouter, desk: Desk, page: "_Page") -> None:
    viewer = Depends(desk.sees())
    services = desk.services

    @routes.get("/console/payments/{payment_id}")
    def one(request: Request, payment_id: UUID, person: Person = viewer) -> Response:
        """Show a payment."""
        return page.show(request, person, page.read(payment_id, person))

    @routes.get("/console/payments/{payment_id}/receipts")
    def receipts(request: Request, payment_id: UUID, person: Person = viewer) -> Response:
        """Show a payment's receipts, to be printed."""
        found = page.read(payment_id, person)
        values = values_of(found, person, services.counterfoil.policy, None)
        return desk.page(request, person, "payment_receipts.html", row=found.row, receipts=values["receipts"])

    @routes.get("/console/payments/{payment_id}/events")
    async def events(
        request: Request,
        payment_id: UUID,
        person: Person = viewer,
        last_event_id: LastEventId = None,
        after: After = None,
    ) -> EventStream:
        """Follow a payment, for as long as the session lasts."""
        await services.run(owned, services, payment_id, person)
        return await follow(
            services, payment_id, person.merchant_account, last_event_id or after, desk.may_stay(request)
        )


def _asking(routes: APIRouter, desk: Desk, page: "_Page") -> None:
    operator = Depends(desk.acts(Role.OPERATE))
    services = desk.services

    @routes.post("/console/payments/{payment_id}/check")
    async def check(request: Request, payment_id: UUID, person: Person = operator) -> Response:
        """Ask the terminal now."""

        def do(_: OnePayment, __: Typed) -> str:
            asked(services, payment_id, person, CheckAsked(asked_by=person.author))
            return "The terminal is asked now. Its answer shows here in a moment."

        return await page.act(request, person, payment_id, Act.CHECK, do)

    @routes.post("/console/payments/{payment_id}/abort")
    async def abort(request: Request, payment_id: UUID, person: Person = operator) -> Response:
        """Ask for it to be stopped."""

        def do(_: OnePayment, __: Typed) -> str:
            row = asked(services, payment_id, person, AbortAsked(asked_by=person.author))
            if row["outcome"] is not None:
                return "It is stopped: nothing was sent."
            return "The terminal is asked to stop. Only the payment's own result says whether it was stopped."

        return await page.act(request, person, payment_id, Act.ABORT, do)

    @routes.post("/console/payments/{payment_id}/callbacks/{callback_id}/redeliver")
    def redeliver(payment_id: UUID, callback_id: UUID, person: Person = operator) -> Response:
        """Tell a callback of this payment again, under the same id."""
        if str(callback_id) not in {each["id"] for each in page.read(payment_id, person).tellings}:
            raise NotFound
        to = f"/console/payments/{payment_id}#callbacks"
        try:
            redelivered(services, callback_id, person.merchant_account)
        except NotFound:
            return desk.done(to, "Retention has emptied this callback: there is nothing left to tell.", failed=True)
        log.info("callback_redelivered", callback=str(callback_id), by=person.author)
        return desk.done(to, "It is told again now, under the same id.")


def _money(routes: APIRouter, desk: Desk, page: "_Page") -> None:
    finance = Depends(desk.acts(Role.FINANCE))
    services = desk.services

    @routes.post("/console/payments/{payment_id}/refund")
    async def refund(request: Request, payment_id: UUID, person: Person = finance) -> Response:
        """Pay back, whole or in part; its key keeps a second press from being a second refund, whoever presses."""

        def do(one: OnePayment, typed: Typed) -> str:
            amount = _amount(typed, one, "amount")
            if amount is None:
                raise InvalidSubmission("amount: say how much is to be paid back", field="amount")
            body = {"reference": typed.get("reference", "").strip(), "amount": amount}
            envelope = {"merchant_account": person.merchant_account, "idempotency_key": _key(typed, one)}
            intake = services.counterfoil.refund_intake
            try:
                accepted = intake.refund(payment_id, body, envelope, person.author, _reason(typed))
            except IdempotencyConflict:
                raise IdempotencyConflict(_REFUNDED_MEANWHILE, field="key") from None
            shown = money.in_words(amount["currency"], amount["value"])
            if not accepted.created:
                return f"This refund of {shown} was taken already; nothing was done twice."
            return f"The refund of {shown} is taken. What becomes of it shows below."

        return await page.act(request, person, payment_id, Act.REFUND, do)

    @routes.post("/console/payments/{payment_id}/rule")
    async def rule(request: Request, payment_id: UUID, person: Person = finance) -> Response:
        """Settle an unknown; above the limit a second person has to agree."""

        def do(one: OnePayment, typed: Typed) -> str:
            amount = _amount(typed, one, "authorised_amount")
            members = {
                "outcome": _outcome(typed),
                "reason": _reason(typed),
                "sequence": _whole_number(typed.get("sequence", "")),
                **({} if amount is None else {"authorised_amount": amount}),
            }
            row, counts = ruled(services, payment_id, person, Ruler(identity_of(person), person.author), members)
            if not counts:
                return "Your ruling waits for a second person with the role finance, who agrees to it on this page."
            return f"The ruling counts: {row['outcome'].replace('_', ' ')}. The callers are told."

        return await page.act(request, person, payment_id, Act.RULE, do)


class _Page:
    """The page of a payment, and what its forms do."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._store = OnePaymentStore(desk.services.counterfoil.database)

    def read(self, payment_id: UUID, person: Person) -> OnePayment:
        """Read a payment of a person's merchant account; another's does not exist."""
        found = self._store.read(payment_id, person.merchant_account)
        if found is None:
            raise NotFound
        return found

    def show(
        self,
        request: Request,
        person: Person,
        one: OnePayment,
        *,
        refused: tuple[Act, str] | None = None,
        typed: Typed | None = None,
        status: int = 200,
    ) -> Response:
        """Make the page; after a refusal with its sentence, and with everything that was typed."""
        settings = self._desk.settings
        values = values_of(one, person, self._desk.services.counterfoil.policy, settings.flower_url)
        row = one.row
        fresh = {
            "amount": major_text(row["currency"], one.left_minor),
            "reference": f"{row['reference'][:_REFERENCE_CHARACTERS_MAX]}-R{len(one.refunds) + 1}",
            "reason": "",
            "outcome": "",
            "authorised_amount": "",
        }
        act, sentence = refused if refused is not None else (None, None)
        return self._desk.page(
            request,
            person,
            "payment.html",
            status,
            **values,
            refused=act and act.value,
            refused_because=sentence,
            refresh=values["is_open"] and act is None and "still" not in request.query_params,
            typed={**fresh, **{name: value for name, value in (typed or {}).items() if name in fresh}},
            refund_key=_refund_key(one),
            reason_min=REASON_CHARACTERS_MIN,
            reason_max=REASON_CHARACTERS_MAX,
        )

    async def act(
        self, request: Request, person: Person, payment_id: UUID, act: Act, do: Callable[[OnePayment, Typed], str]
    ) -> Response:
        """Do what a form asks for, if it still makes sense; then back to the page, which says what was done."""
        form = await request.form()
        typed = {name: value[:_FIELD_CHARACTERS_MAX] for name, value in form.items() if isinstance(value, str)}

        def acted() -> Response:
            one = self.read(payment_id, person)
            because = objection(act, situation_of(one, self._desk.services.counterfoil.policy))
            if because is not None and not _may_be_second_press(act, one):
                return self.show(request, person, one, refused=(act, because), typed=typed, status=409)
            try:
                said = do(one, typed)
            except SubmissionRejected as rejected:
                # read anew: it may have been refused because the payment moved
                one = self.read(payment_id, person)
                refused = (act, _sentence(rejected))
                return self.show(request, person, one, refused=refused, typed=typed, status=rejected.status)
            log.info("console_act", act=act.value, payment=str(payment_id), by=person.author)
            return self._desk.done(f"/console/payments/{payment_id}", said)

        return await self._desk.services.run(acted)


def _may_be_second_press(act: Act, one: OnePayment) -> bool:
    """Whether a refund that leaves nothing may be the one that is asked for: its key decides that, and says so."""
    return act is Act.REFUND and bool(one.refunds)


def _reason(typed: Typed) -> str:
    said = one_line(typed.get("reason", ""))
    if not REASON_CHARACTERS_MIN <= len(said) <= REASON_CHARACTERS_MAX:
        wanted = f"reason: has {REASON_CHARACTERS_MIN} to {REASON_CHARACTERS_MAX} characters; say in a few words why"
        raise InvalidSubmission(wanted, field="reason")
    return said


def _amount(typed: Typed, one: OnePayment, name: str) -> dict[str, Any] | None:
    """An amount that was typed in major units, as a body has it; None where nothing was typed."""
    text, currency = typed.get(name, "").strip(), one.row["currency"]
    if not text:
        return None
    try:
        minor = money.from_major(text, currency).minor
    except money.InvalidAmount:
        minor = 0
    if not minor:
        example = major_text(currency, one.row["amount_minor"])
        raise InvalidSubmission(f"amount: {currency} above zero; write it like {example}", field=name)
    return {"currency": currency, "value": minor}


def _outcome(typed: Typed) -> str:
    chosen = typed.get("outcome", "")
    if chosen not in set(Outcome):
        raise InvalidSubmission("choose what became of the money", field="outcome")
    return chosen


def _whole_number(text: str) -> int | str:
    """A number of ours, or what stands in its place, to be refused."""
    return int(text) if _NUMBER.fullmatch(text) else text


def _refund_key(one: OnePayment) -> str:
    """The key of the next refund: the same on every page that shows the same refunds, so that only one is taken."""
    return f"console {one.row['id']} {len(one.refunds) + 1}"


def _key(typed: Typed, one: OnePayment) -> str:
    """The form's key: of the next refund or, where it is pressed a second time, of one that was taken."""
    key = typed.get("key", "")
    if key != _refund_key(one) and key not in {each["idempotency_key"] for each in one.refunds}:
        raise IdempotencyConflict(_REFUNDED_MEANWHILE, field="key")
    return key


def _sentence(rejected: SubmissionRejected) -> str:
    text = str(rejected)
    whole = text[:1].upper() + text[1:]
    return whole if whole.endswith((".", "!", "?")) else f"{whole}."
