"""``receipt``: what the terminal wants printed for a payment, on the screen or into a file."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.text import Text

from orchestrator.bootstrap import Counterfoil
from orchestrator.cli.output import console, emit, say
from orchestrator.cli.product import Json, OnlyMerchant, find, product
from orchestrator.cli.root import app
from orchestrator.errors import ConfigurationError, NotFound
from orchestrator.evidence import CheckAsked
from orchestrator.store.receipts import ReceiptStore
from orchestrator.store.rows import Row
from orchestrator.terminal_api.receipts import WIDTH_COLUMNS, as_html, as_text
from orchestrator.views import instant


@app.command()
def receipt(
    wanted: Annotated[
        str, typer.Argument(metavar="ID|REFERENCE", help="A payment's id, or its reference: the latest of it.")
    ],
    *,
    merchant: OnlyMerchant = None,
    copy: Annotated[
        Literal["customer", "cashier"] | None, typer.Option(help="Only this copy.", show_default=False)
    ] = None,
    width: Annotated[int, typer.Option(min=24, max=80, help="Columns of the paper.")] = WIDTH_COLUMNS,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write a page to print instead.", show_default=False)
    ] = None,
    reprint: Annotated[
        str | None,
        typer.Option(
            "--reprint-as", metavar="NAME", help="Have the terminal asked once more, by this name.", show_default=False
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Print a payment's receipts. They are kept where COUNTERFOIL_RECEIPTS says so."""
    with product() as counterfoil:
        row = find(counterfoil, wanted, merchant)
        if reprint is not None:
            _ask_again(counterfoil, row, reprint)
            return
        kept = ReceiptStore(counterfoil.database).of(row["id"])
        receipts = [each for each in (kept["receipts"] if kept else []) if copy in {None, each["copy"]}]
        if kept is None or not receipts:
            raise NotFound(_why_none(counterfoil, row, wanted))
    if as_json:
        emit({"at": instant(kept["at"]), "data": [{**each, "text": as_text(each, width)} for each in receipts]})
    elif html is not None:
        html.write_text(as_html(receipts, row["reference"]), encoding="utf-8")
        say(f"written to {html}")
    else:
        for number, each in enumerate(receipts):
            _print(each, width, apart=number > 0)


def _print(receipt: dict[str, Any], width: int, *, apart: bool) -> None:
    """Bold is bold on a screen, and stands between asterisks elsewhere."""
    if apart:
        say("")
    for line in as_text(receipt, width).splitlines():
        bold = console().is_terminal and line.startswith("*") and line.endswith("*")
        console().print(Text(f" {line[1:-1]}", style="bold") if bold else Text(line))


def _ask_again(counterfoil: Counterfoil, row: Row, by: str) -> None:
    if not counterfoil.settings.receipts:
        raise ConfigurationError("receipts are not kept; set COUNTERFOIL_RECEIPTS=true first")
    counterfoil.recorder.record(row["id"], CheckAsked(asked_by=by))
    say(f"{row['reference']}: the terminal is asked; see `counterfoil receipt {row['id']}` in a moment")


def _why_none(counterfoil: Counterfoil, row: Row, wanted: str) -> str:
    if not counterfoil.settings.receipts:
        return "no receipts are kept; set COUNTERFOIL_RECEIPTS=true for those to come"
    if row["outcome"] is None:
        return "the payment has not ended; its receipts come with its result"
    return f"there is no such receipt; `counterfoil receipt {wanted} --reprint-as NAME` asks the terminal once more"
