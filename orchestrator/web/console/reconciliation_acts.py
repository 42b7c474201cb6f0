"""What finance does in the books: put a report there, start a run, settle a difference, sign off."""

import hmac
from datetime import date
from typing import Annotated, Final, Literal
from uuid import UUID

import structlog
from fastapi import APIRouter, Depends, Form, Request
from starlette.responses import Response

from orchestrator.errors import BrokerUnavailable, InvalidSubmission, NotFound, SubmissionRejected
from orchestrator.keys import Role
from orchestrator.reconciliation.run import Wish, period_of
from orchestrator.reconciliation.sign_off import sign_off
from orchestrator.store.differences import DifferenceStore
from orchestrator.web.console.desk import Desk, Person
from orchestrator.web.console.faults import Refused
from orchestrator.web.console.fields import Typed, note_of, reason_of
from orchestrator.web.console.uploads import Upload
from orchestrator.web.problems import Problem
from orchestrator.web.reconciliations import ACTS
from orchestrator.web.report_files import take_report

log = structlog.get_logger()

_PATH: Final = "/console/reconciliation"
#: What a page says was done to a difference.
_DONE: Final = {"explain": "explained", "close": "closed", "reopen": "open again"}

Day = Annotated[str, Form(max_length=10)]
Back = Annotated[str, Form(max_length=2_000)]


def acts(routes: APIRouter, desk: Desk) -> None:
    """Add the routes."""
    _reports(routes, desk)
    _runs(routes, desk)
    _differences(routes, desk)


def _reports(routes: APIRouter, desk: Desk) -> None:
    finance = Depends(desk.sees(Role.FINANCE))  # the form's token comes with the file, and is checked before it

    @routes.post(f"{_PATH}/reports")
    async def put(request: Request, person: Person = finance) -> Response:
        """Put a report where runs find it; it is read through first, and kept only if it can be read."""
        upload = Upload(request)
        await upload.begin()
        if not hmac.compare_digest(upload.fields.get("csrf", "").encode(), person.csrf.encode()):
            raise Refused(403, "The form is from before your last login", "Nothing was kept. Load the page anew.")
        back = _day_page(upload.fields.get("day", ""))
        try:
            name, source = await take_report(
                desk.services, person.merchant_account, upload.file_name or "", upload.parts()
            )
        except Problem as problem:
            return desk.done(back, f"The report was not kept. {problem.detail}.", failed=True)
        log.info("report_put", report=name, lines=source.lines, by=person.author)
        days = f", {source.first_day} to {source.last_day}" if source.first_day else ""
        # Whoever stands on yesterday and puts another day's report there wants to go on with that day.
        about = upload.fields.get("day", "")
        if source.last_day and not str(source.first_day) <= about <= str(source.last_day):
            back = _day_page(str(source.last_day))
        return desk.done(back, f"{name} is kept: {source.lines:,} lines of yours{days}. Now start a run.")


def _runs(routes: APIRouter, desk: Desk) -> None:
    finance = Depends(desk.acts(Role.FINANCE))
    counterfoil = desk.services.counterfoil

    @routes.post(f"{_PATH}/runs")
    def start(person: Person = finance, first_day: Day = "", last_day: Day = "") -> Response:
        """Have a period reconciled by a worker; the run that waits for the same one is the same."""
        try:
            days = period_of(first_day.strip(), last_day.strip() or first_day.strip())
        except InvalidSubmission as error:
            return desk.done(_PATH, f"No run was started. {error}.", failed=True)
        first, last = days or (None, None)
        wish = Wish(merchant_account=person.merchant_account, first_day=first, last_day=last)
        row = counterfoil.reconciler.ask(wish, person.author)
        page = f"{_PATH}/{row['id']}"
        log.info("run_started", run=str(row["id"]), by=person.author)
        try:
            counterfoil.start_run(row)
        except BrokerUnavailable:
            said = "The run is kept and waits: the broker did not take the message. It begins with the next run."
            return desk.done(page, said, failed=True)
        return desk.done(page, "The run was started." if row["created"] else "This run waits already.")

    @routes.post(_PATH + "/{run_id}/sign-off")
    def sign(run_id: UUID, person: Person = finance, reason: Typed = "") -> Response:
        """Sign a run off; with open differences a note has to say why."""
        page = f"{_PATH}/{run_id}"
        note = note_of(reason)
        try:
            row = sign_off(counterfoil.reconciler.runs, run_id, person.merchant_account, by=person.author, note=note)
        except SubmissionRejected as refused:
            return desk.done(page, f"Not signed. {refused}", failed=True)
        log.info("run_signed_off", run=str(run_id), by=person.author, open=row["signed_open"])
        return desk.done(page, f"Signed off: the books of {_days_of(row['first_day'], row['last_day'])} are closed.")


def _differences(routes: APIRouter, desk: Desk) -> None:
    finance = Depends(desk.acts(Role.FINANCE))
    differences = DifferenceStore(desk.services.counterfoil.database)

    @routes.post("/console/differences/{difference_id}/{act}")
    def change(
        difference_id: UUID,
        act: Literal["explain", "close", "reopen"],
        person: Person = finance,
        reason: Typed = "",
        back: Back = _PATH,
    ) -> Response:
        """Explain, close or open a difference again, with a reason."""
        row = differences.change(
            difference_id,
            ACTS[act],
            by=person.author,
            note=reason_of(reason),
            merchant_account=person.merchant_account,
        )
        if row is None:
            raise NotFound
        log.info("difference_changed", difference=str(difference_id), state=row["state"], by=person.author)
        about = row["reference"] or row["psp_reference"] or "The difference"
        return desk.done(back, f"{about}: {_DONE[act]}.")


def _day_page(day: str) -> str:
    try:
        return f"{_PATH}?day={date.fromisoformat(day)}"
    except ValueError:
        return _PATH


def _days_of(first: date, last: date) -> str:
    return f"{first}" if first == last else f"{first} to {last}"
