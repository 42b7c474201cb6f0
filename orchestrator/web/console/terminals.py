"""``/console/terminals``: what runs and waits on each, what it shows, whether it is connected; hold and release."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final
from urllib.parse import urlencode

import structlog
from fastapi import APIRouter, Depends, Form, Request
from starlette.responses import Response

from orchestrator.cards import mask_card_numbers
from orchestrator.errors import ConfigurationError, NotFound
from orchestrator.inventory import connections, look
from orchestrator.keys import Role
from orchestrator.store.rows import Row
from orchestrator.store.terminal_pages import COUNTED_MAX, LISTED_MAX, TerminalPages
from orchestrator.terminal_api.inventory import Health
from orchestrator.terminal_api.shown import display_text, said_by
from orchestrator.web.console.desk import Desk, Person
from orchestrator.web.console.fields import Typed, Word, reason_of
from orchestrator.web.live import LastEventId, follow
from orchestrator.web.streams import EventStream
from orchestrator.web.terminals import PoiId

log = structlog.get_logger()

#: Terminals of one page: two screens of a list, and one question to the cloud.
PAGE_ROWS: Final = 50
#: What a terminal said last, on its own page: a payment's dialogue and the one before.
SAID_ROWS: Final = 25
#: Whoever looked so recently need not look again: the platform sees no storm.
FRESH_S: Final = 5
#: Of what a terminal says of its battery and printer.
_CHARACTERS_MAX: Final = 40

#: How a terminal is: the badge's colour, and the word.
CONDITIONS: Final[Mapping[str, tuple[str, str]]] = {
    "connected": ("good", "Connected"),
    "ready": ("good", "Ready"),
    "busy": ("wait", "Busy"),
    "maintenance": ("doubt", "Maintenance"),
    "away": ("bad", "Away"),
    "not known": ("plain", "Did not say"),
}
TROUBLES: Final[Mapping[str, tuple[str, str]]] = {
    "maintenance": ("doubt", "Maintenance"),
    "away": ("doubt", "Lost its network"),
    "out_of_order": ("bad", "Out of order"),
    "tampered": ("bad", "Security alarm"),
}

Hidden = Annotated[str, Form(max_length=80, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")]


def router(desk: Desk) -> APIRouter:
    """Make the routes."""
    routes = APIRouter()
    pages = TerminalPages(desk.services.counterfoil.database)
    _reading(routes, desk, pages)
    _looking(routes, desk, pages)
    _holding(routes, desk)
    return routes


def _reading(routes: APIRouter, desk: Desk, pages: TerminalPages) -> None:
    viewer = Depends(desk.sees())
    services = desk.services

    @routes.get("/console/terminals")
    def many(
        request: Request, person: Person = viewer, begins: Word = "", store: Word = "", after: Word = ""
    ) -> Response:
        """List terminals in the order of their POIIDs."""
        narrowed = {"begins": begins.strip(), "store": store.strip()}
        rows = pages.many(person.merchant_account, **narrowed, after=after, limit=PAGE_ROWS + 1)
        shown = rows[:PAGE_ROWS]
        kept = {name: value for name, value in narrowed.items() if value}
        return desk.page(
            request,
            person,
            "terminals.html",
            rows=[_shown(row) for row in shown],
            narrowed=narrowed,
            after=after,
            next_url=_address({**kept, "after": shown[-1]["poi_id"]}) if len(rows) > PAGE_ROWS else None,
            first_url=_address(kept) if after else None,
            counted_max=COUNTED_MAX,
        )

    @routes.get("/console/terminals/{poi_id}")
    def one(request: Request, poi_id: PoiId, person: Person = viewer) -> Response:
        """Show a terminal: what it shows, runs, and has waiting."""
        row = _owned(pages, poi_id, person)
        return desk.page(
            request,
            person,
            "terminal.html",
            row=_shown(row),
            waiting=pages.waiting(poi_id, person.merchant_account),
            unknown=pages.unknown(poi_id, person.merchant_account),
            said=[_said(each) for each in pages.said(poi_id, SAID_ROWS)],
            counted_max=COUNTED_MAX,
            listed_max=LISTED_MAX,
            may_hold=person.role.includes(Role.OPERATE),
        )

    @routes.get("/console/terminals/{poi_id}/events")
    async def events(
        request: Request, poi_id: PoiId, person: Person = viewer, last_event_id: LastEventId = None
    ) -> EventStream:
        """Follow a terminal, for as long as the session lasts."""
        if await services.run(services.terminals.one, poi_id, person.merchant_account) is None:
            raise NotFound
        return await follow(services, poi_id, person.merchant_account, last_event_id, desk.may_stay(request))


def _looking(routes: APIRouter, desk: Desk, pages: TerminalPages) -> None:
    viewer = Depends(desk.acts(Role.VIEWER))

    @routes.post("/console/terminals/look")
    def look_at_page(person: Person = viewer, begins: Hidden = "", store: Hidden = "", after: Hidden = "") -> Response:
        """Ask the cloud which terminals of a page it is connected to."""
        rows = pages.many(person.merchant_account, begins=begins, store=store, after=after, limit=PAGE_ROWS)
        back = _address({"begins": begins, "store": store, "after": after})
        asked = [row for row in rows if not _is_fresh(row)]
        try:
            found = connections(desk.services.counterfoil.terminal, asked)
        except ConfigurationError as error:
            return desk.done(back, f"The cloud cannot be asked from here: {error}", failed=True)
        looks = {poi_id: {"condition": "connected" if yes else "away"} for poi_id, yes in found.items()}
        pages.looked(person.merchant_account, looks)
        return desk.done(back, _told(asked, found), failed=bool(asked) and not found)

    @routes.post("/console/terminals/{poi_id}/look")
    def look_at_one(poi_id: PoiId, person: Person = viewer) -> Response:
        """Ask a terminal how it is."""
        row, back = _owned(pages, poi_id, person), f"/console/terminals/{poi_id}"
        if _is_fresh(row):
            return desk.done(back, "Somebody looked a moment ago; this is what was found.")
        try:
            health = look(desk.services.counterfoil.terminal, [row], desk.settings.sale_id)[poi_id]
        except ConfigurationError as error:
            return desk.done(back, f"The terminal cannot be asked from here: {error}", failed=True)
        pages.looked(person.merchant_account, {poi_id: _look(health)})
        return desk.done(back, f"Asked: {CONDITIONS[health.condition.value][1].lower()}.")


def _holding(routes: APIRouter, desk: Desk) -> None:
    operator = Depends(desk.acts(Role.OPERATE))
    services = desk.services

    @routes.post("/console/terminals/{poi_id}/hold")
    def hold(poi_id: PoiId, person: Person = operator, reason: Typed = "") -> Response:
        """Let nothing more start on a terminal; what runs goes on."""
        why = mask_card_numbers(reason_of(reason))
        if not services.terminals.hold(poi_id, person.author, why, person.merchant_account):
            raise NotFound
        log.info("terminal_held", terminal=poi_id, by=person.author)
        said = f"{poi_id} is held. What runs on it ends by itself; nothing more starts until it is released."
        return desk.done(f"/console/terminals/{poi_id}", said)

    @routes.post("/console/terminals/{poi_id}/release")
    def release(poi_id: PoiId, person: Person = operator) -> Response:
        """Let payments start again; the first that waits starts at once."""
        rings = services.terminals.release(poi_id, person.merchant_account)
        if rings is None:
            raise NotFound
        services.counterfoil.bell(rings)
        log.info("terminal_released", terminal=poi_id, by=person.author)
        said = f"{poi_id} is released. {'The payment that waited first starts now.' if rings else 'Nothing waited.'}"
        return desk.done(f"/console/terminals/{poi_id}", said)


def _owned(pages: TerminalPages, poi_id: str, person: Person) -> Row:
    row = pages.one(poi_id, person.merchant_account)
    if row is None:
        raise NotFound
    return row


def _shown(row: Row) -> dict[str, Any]:
    """A terminal with its words."""
    seen = dict.fromkeys(("battery", "printer", "why")) | (row["look"] or {})
    return {
        **row,
        "display_text": display_text(row["display"]) if row["display"] else None,
        "condition": CONDITIONS.get(seen.get("condition", "")),
        "trouble_text": TROUBLES.get(row["trouble"] or "", ("bad", row["trouble"])) if row["trouble"] else None,
        "seen": seen,
    }


def _said(row: Row) -> dict[str, Any]:
    """What a terminal showed or said, in words, and how much it matters."""
    if row["kind"] == "display":
        return {**row, "text": display_text(row["name"]), "kind_of": "plain"}
    said = said_by(row["name"], row["detail"])
    kinds = {"info": "plain", "warning": "doubt", "alarm": "bad"}
    return {**row, "text": said.text, "kind_of": kinds[said.severity.value]}


def _is_fresh(row: Row) -> bool:
    at: datetime | None = row["looked_at"]
    return at is not None and datetime.now(UTC) - at < timedelta(seconds=FRESH_S)


def _look(health: Health) -> dict[str, str]:
    said = {"condition": health.condition.value, "battery": health.battery, "printer": health.printer}
    return {name: str(value)[:_CHARACTERS_MAX] for name, value in {**said, "why": health.why}.items() if value}


def _told(asked: Sequence[Row], found: Mapping[str, bool]) -> str:
    """What came of asking the cloud about a page."""
    if not asked:
        return "Somebody looked a moment ago; this is what was found."
    if not found:
        return "The cloud did not say which terminals it is connected to. Open a terminal to ask it itself."
    connected = sum(found.values())
    rest = len(asked) - len(found)
    more = f" Not asked: {rest} on the local network, or of which the cloud does not say." if rest else ""
    return f"Asked the cloud: {connected} connected, {len(found) - connected} away.{more}"


def _address(query: Mapping[str, str]) -> str:
    kept = {name: value for name, value in query.items() if value}
    return "/console/terminals" + (f"?{urlencode(kept)}" if kept else "")
