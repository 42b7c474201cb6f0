"""``/console``: find payments. The address is the search, so that it can be kept and passed on."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Final
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Request
from starlette.responses import RedirectResponse, Response, StreamingResponse

from orchestrator.model import Outcome, State
from orchestrator.reconciliation.export import PAYMENT_COLUMNS, csv_text, payment_cells
from orchestrator.search.sought import CHARGED_WORDS, Search
from orchestrator.search.words import TYPED_CHARS_MAX, Read, Reading, read, without_card_numbers
from orchestrator.store.rows import Row
from orchestrator.store.search import Found, SearchStore
from orchestrator.web.console.desk import Desk, Person

#: Rows of a page: a screen or two, and one look at the database.
PAGE_ROWS: Final = 50

#: Rows of a file: what a spreadsheet opens at once, written in some seconds. Whole days are `reconcile export`'s.
FILE_ROWS_MAX: Final = 10_000

#: Fields of the form beside the box; each is the name of a word that the box takes too.
FIELDS: Final = ("terminal", "amount", "last4", "state", "outcome", "charged", "from", "to")

_NUMBER_DIGITS: Final = 18
_COLUMNS: Final = (*PAYMENT_COLUMNS, "card_brand", "card_last4")
_MORE: Final = (
    f"There may be more payments than are in this file: it ends after {FILE_ROWS_MAX} rows, or where the search"
    " stopped looking. Narrow the search by time for the rest."
)


@dataclass(frozen=True, slots=True)
class Asked:
    """What a page was asked for: the box, the fields that say something, and where in the list."""

    typed: str
    fields: Mapping[str, str]
    before: int | None

    def address(self, path: str = "/console", before: int | None = None) -> str:
        """Where the same is asked, further down."""
        named = {"q": self.typed, **self.fields, "before": "" if before is None else str(before)}
        query = urlencode({name: value for name, value in named.items() if value})
        return f"{path}?{query}" if query else path

    def without_card_numbers(self) -> "Asked":
        """The same, with the last four of each card number in its place."""
        fields = {name: without_card_numbers(value) for name, value in self.fields.items()}
        return Asked(without_card_numbers(self.typed), fields, self.before)


def router(desk: Desk) -> APIRouter:
    """Make the routes."""
    routes = APIRouter(include_in_schema=False)
    store = SearchStore(desk.services.counterfoil.database)

    @routes.get("/console")
    def search(request: Request, person: Annotated[Person, Depends(desk.sees())]) -> Response:
        """Find payments; one that was asked for by name is shown at once."""
        asked = asked_of(request)
        if (masked := asked.without_card_numbers()) != asked:
            said = "That was a whole card number. Here is the search for its last four, which are all that is kept."
            return desk.done(masked.address(), said)
        meant = read(asked.typed, asked.fields.items(), now=datetime.now(UTC))
        reading, found = _first_that_finds(store, person, meant, asked.before)
        if found and asked.before is None and reading.search.names_one and len(found.rows) == 1:
            return RedirectResponse(f"/console/payments/{found.rows[0]['id']}", 303)
        return desk.page(request, person, "search.html", **_values(asked, meant, reading, found))

    @routes.get("/console/payments.csv")
    def file(request: Request, person: Annotated[Person, Depends(desk.sees())]) -> Response:
        """Write what the same search finds to a file."""
        asked = asked_of(request)
        if (masked := asked.without_card_numbers()) != asked:
            return RedirectResponse(masked.address("/console/payments.csv"), 303)
        meant = read(asked.typed, asked.fields.items(), now=datetime.now(UTC))
        reading, found = _first_that_finds(store, person, meant, None)
        if found is None:  # nothing of it was understood, which the page says
            return RedirectResponse(asked.address(), 303)
        rows = store.every(person.merchant_account, reading.search, limit=FILE_ROWS_MAX)
        headers = {"content-disposition": 'attachment; filename="payments.csv"'}
        text = csv_text(_COLUMNS, _cells(rows))
        return StreamingResponse(
            (each.encode() for each in text), media_type="text/csv; charset=utf-8", headers=headers
        )

    return routes


def asked_of(request: Request) -> Asked:
    """Read the address."""
    query = request.query_params
    cut = TYPED_CHARS_MAX + 1  # what is longer is refused, and need not be looked through first
    fields = {name: value for name in FIELDS if (value := query.get(name, "").strip()[:cut])}
    before = query.get("before", "")
    number = int(before) if before.isascii() and before.isdigit() and len(before) <= _NUMBER_DIGITS else None
    return Asked(query.get("q", "").strip()[:cut], fields, number)


def _first_that_finds(
    store: SearchStore, person: Person, meant: Read, before: int | None
) -> tuple[Reading, Found | None]:
    """Try each way to read the words until one finds something; the first one where none does."""
    tried: list[tuple[Reading, Found | None]] = []
    for reading in meant.ways:
        if reading.search == Search() and meant.trouble:
            continue  # not a word was understood: every payment is no answer to that
        found = store.find(person.merchant_account, reading.search, before, PAGE_ROWS)
        if found.rows or found.next_before is not None:
            return reading, found
        tried.append((reading, found))
    return tried[0] if tried else (Reading(Search()), None)


def _values(asked: Asked, meant: Read, reading: Reading, found: Found | None) -> dict[str, Any]:
    rows = found.rows if found else []
    first = next((way for way in meant.ways), reading)
    return {
        "asked": asked,
        "fields": {name: asked.fields.get(name, "") for name in FIELDS},
        "reading": reading,
        "instead_of": None if reading == first or not rows else first,
        "trouble": meant.trouble,
        "wide": reading.search == Search(),
        "searched": found is not None,
        "rows": [{**row, "charged": charged_of(row), "card": card_of(row)} for row in rows],
        "looked": found.looked if found else None,
        "looked_back_to": found.looked_back_to if found else None,
        "next_url": asked.address(before=found.next_before) if found and found.next_before is not None else None,
        "first_url": asked.address() if asked.before is not None else None,
        "csv_url": asked.address("/console/payments.csv"),
        "file_rows_max": FILE_ROWS_MAX,
        "states": list(State),
        "outcomes": list(Outcome),
        "charged_words": CHARGED_WORDS,
    }


def charged_of(row: Row) -> bool | None:
    """Whether the shopper's money moved; None for not known."""
    return Outcome(row["outcome"]).charged if row["outcome"] else None


def card_of(row: Row) -> str:
    """The card as a receipt names it: brand and last four."""
    result = row["result"] or {}
    last4 = result.get("card_last4")
    return " ".join(part for part in (result.get("card_brand"), f"•• {last4}" if last4 else None) if part)


def _cells(rows: Iterator[Row | None]) -> Iterator[dict[str, Any]]:
    for row in rows:
        if row is None:
            yield {_COLUMNS[0]: _MORE}
        else:
            result = row["result"] or {}
            yield payment_cells(row) | {name: result.get(name) for name in ("card_brand", "card_last4")}
