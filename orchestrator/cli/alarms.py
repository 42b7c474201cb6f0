"""``counterfoil alarms``: what a person has to look at, and that one did."""

from typing import Annotated

import typer

from orchestrator.cli.output import clock, emit, say, table
from orchestrator.cli.product import AsName, Json, OnlyMerchant, product
from orchestrator.cli.root import Exit, app
from orchestrator.meaning import Alarm
from orchestrator.store.alarms import AlarmStore
from orchestrator.store.rows import Row
from orchestrator.views import alarm_json

alarms = typer.Typer(help="What a person has to look at; the runbook has a section for each.", no_args_is_help=True)
app.add_typer(alarms, name="alarms")


@alarms.command(name="list")
def list_alarms(
    merchant: OnlyMerchant = None,
    name: Annotated[Alarm | None, typer.Option("--name", help="Only those of this name.")] = None,
    closed_too: Annotated[bool, typer.Option("--all", help="Those that were closed, too.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=500, help="At most this many, newest first.")] = 50,
    as_json: Json = False,
) -> None:
    """List open alarms, newest first."""
    with product() as counterfoil:
        store = AlarmStore(counterfoil.database)
        rows = store.many(name and name.value, closed_too=closed_too, limit=limit, merchant_account=merchant)
    if as_json:
        emit([alarm_json(row) for row in rows])
        return
    heads = ("id", "alarm", "since", "reference", "payment or refund", "terminal", "closed")
    table(heads, map(_line, rows), "Nothing is waiting for a person.")


@alarms.command()
def close(
    alarm_ids: Annotated[list[int], typer.Argument(metavar="ID...", help="As `alarms list` shows them.")],
    by: AsName,
    reason: Annotated[str, typer.Option("--reason", help="What was found, and done.", show_default=False)],
) -> int:
    """Say that these were seen to; it moves nothing else."""
    with product() as counterfoil:
        closed = AlarmStore(counterfoil.database).close(alarm_ids, by, reason)
    left = [str(each) for each in alarm_ids if each not in closed]
    if left:
        say(f"not open: {', '.join(left)}")
    say(f"{len(closed)} closed by {by}")
    return Exit.ERROR if left else Exit.DONE


def _line(row: Row) -> tuple[str, ...]:
    closed = f"{clock(row['closed_at'])} {row['closed_by'] or ''}".strip() if row["closed_at"] else "-"
    subject = str(row["refund_id"] or row["payment_id"] or "-")
    return str(row["id"]), row["name"], clock(row["at"]), row["reference"] or "-", subject, row["poi_id"] or "-", closed
