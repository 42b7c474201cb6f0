"""``/console/callbacks``: what callers were told, what is parked, and the webhooks that nobody could believe."""

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Final
from urllib.parse import urlencode
from uuid import UUID

import structlog
from fastapi import APIRouter, Depends, Form, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from orchestrator.errors import NotFound
from orchestrator.keys import Role
from orchestrator.store.rows import Row
from orchestrator.store.telling_pages import REDELIVERED_MAX, TellingFilter, TellingPages, TellingState
from orchestrator.subscription import TYPES
from orchestrator.views import telling_json
from orchestrator.web.console.desk import Desk, Person
from orchestrator.web.console.faults import Refused
from orchestrator.web.console.rendering import host_of

log = structlog.get_logger()

#: One page of a list.
PAGE_ROWS: Final = 50
#: A replay goes on for so long at one press; what is left is for the next one.
REPLAY_WITHIN_S: Final = 20.0

_PATH: Final = "/console/callbacks"
_QUARANTINE: Final = f"{_PATH}/quarantine"

_CHOOSE: Final = "Go back, and choose from the list."

Receiver = Annotated[str, Form(pattern=r"^[0-9a-f]{64}$")]
_PLACE: Final = re.compile(r"([0-9T:.+-]{19,40}Z?)_([0-9a-f]{64})")


class Asked(BaseModel):
    """What the address of a list asks for."""

    model_config = ConfigDict(str_strip_whitespace=True, str_max_length=80)

    state: str = ""
    type: str = ""
    payment: str = ""
    before: Annotated[int | None, Field(ge=0, le=2**62)] = None


def router(desk: Desk) -> APIRouter:
    """Make the routes."""
    routes = APIRouter()
    pages = TellingPages(desk.services.counterfoil.database)
    _quarantine(routes, desk, pages)  # before `/{callback_id}`, which takes anything
    _reading(routes, desk, pages)
    _telling(routes, desk, pages)
    return routes


def _reading(routes: APIRouter, desk: Desk, pages: TellingPages) -> None:
    viewer = Depends(desk.sees())

    @routes.get(_PATH)
    def many(request: Request, asked: Annotated[Asked, Query()], person: Person = viewer) -> Response:
        """List callbacks, newest first."""
        rows = pages.many(_narrowed(person, asked), asked.before, PAGE_ROWS + 1)
        shown = rows[:PAGE_ROWS]
        kept = {"state": asked.state, "type": asked.type, "payment": asked.payment}
        return desk.page(
            request,
            person,
            "callbacks.html",
            rows=[_shown(row) for row in shown],
            kept=kept,
            types=TYPES,
            states=[each.value for each in TellingState],
            receivers=[_receiver(row) for row in pages.receivers(person.merchant_account)],
            quarantine=pages.in_quarantine(),
            tells=bool(desk.settings.callback_secrets),
            next_url=_address({**kept, "before": str(shown[-1]["number"])}) if len(rows) > PAGE_ROWS else None,
            first_url=_address(kept) if asked.before is not None else None,
            redelivered_max=REDELIVERED_MAX,
            may_redeliver=person.role.includes(Role.OPERATE),
        )

    @routes.get(f"{_PATH}/{{callback_id}}")
    def one(request: Request, callback_id: UUID, person: Person = viewer) -> Response:
        """Show a callback: what was told, and what became of it."""
        row = desk.services.counterfoil.tellings.one(callback_id, person.merchant_account)
        if row is None:
            raise NotFound
        return desk.page(
            request,
            person,
            "callback.html",
            row=_shown({**row, "reference": row["data"].get("reference"), "emptied": not row["data"]}),
            data=json.dumps(telling_json(row)["data"], indent=2, ensure_ascii=False),
            may_redeliver=person.role.includes(Role.OPERATE),
        )


