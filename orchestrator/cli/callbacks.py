"""``counterfoil callbacks``: what callers were told, and telling it again."""

from typing import Annotated
from uuid import UUID

import typer

from orchestrator.cli.output import clock, emit, say, table
from orchestrator.cli.product import Json, Merchant, product
from orchestrator.cli.root import app
from orchestrator.errors import NotFound
from orchestrator.store.rows import Row
from orchestrator.views import telling_json

callbacks = typer.Typer(help="What callers were told, and what is parked.", no_args_is_help=True)
app.add_typer(callbacks, name="callbacks")


@callbacks.command(name="list")
def list_callbacks(
    merchant: Merchant = None,
    parked: Annotated[bool, typer.Option("--parked", help="Only those that were given up.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=500, help="At most this many, newest first.")] = 50,
    as_json: Json = False,
) -> None:
    """List callbacks, newest first."""
    with product() as counterfoil:
        rows = counterfoil.tellings.many(merchant, parked=parked or None, before=None, limit=limit)
    if as_json:
        emit([telling_json(row) for row in rows])
        return
    heads = ("id", "event", "reference", "at", "attempts", "became", "last")
    table(heads, map(_line, rows), "Nobody was told anything; COUNTERFOIL_CALLBACK_URL says where callers listen.")


@callbacks.command()
def redeliver(callback_id: Annotated[UUID, typer.Argument(metavar="ID", help="As `callbacks list` shows it.")]) -> None:
    """Tell it again now, whatever became of it; under the same id, so that a receiver knows it."""
    with product() as counterfoil:
        ring = counterfoil.tellings.redeliver(callback_id, None)
        if ring is None:
            raise NotFound(
                f"there is no callback {callback_id}, or retention emptied it; "
                "`counterfoil callbacks list` shows the latest"
            )
        counterfoil.bell([ring])
    say(f"callback {callback_id} is told again")


def _line(row: Row) -> tuple[str, ...]:
    last = " ".join(str(part) for part in (row["last_status"], row["last_error"]) if part is not None)
    return (
        str(row["id"]),
        row["type"],
        str(row["data"].get("reference", "")),
        clock(row["at"]),
        str(row["attempts"]),
        _became(row),
        last,
    )


def _became(row: Row) -> str:
    if row["delivered_at"]:
        return f"delivered {clock(row['delivered_at'])}"
    if row["parked_at"]:
        return f"parked {clock(row['parked_at'])}"
    return f"due {clock(row['next_at'])}"
