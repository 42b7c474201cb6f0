"""``counterfoil reconcile``: hold our rows against the platform's reports, and settle what differs."""

import sys
from collections.abc import Iterable
from contextlib import contextmanager, nullcontext
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from pathlib import Path
from typing import IO, Annotated, Any, Final
from uuid import UUID

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from orchestrator.cli.output import clock, emit, money_text, say, table
from orchestrator.cli.product import AsName, Json, Merchant, OnlyMerchant, merchant_account, product
from orchestrator.cli.root import Exit, app
from orchestrator.errors import InvalidSubmission, NotFound
from orchestrator.reconciliation.export import (
    DIFFERENCE_COLUMNS,
    EVIDENCE_COLUMNS,
    PAYMENT_COLUMNS,
    csv_text,
    difference_cells,
    evidence_cells,
    json_lines,
    payment_cells,
    payment_with_evidence,
)
from orchestrator.reconciliation.run import NIGHTLY_DAYS, Wish, period_of
from orchestrator.reconciliation.sign_off import sign_off
from orchestrator.store.audit import AuditStore
from orchestrator.store.differences import DifferenceFilter, DifferenceStore
from orchestrator.store.matching import Busy
from orchestrator.store.rows import Row
from orchestrator.store.words import DifferenceKind, DifferenceState, RunState
from orchestrator.views import difference_json, run_json

reconcile = typer.Typer(help="Our payments against the platform's reports.", no_args_is_help=True)
app.add_typer(reconcile, name="reconcile")

From = Annotated[
    str | None, typer.Option("--from", metavar="DAY", help="First day, such as 2025-11-25.", show_default=False)
]
To = Annotated[
    str | None, typer.Option("--to", metavar="DAY", help="Last day; the first one otherwise.", show_default=False)
]
Out = Annotated[
    Path | None, typer.Option("--out", metavar="FILE", help="Into a file; to the screen otherwise.", show_default=False)
]
Difference = Annotated[UUID, typer.Argument(metavar="ID", help="As `reconcile show` lists it.")]
Note = Annotated[str, typer.Option("--note", help="What you know, and from where.", show_default=False)]

_HEADS: Final = ("id", "state", "kind", "reference", "PSP reference", "ours", "theirs", "seen in")


class What(StrEnum):
    """What an export in CSV has a line for."""

    PAYMENTS = "payments"
    EVIDENCE = "evidence"


class Format(StrEnum):
    """How an export is spelled."""

    JSONL = "jsonl"
    CSV = "csv"


@reconcile.command()
def run(
    *,
    first_day: From = None,
    last_day: To = None,
    report: Annotated[
        list[Path] | None,
        typer.Option("--report", metavar="FILE", help="A report; repeat for more. Those of the folder otherwise."),
    ] = None,
    merchant: Merchant = None,
    ask: Annotated[bool, typer.Option("--ask/--no-ask", help="First ask terminals about what is open.")] = True,
    by: Annotated[str, typer.Option("--as", metavar="NAME", help="Who does this, for the record.")] = "command line",
    as_json: Json = False,
) -> int:
    """Reconcile a period: the last days, or those that the named reports are about, or --from and --to.

    Days are in the reports' time zone. Safe to repeat. Exit status: 0 nothing differs, 30 there are open differences,
    1 a report could not be read (nothing was recorded then).
    """
    days = _days(first_day, last_day)
    if days is None and not report:
        today = datetime.now(UTC).date()
        days = today - timedelta(NIGHTLY_DAYS - 1), today
    with product() as counterfoil:
        wish = _wish(merchant_account(merchant), days, report or [], ask=ask)
        asked = counterfoil.reconciler.ask(wish, by)
        try:
            with _progress(quietly=as_json) as watch:
                row = counterfoil.reconciler.go(asked["id"], wish, watch)
        except Busy:
            say(f"Another run of {wish.merchant_account} is going on; this one waits for it as {asked['id']}.")
            return Exit.ERROR
        row = row or counterfoil.reconciler.runs.one(asked["id"], None) or asked
        differences = _differences_of(DifferenceStore(counterfoil.database), row)
    return _told(row, differences, as_json)