def _telling(routes: APIRouter, desk: Desk, pages: TellingPages) -> None:
    operator = Depends(desk.acts(Role.OPERATE))
    counterfoil = desk.services.counterfoil

    @routes.post(f"{_PATH}/redeliver-parked")
    def redeliver_parked(receiver: Receiver, person: Person = operator) -> Response:
        """Tell the oldest parked callbacks of one address again."""
        rings = []
        for telling_id in pages.parked_of(receiver, person.merchant_account):
            ring = counterfoil.tellings.redeliver(telling_id, person.merchant_account)
            rings += [ring] if ring else []
        counterfoil.bell(rings)
        log.info("callbacks_redelivered", count=len(rings), by=person.author)
        if not rings:
            return desk.done(_PATH, "Nothing is parked for that address any more.", failed=True)
        left = len(pages.parked_of(receiver, person.merchant_account))
        more = f" At least {left:,} more are parked: press again when these have arrived." if left else ""
        said = f"{len(rings):,} {'callback is' if len(rings) == 1 else 'callbacks are'} told again now.{more}"
        return desk.done(f"{_PATH}?state=waiting", said)

    @routes.post(f"{_PATH}/{{callback_id}}/redeliver")
    def redeliver(callback_id: UUID, person: Person = operator) -> Response:
        """Tell one again now, whatever became of it; under the same id, so that a receiver knows it."""
        if counterfoil.tellings.one(callback_id, person.merchant_account) is None:
            raise NotFound
        ring = counterfoil.tellings.redeliver(callback_id, person.merchant_account)
        if ring is None:
            raise Refused(409, "Retention has emptied this callback", "There is nothing left in it to tell.")
        counterfoil.bell([ring])
        log.info("callback_redelivered", callback=str(callback_id), by=person.author)
        return desk.done(f"{_PATH}/{callback_id}", "It is told again now, under the same id.")


def _quarantine(routes: APIRouter, desk: Desk, pages: TellingPages) -> None:
    viewer, operator = Depends(desk.sees()), Depends(desk.acts(Role.OPERATE))
    webhooks = desk.services.counterfoil.webhooks

    @routes.get(_QUARANTINE)
    def quarantined(
        request: Request, person: Person = viewer, before: Annotated[str, Query(max_length=120)] = ""
    ) -> Response:
        """List webhooks that no key of ours signed, newest first; never what they hold."""
        rows = pages.quarantined(_place(before), PAGE_ROWS + 1)
        shown = rows[:PAGE_ROWS]
        last = shown[-1] if len(rows) > PAGE_ROWS else None
        place = last and urlencode({"before": f"{last['last_at'].isoformat()}_{last['digest']}"})
        return desk.page(
            request,
            person,
            "quarantine.html",
            rows=shown,
            counted=pages.in_quarantine(),
            keys=len(webhooks.keys),
            next_url=f"{_QUARANTINE}?{place}" if place else None,
            first_url=_QUARANTINE if before else None,
            may_replay=person.role.includes(Role.OPERATE),
        )

    @routes.post(f"{_QUARANTINE}/replay")
    def replay(person: Person = operator) -> Response:
        """Try the quarantine with the keys of now, and process what was not."""
        found = webhooks.replay(REPLAY_WITHIN_S)
        log.info("quarantine_replayed", released=found.released, refused=found.refused, by=person.author)
        left = "" if found.whole else " There was no time for the rest: replay once more."
        said = (
            f"{found.released:,} of {found.released + found.refused:,} are signed with a key of now and were taken; "
            f"{found.processed:,} that were stored and not processed were processed.{left}"
        )
        is_nothing = not found.released and bool(found.refused)
        return desk.done(_QUARANTINE, said, failed=bool(found.failed) or is_nothing)


def _narrowed(person: Person, asked: Asked) -> TellingFilter:
    """What a list is narrowed to; an address that somebody typed wrong is said to be."""
    if asked.type and asked.type not in TYPES:
        raise Refused(422, "There is no such type of callback", _CHOOSE)
    try:
        return TellingFilter(
            merchant_account=person.merchant_account,
            state=TellingState(asked.state) if asked.state else None,
            type=asked.type or None,
            payment_id=UUID(asked.payment) if asked.payment else None,
        )
    except ValueError:
        raise Refused(422, "That is no payment's id, or no state of a callback", _CHOOSE) from None


def _shown(row: Row) -> dict[str, Any]:
    """A callback with its words. Of its address the host alone: the rest may hold a secret."""
    state, kind = TellingState.WAITING, "wait"
    if row["delivered_at"]:
        state, kind = TellingState.DELIVERED, "good"
    elif row["parked_at"]:
        state, kind = TellingState.PARKED, "bad"
    is_due = row["next_at"] <= datetime.now(UTC)
    return {**row, "url": None, "host": host_of(row["url"]), "state": state.value, "kind": kind, "is_due": is_due}


def _receiver(row: Row) -> dict[str, Any]:
    return {**row, "url": None, "host": host_of(row["url"])}


def _place(text: str) -> tuple[datetime, str] | None:
    """Where the page before ended."""
    found = _PLACE.fullmatch(text.replace(" ", "+"))
    try:
        return (datetime.fromisoformat(found[1]), found[2]) if found else None
    except ValueError:
        return None


def _address(query: Mapping[str, str]) -> str:
    kept = {name: value for name, value in query.items() if value}
    return _PATH + (f"?{urlencode(kept)}" if kept else "")
