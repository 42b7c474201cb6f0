"""``/console/reconciliation``: a day's books, runs, their differences, and the sign-off."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any, Final
from urllib.parse import urlencode
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from orchestrator.errors import NotFound
from orchestrator.keys import Role
from orchestrator.reconciliation.run import NIGHTLY_DAYS
from orchestrator.reconciliation.sources import in_folder
from orchestrator.reconciliation.summary import said, what_to_do
from orchestrator.store.days import COUNTED_MAX, DIFFERENCES_COUNTED_MAX, DayPages
from orchestrator.store.differences import DifferenceFilter, DifferenceStore
from orchestrator.store.rows import Row
from orchestrator.store.words import DifferenceKind, DifferenceState, RunState
from orchestrator.web.console.desk import Desk, Person
from orchestrator.web.console.faults import Refused
from orchestrator.web.console.reconciliation_acts import acts
from orchestrator.web.reconciliations import csv_response

PATH: Final = "/console/reconciliation"
#: Runs of one page, and differences of one: each of the latter is a card with both sides.
RUN_ROWS: Final = 20
DIFFERENCE_ROWS: Final = 25
#: Days that are shown in a row: two weeks, in which every settlement has come.
DAYS_SHOWN: Final = 14
#: Unknown payments of a day that are listed one by one.
UNKNOWN_LISTED: Final = 10
#: No books are older; the calendar begins in the year 1, and ends.
_FIRST_DAY: Final = date(2000, 1, 1)

RUN_KINDS: Final[Mapping[str, str]] = {
    RunState.QUEUED: "wait",
    RunState.RUNNING: "wait",
    RunState.DONE: "good",
    RunState.REFUSED: "bad",
    RunState.FAILED: "bad",
}
DIFFERENCE_KINDS: Final[Mapping[str, str]] = {
    DifferenceState.OPEN: "doubt",
    DifferenceState.EXPLAINED: "wait",
    DifferenceState.CLOSED: "good",
}

Before = Annotated[int | None, Query(ge=0, le=2**62)]


class Narrowing(BaseModel):
    """Which differences an address asks for."""

    model_config = ConfigDict(str_strip_whitespace=True, str_max_length=24)

    state: str = ""
    kind: str = ""
    after: Annotated[int, Field(ge=0, le=2**62)] = 0


def router(desk: Desk) -> APIRouter:
    """Make the routes."""
    routes = APIRouter()
    pages = DayPages(desk.services.counterfoil.database)
    _days(routes, desk, pages)
    acts(routes, desk)
    _one_run(routes, desk, pages)
    _all_differences(routes, desk, pages)
    return routes


def _days(routes: APIRouter, desk: Desk, pages: DayPages) -> None:
    viewer = Depends(desk.sees())
    counterfoil = desk.services.counterfoil

    @routes.get(PATH)
    def day(request: Request, person: Person = viewer, day: str = "", before: Before = None) -> Response:
        """Show a day's books, yesterday's where none is named, and the latest runs."""
        yesterday = datetime.now(UTC).date() - timedelta(1)
        chosen = _day_of(day) or yesterday
        last = max(chosen, min(yesterday, chosen + timedelta(DAYS_SHOWN // 2)))
        runs = counterfoil.reconciler.runs.many(person.merchant_account, before, RUN_ROWS + 1)
        return desk.page(
            request,
            person,
            "reconciliation.html",
            days=pages.days(person.merchant_account, last - timedelta(DAYS_SHOWN - 1), last),
            earlier=f"{PATH}?day={max(_FIRST_DAY, last - timedelta(DAYS_SHOWN))}",
            later=f"{PATH}?day={min(yesterday, last + timedelta(DAYS_SHOWN))}" if last < yesterday else None,
            day=chosen,
            books=_books(desk, pages, person, chosen),
            runs=[_run_shown(row) for row in runs[:RUN_ROWS]],
            next_url=_address(PATH, day=day, before=runs[RUN_ROWS - 1]["number"]) if len(runs) > RUN_ROWS else None,
            first_url=_address(PATH, day=day) if before is not None else None,
            nightly_days=NIGHTLY_DAYS,
            counted_max=COUNTED_MAX,
            differences_max=DIFFERENCES_COUNTED_MAX,
            may_act=person.role.includes(Role.FINANCE),
        )


def _one_run(routes: APIRouter, desk: Desk, pages: DayPages) -> None:
    viewer = Depends(desk.sees())
    counterfoil = desk.services.counterfoil

    def owned(run_id: UUID, person: Person) -> Row:
        row = counterfoil.reconciler.runs.one(run_id, person.merchant_account)
        if row is None:
            raise NotFound
        return row

    @routes.get(PATH + "/{run_id}")
    def one(request: Request, run_id: UUID, asked: Annotated[Narrowing, Query()], person: Person = viewer) -> Response:
        """Show a run: what came of it, and its differences."""
        row = owned(run_id, person)
        narrowed = _narrowed(person, asked, run_id)
        rows = pages.differences(narrowed, asked.after, DIFFERENCE_ROWS + 1)
        counts = pages.counts(run_id)
        return desk.page(
            request,
            person,
            "reconciliation_run.html",
            run=_run_shown(row),
            is_going=row["state"] in {RunState.QUEUED, RunState.RUNNING},
            open_now=sum(each["n"] for each in counts if each["state"] == DifferenceState.OPEN),
            money_rows=_money(row["summary"]),
            **_differences_shown(f"{PATH}/{run_id}", asked, rows, counts),
            may_act=person.role.includes(Role.FINANCE),
        )

    @routes.get(PATH + "/{run_id}/differences.csv")
    def as_csv(run_id: UUID, asked: Annotated[Narrowing, Query()], person: Person = viewer) -> Response:
        """Give the differences of a run as a file, as the HTTP API does."""
        owned(run_id, person)
        store = DifferenceStore(counterfoil.database)
        return csv_response(f"differences-{run_id}", store, _narrowed(person, asked, run_id))


def _all_differences(routes: APIRouter, desk: Desk, pages: DayPages) -> None:
    viewer = Depends(desk.sees())

    @routes.get("/console/differences")
    def differences(request: Request, asked: Annotated[Narrowing, Query()], person: Person = viewer) -> Response:
        """List differences, whoever found them: runs or webhooks."""
        rows = pages.differences(_narrowed(person, asked, None), asked.after, DIFFERENCE_ROWS + 1)
        return desk.page(
            request,
            person,
            "differences.html",
            **_differences_shown("/console/differences", asked, rows, []),
            may_act=person.role.includes(Role.FINANCE),
        )


def _books(desk: Desk, pages: DayPages, person: Person, day: date) -> dict[str, Any]:
    """What has to be so before a day is closed, and whether it is."""
    account = person.merchant_account
    run = pages.newest_run(account, day)
    signed = pages.newest_run(account, day, signed=True)
    counts = pages.counts(run["id"]) if run else []
    unknown = pages.unknown(account, day)
    return {
        "reports": [path.name for path in in_folder(desk.services.counterfoil.reports_dir, account, day, day)],
        "run": run and _run_shown(run),
        "open": sum(each["n"] for each in counts if each["state"] == DifferenceState.OPEN),
        "settled": sum(each["n"] for each in counts if each["state"] != DifferenceState.OPEN),
        "unknown": unknown[:UNKNOWN_LISTED],
        "unknown_count": len(unknown),
        "signed": signed and _run_shown(signed),
        "may_sign": bool(run and run["state"] == RunState.DONE and run["signed_at"] is None),
        "is_over": day < datetime.now(UTC).date(),
    }


def _run_shown(row: Row) -> dict[str, Any]:
    summary = row["summary"] or {}
    return {
        **row,
        "kind": RUN_KINDS[row["state"]],
        "found_open": summary.get("differences", {}).get("open"),
        "sentences": summary.get("sentences", []),
        "one_day": row["first_day"] == row["last_day"],
    }


def _money(summary: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """The table of a summary, a row for each currency and fate that has payments."""
    return [
        {"currency": currency, "group": group, **sums}
        for currency, groups in sorted((summary or {}).get("payments", {}).items())
        for group, sums in groups.items()
        if sums["count"]
    ]


def _differences_shown(path: str, asked: Narrowing, rows: Sequence[Row], counts: Sequence[Row]) -> dict[str, Any]:
    """What the list of differences is made of: its rows, chips to narrow it by, and where it goes on."""
    shown = rows[:DIFFERENCE_ROWS]
    kept = {"state": asked.state, "kind": asked.kind}
    by_state = {each.value: sum(row["n"] for row in counts if row["state"] == each) for each in DifferenceState}
    kinds = {row["kind"] for row in counts} or {each.value for each in DifferenceKind}
    return {
        "differences": [_difference_shown(row) for row in shown],
        "asked": asked,
        "here": _address(path, **kept, after=asked.after or ""),
        "base": path,
        "counted": bool(counts),
        "states": [(each, by_state[each], _address(path, state=each, kind=asked.kind)) for each in by_state],
        "kinds": [
            (each, said(DifferenceKind(each)), _address(path, state=asked.state, kind=each)) for each in sorted(kinds)
        ],
        "any_state": _address(path, kind=asked.kind),
        "any_kind": _address(path, state=asked.state),
        "csv_url": _address(f"{path}/differences.csv", **kept),
        "next_url": _address(path, **kept, after=shown[-1]["number"]) if len(rows) > DIFFERENCE_ROWS else None,
        "first_url": _address(path, **kept) if asked.after else None,
    }


def _difference_shown(row: Row) -> dict[str, Any]:
    kind = DifferenceKind(row["kind"])
    return {
        **row,
        **{name: _side(row[name]) for name in ("ours", "theirs")},
        "said": said(kind),
        "to_do": what_to_do(kind),
        "where": where_seen(row["source"]),
        "badge": DIFFERENCE_KINDS[row["state"]],
    }


def _side(saying: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """What one side says, without an amount where it names none."""
    if not saying:
        return None
    amount = saying.get("amount")
    return {"state": saying.get("state"), "amount": amount if amount and amount.get("value") is not None else None}


def where_seen(source: str) -> str:
    """Where a difference was seen, as a person would look it up."""
    origin, _, place = source.partition(":")
    if origin == "webhook":
        return f"the webhook {place}"
    if origin != "report":
        return source
    name, _, line = place.rpartition(":")
    if name and line.isdigit():
        return f"{name}, line {line}"
    first, _, last = place.partition("/")
    return f"the reports of {first}" + (f" to {last}" if last not in {"", first} else "")


def _narrowed(person: Person, asked: Narrowing, run_id: UUID | None) -> DifferenceFilter:
    try:
        return DifferenceFilter(
            merchant_account=person.merchant_account,
            state=DifferenceState(asked.state) if asked.state else None,
            kind=DifferenceKind(asked.kind) if asked.kind else None,
            run_id=run_id,
        )
    except ValueError:
        raise Refused(
            422, "There is no such state or kind of difference", "Go back, and choose from the list."
        ) from None


def _day_of(text: str) -> date | None:
    """A day that an address names."""
    if not text.strip():
        return None
    try:
        day = date.fromisoformat(text.strip())
    except ValueError:
        raise Refused(422, "A day is written like 2025-11-25", "Go back, and choose a day.") from None
    return min(max(day, _FIRST_DAY), datetime.now(UTC).date() + timedelta(1))  # somewhere it is tomorrow already


def _address(path: str, **query: object) -> str:
    kept = {name: value for name, value in query.items() if value not in {"", None}}
    return path + (f"?{urlencode(kept)}" if kept else "")