@reconcile.command(name="list")
def list_runs(
    merchant: OnlyMerchant = None,
    limit: Annotated[int, typer.Option(min=1, max=500, help="At most this many, newest first.")] = 20,
    as_json: Json = False,
) -> None:
    """List runs, newest first."""
    with product() as counterfoil:
        rows = counterfoil.reconciler.runs.many(merchant, None, limit)
    if as_json:
        emit([run_json(row) for row in rows])
        return
    heads = ("id", "state", "merchant account", "from", "to", "by", "begun", "differences", "signed off by")
    table(heads, map(_run_line, rows), "Nothing was reconciled yet: `counterfoil reconcile run`.")


@reconcile.command()
def show(
    run_id: Annotated[UUID, typer.Argument(metavar="RUN", help="As `reconcile list` shows it.")], as_json: Json = False
) -> int:
    """Show a run, and every difference that concerns its period. Exit status as of `reconcile run`."""
    with product() as counterfoil:
        row = counterfoil.reconciler.runs.one(run_id, None)
        if row is None:
            raise NotFound(f"there is no run {run_id}; `counterfoil reconcile list` shows the latest")
        differences = _differences_of(DifferenceStore(counterfoil.database), row)
    return _told(row, differences, as_json)


@reconcile.command()
def differences(
    *,
    state: Annotated[DifferenceState | None, typer.Option(help="Where it is in its life.", show_default=False)] = None,
    kind: Annotated[DifferenceKind | None, typer.Option(help="How the two sides differ.", show_default=False)] = None,
    run_id: Annotated[UUID | None, typer.Option("--run", help="Of this run's period.", show_default=False)] = None,
    merchant: OnlyMerchant = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV, and nothing else.")] = False,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """List differences, oldest first, whoever found them: runs or webhooks."""
    narrowed = DifferenceFilter(merchant_account=merchant, state=state, kind=kind, run_id=run_id)
    with product() as counterfoil:
        rows = DifferenceStore(counterfoil.database).every(narrowed)
        if as_csv:
            _write(csv_text(DIFFERENCE_COLUMNS, map(difference_cells, rows)), out)
        elif as_json:
            emit([difference_json(row) for row in rows])
        else:
            table(_HEADS, map(_difference_line, rows), "No difference.")


@reconcile.command()
def explain(difference_id: Difference, by: AsName, note: Note) -> None:
    """Say what a difference is about; it stays on the list until it is closed."""
    _change(difference_id, DifferenceState.EXPLAINED, by, note)


@reconcile.command()
def close(difference_id: Difference, by: AsName, note: Note) -> None:
    """Close a difference. It opens again only when the books say something else."""
    _change(difference_id, DifferenceState.CLOSED, by, note)


@reconcile.command()
def reopen(difference_id: Difference, by: AsName, note: Note) -> None:
    """Open a difference again."""
    _change(difference_id, DifferenceState.OPEN, by, note)


@reconcile.command(name="sign-off")
def sign(
    run_id: Annotated[UUID, typer.Argument(metavar="ID", help="The run, as `reconcile list` shows it.")],
    by: AsName,
    note: Annotated[
        str | None,
        typer.Option(help="Why, where differences are open; else what is worth knowing.", show_default=False),
    ] = None,
    as_json: Json = False,
) -> None:
    """Sign a run off: the books of its days are closed. Refused while differences are open and no note says why."""
    with product() as counterfoil:
        try:
            row = sign_off(counterfoil.reconciler.runs, run_id, None, by=by, note=(note or "").strip() or None)
        except NotFound:
            raise NotFound(f"there is no run {run_id}; `counterfoil reconcile list` shows the latest") from None
    if as_json:
        emit(run_json(row))
        return
    say(f"run {run_id} of {row['first_day']} to {row['last_day']} is signed off by {by}: {row['signed_open']} open")


@reconcile.command()
def export(
    *,
    first_day: From = None,
    last_day: To = None,
    merchant: OnlyMerchant = None,
    spelled: Annotated[Format, typer.Option("--format", help="JSON lines, or CSV.")] = Format.JSONL,
    what: Annotated[What, typer.Option(help="In CSV, one line for each of these.")] = What.PAYMENTS,
    out: Out = None,
) -> None:
    """Export the payments that were accepted from one day to another, with their evidence, for an audit.

    Days are in UTC, both included. Equal rows give equal bytes: payments stand in the order of their acceptance.
    """
    days = _days(first_day, last_day)
    if days is None:
        raise typer.BadParameter("name the days with --from and --to, such as --from 2025-11-01 --to 2025-11-30")
    begins_at = datetime.combine(days[0], time(), UTC)
    ends_at = datetime.combine(days[1] + timedelta(1), time(), UTC)
    with product() as counterfoil:
        payments = AuditStore(counterfoil.database).payments(merchant, begins_at, ends_at)
        if spelled is Format.JSONL:
            _write(json_lines(payment_with_evidence(row, lines) for row, lines in payments), out)
        elif what is What.PAYMENTS:
            _write(csv_text(PAYMENT_COLUMNS, (payment_cells(row) for row, _ in payments)), out)
        else:
            cells = (cell for row, lines in payments for cell in evidence_cells(row, lines))
            _write(csv_text(EVIDENCE_COLUMNS, cells), out)


def _days(first_day: str | None, last_day: str | None) -> tuple[date, date] | None:
    """The days of a period: one day where only the first is named. A wrong one is a mistake of usage."""
    try:
        return period_of(first_day, last_day if last_day is not None else first_day)
    except InvalidSubmission as error:
        raise typer.BadParameter(f"--{error}") from None


def _wish(merchant: str, days: tuple[date, date] | None, reports: list[Path], *, ask: bool) -> Wish:
    first, last = days or (None, None)
    return Wish(merchant_account=merchant, first_day=first, last_day=last, reports=tuple(reports), ask=ask)


@contextmanager
def _progress(*, quietly: bool) -> Any:
    """Show how far a run has come: a bar on a screen, nothing otherwise."""
    if quietly or not sys.stderr.isatty():
        yield None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    from rich.console import Console

    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("begin", total=None)
        yield lambda step, done, of: bar.update(task, description=step, completed=done, total=of)


def _differences_of(store: DifferenceStore, row: Row) -> list[Row]:
    return list(store.every(DifferenceFilter(run_id=row["id"])))


def _told(row: Row, found: list[Row], as_json: bool) -> int:
    """Tell what came of a run; the exit status says the same."""
    if as_json:
        emit(run_json(row) | {"differences": [difference_json(each) for each in found]})
    else:
        say(f"run {row['id']}: {row['state']}{_signed(row)}")
        for problem in row["problems"]:
            place = ":".join(str(each) for each in (problem["file"], problem["line"]) if each is not None)
            say(f"  {place}: {problem['problem']}" if place else f"  {problem['problem']}")
        for sentence in (row["summary"] or {}).get("sentences", []):
            say(f"  {sentence}")
        if found:
            table(_HEADS, map(_difference_line, found), "")
    if row["state"] in {RunState.REFUSED, RunState.FAILED}:
        return Exit.ERROR
    opened = any(each["state"] == DifferenceState.OPEN for each in found)
    return Exit.DIFFERENCES if opened else Exit.DONE


def _signed(row: Row) -> str:
    return f", signed off by {row['signed_by']} {clock(row['signed_at'])}" if row["signed_at"] else ""


def _run_line(row: Row) -> tuple[str, ...]:
    summary = row["summary"]
    return (
        str(row["id"]),
        row["state"],
        row["merchant_account"],
        row["first_day"].isoformat(),
        row["last_day"].isoformat(),
        row["started_by"],
        clock(row["started_at"]),
        "" if summary is None else f"{summary['differences']['open']} open",
        row["signed_by"] or "",
    )


def _difference_line(row: Row) -> tuple[str, ...]:
    return (
        str(row["id"]),
        row["state"],
        row["kind"],
        row["reference"] or "",
        row["psp_reference"] or "",
        _side(row["ours"]),
        _side(row["theirs"]),
        row["source"],
    )


def _side(said: dict[str, Any] | None) -> str:
    if not said:
        return "nothing"
    amount = said.get("amount")
    text = money_text(amount["currency"], amount["value"]) if amount else ""
    return f"{said.get('state') or ''} {text}".strip()


def _change(difference_id: UUID, state: DifferenceState, by: str, note: str) -> None:
    with product() as counterfoil:
        row = DifferenceStore(counterfoil.database).change(difference_id, state, by=by, note=note)
    if row is None:
        raise NotFound(f"there is no difference {difference_id}; `counterfoil reconcile differences` lists them")
    say(f"{row['kind']} {row['reference'] or row['psp_reference'] or ''}: {row['state']}")


def _write(parts: Iterable[str], out: Path | None) -> None:
    target: Any = nullcontext(sys.stdout) if out is None else out.open("w", encoding="utf-8", newline="")
    with target as file:
        stream: IO[str] = file
        for part in parts:
            stream.write(part)
