"""``/console/attention``: what waits for a person, the oldest first, with what to do; and closing alarms."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import partial
from typing import Annotated, Any, Final

import structlog
from fastapi import APIRouter, Depends, Form, Path, Request
from starlette.responses import Response

from orchestrator import runbook
from orchestrator.store.alarms import AlarmStore
from orchestrator.store.attention import COUNTED_MAX, AttentionStore, Waiting
from orchestrator.store.rows import Row
from orchestrator.verdicts import standing_of, verdict
from orchestrator.web.alarms import CLOSERS, may_close
from orchestrator.web.console.desk import Desk, Person
from orchestrator.web.console.faults import Refused
from orchestrator.web.console.fields import Typed, reason_of
from orchestrator.web.console.notices import inside

log = structlog.get_logger()

#: Of each kind, the oldest: what one person settles in an hour; who settles one sees the next.
_SHOWN_MAX: Final = 10
#: Open alarms, the oldest; a hundred are a storm, and one cause.
_ALARMS_MAX: Final = 100

_PATH: Final = "/console/attention"
_ASK_AN_OPERATOR: Final = "This alarm is not about money. Ask somebody with the role operate to close it."

#: Kinds of doubtful payments in the order in which they press: title, what it means, what stands where there is none.
_KINDS: Final = (
    ("disputed", "Contradictions", "Evidence contradicts itself. Only the books or a person settle these."),
    ("unknown", "Unknown", "No answer has said what became of them. The terminal is asked again by itself."),
    ("late", "Late approvals", "Taken for not performed, and approved after all. Was the sale paid twice?"),
    ("provisional", "Approved offline", "The bank has yet to confirm them; it may still refuse."),
)


def router(desk: Desk) -> APIRouter:
    """Make the routes."""
    routes = APIRouter(include_in_schema=False)
    database = desk.services.counterfoil.database
    attention, alarms = AttentionStore(database), AlarmStore(database)

    @routes.get(_PATH)
    def show(request: Request, person: Annotated[Person, Depends(desk.sees())]) -> Response:
        """Show what waits for a person."""
        waiting = attention.waiting(person.merchant_account, _SHOWN_MAX)
        opened = alarms.oldest_open(person.merchant_account, _ALARMS_MAX)
        return desk.page(
            request,
            person,
            "attention.html",
            kinds=[_kind(waiting, *kind) for kind in _KINDS],
            risk=list(waiting.at_risk().items()),
            at_least=waiting.is_cut,
            refunds=waiting.refunds,
            refunds_count=waiting.count("refund"),
            alarms=_by_name(opened),
            alarms_count=len(opened),
            alarms_max=_ALARMS_MAX,
            elsewhere=_elsewhere(waiting),
            calm=not (waiting.sums or opened or waiting.parked or waiting.quarantined or waiting.differences),
            may_close=partial(may_close, person.role),
        )

    @routes.post("/console/alarms/{alarm_id}/close")
    def close(
        alarm_id: Annotated[int, Path(ge=1, le=2**63 - 1)],
        person: Annotated[Person, Depends(desk.acts(*CLOSERS))],
        reason: Typed = "",
        back: Annotated[str, Form(max_length=500)] = _PATH,
    ) -> Response:
        """Say that an alarm was seen to, and how."""
        found = alarms.one(alarm_id, person.merchant_account)
        if found and not may_close(person.role, found["name"]):
            raise Refused(403, f"This needs the role operate, and yours is {person.role.value}", _ASK_AN_OPERATOR)
        closed = alarms.close([alarm_id], person.author, reason_of(reason), merchant_account=person.merchant_account)
        if not closed:
            return desk.done(inside(back), "That alarm is not open any more.", failed=True)
        log.info("alarm_closed", alarm_id=alarm_id, by=person.author)
        return desk.done(inside(back), "The alarm is closed.")

    return routes


def _kind(waiting: Waiting, kind: str, title: str, means: str) -> dict[str, Any]:
    """One kind of doubtful payments: how many, how old, and the oldest with why and what now."""
    sums = [row for row in waiting.sums if row["kind"] == kind]
    rows = [_payment(row, waiting.at) for row in waiting.of(kind)]
    advice = {row["do"] for row in rows}
    count = waiting.count(kind)
    within_hour, within_day = (sum(row[name] for row in sums) for name in ("within_hour", "within_day"))
    return {
        "name": kind,
        "title": title,
        "means": means,
        "count": count,
        "oldest_at": min((row["oldest_at"] for row in sums), default=None),
        "ages": (
            ("under an hour", within_hour),
            ("under a day", within_day),
            ("older", count - within_hour - within_day),
        ),
        "rows": rows,
        "do": advice.pop() if len(advice) == 1 else None,  # the same for all is said once
    }


def _payment(row: Row, at: datetime) -> dict[str, Any]:
    found = verdict(standing_of(row, at))
    charged = row["authorised_minor"]
    return {
        **row,
        "because": found.because,
        "do": found.do,
        "minor": row["amount_minor"] if charged is None else charged,
    }


def _by_name(alarms: Iterable[Row]) -> list[dict[str, Any]]:
    """Alarms under their names, the name with the oldest one first, each with what the runbook says."""
    found: dict[str, list[Row]] = {}
    for alarm in alarms:
        found.setdefault(alarm["name"], []).append(alarm)
    return [{"name": name, "rows": rows, "guidance": _guidance(name)} for name, rows in found.items()]


def _guidance(name: str) -> list[tuple[str, list[tuple[str, bool]]]]:
    found = runbook.guidance(name)
    parts: Mapping[str, str] = {"It means": found.means, "Look": found.look, "Do": found.do} if found else {}
    return [(title, runbook.pieces(text)) for title, text in parts.items() if text]


def _elsewhere(waiting: Waiting) -> list[tuple[str, str, str]]:
    """What waits on other pages: how many, of what, and where."""

    def many(count: int, one: str, more: str, address: str) -> tuple[str, str, str]:
        shown = f"{count:,}" + ("+" if count >= COUNTED_MAX else "")
        return shown, one if count == 1 else more, address

    return [
        many(waiting.differences, "open difference", "open differences", "/console/differences?state=open"),
        many(waiting.parked, "parked callback", "parked callbacks", "/console/callbacks?state=parked"),
        many(waiting.quarantined, "webhook in quarantine", "webhooks in quarantine", "/console/callbacks/quarantine"),
    ]
