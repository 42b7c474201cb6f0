"""``counterfoil webhooks``: what the platform's books said, and what nobody could believe."""

from typing import Annotated

import typer

from orchestrator.cli.output import clock, emit, money_text, say, table
from orchestrator.cli.product import Json, OnlyMerchant, product
from orchestrator.cli.root import Exit, app
from orchestrator.errors import NotFound
from orchestrator.store.rows import Row
from orchestrator.store.words import Became
from orchestrator.views import webhook_json

webhooks = typer.Typer(help="Standard webhooks: what came, and the quarantine.", no_args_is_help=True)
app.add_typer(webhooks, name="webhooks")

Limit = Annotated[int, typer.Option(min=1, max=500, help="At most this many, newest first.")]


@webhooks.command(name="list")
def list_webhooks(
    merchant: OnlyMerchant = None,
    became: Annotated[Became | None, typer.Option(help="Only those of which this became.", show_default=False)] = None,
    unprocessed: Annotated[bool, typer.Option("--unprocessed", help="Only those that are not processed.")] = False,
    limit: Limit = 50,
    as_json: Json = False,
) -> None:
    """List webhooks, newest first, with what became of each."""
    with product() as counterfoil:
        rows = counterfoil.webhooks.store.many(merchant, became=became, unprocessed=unprocessed, limit=limit)
    if as_json:
        emit([webhook_json(row) for row in rows])
        return
    heads = ("number", "event", "success", "reference", "PSP reference", "amount", "happened", "times", "became")
    table(heads, map(_line, rows), "No webhooks; docs/webhooks.md says which to switch on, and where.")


@webhooks.command()
def quarantine(limit: Limit = 50, as_json: Json = False) -> None:
    """List the bodies that no key of ours signed, newest first; never what they hold."""
    with product() as counterfoil:
        rows = counterfoil.webhooks.store.quarantined(limit)
    if as_json:
        emit(rows)
        return
    heads = ("digest", "bytes", "times", "first", "last", "signature")
    lines = [
        (
            row["digest"][:16],
            str(row["size_bytes"]) if row["replayable"] else "",
            str(row["times"]),
            clock(row["first_at"]),
            clock(row["last_at"]),
            ("in the header" if row["header"] else "in the items") if row["replayable"] else "none",
        )
        for row in rows
    ]
    table(heads, lines, "The quarantine is empty.")


@webhooks.command()
def replay(
    number: Annotated[
        int | None,
        typer.Argument(
            metavar="[NUMBER]", help="One webhook, as `webhooks list` shows it, also when it was processed."
        ),
    ] = None,
) -> None:
    """Try the quarantine with the keys of now, and process what was not. Repeating it is harmless."""
    with product() as counterfoil:
        if number is not None:
            done = counterfoil.webhooks.process_again(number)
            if done is None:
                raise NotFound(f"there is no webhook {number}; `counterfoil webhooks list` shows the latest")
            say(f"webhook {number} was processed" if done else f"webhook {number} cannot be processed; see the log")
            raise typer.Exit(Exit.DONE if done else Exit.ERROR)
        found = counterfoil.webhooks.replay()
    say(
        f"{found.released} of {found.released + found.refused} bodies in the quarantine are signed and were taken; "
        f"{found.processed} of {found.processed + found.failed} webhooks that were left were processed"
    )
    raise typer.Exit(Exit.ERROR if found.failed else Exit.DONE)


def _line(row: Row) -> tuple[str, ...]:
    success = row["success"]
    return (
        str(row["number"]),
        row["event_code"],
        "" if success is None else str(success).lower(),
        row["reference"] or "",
        row["psp_reference"] or "",
        "" if row["currency"] is None else money_text(row["currency"], row["amount_minor"]),
        clock(row["happened_at"]),
        str(row["times"]),
        row["became"] or ("failed" if row["failed_at"] else "not processed"),
    )
