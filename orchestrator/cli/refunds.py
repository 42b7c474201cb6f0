"""``refund`` and ``refunds list|show|check``: pay back, and see what became of it."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final
from uuid import UUID, uuid4

import typer
from rich.text import Text

from orchestrator.bootstrap import Counterfoil
from orchestrator.cli.output import clock, console, emit, money_text, say, table
from orchestrator.cli.payments import amount_of, line_cells
from orchestrator.cli.product import AsName, Json, OnlyMerchant, find, product
from orchestrator.cli.root import Exit, app
from orchestrator.cli.stopping import heard_between_looks
from orchestrator.errors import NotFound, StoreUnavailable
from orchestrator.evidence import CheckAsked
from orchestrator.model import State
from orchestrator.policy import DEFAULT_REFUND_SEND_BY_S, MAX_SEND_BY_S, MIN_SEND_BY_S
from orchestrator.refund_verdicts import refund_progress, refund_verdict
from orchestrator.refunds.model import RefundOutcome, RefundReason
from orchestrator.store.refunds import RefundFilter
from orchestrator.store.rows import Row
from orchestrator.views import line_json, refund_json

refunds = typer.Typer(help="What was paid back, and what became of it.", no_args_is_help=True)
app.add_typer(refunds, name="refunds")

Wanted = Annotated[str, typer.Argument(metavar="REFUND", help="A refund's id, or its reference: the latest of it.")]

_LOOK_EVERY_S: Final = 0.2
_LIST_DEFAULT: Final = 50
_PAGE_MAX: Final = 200

#: A refund that should have moved this long ago has nobody who works on it.
_NOBODY_WORKS_AFTER: Final = timedelta(seconds=30)


@app.command()
def refund(
    payment: Annotated[
        str, typer.Argument(metavar="ID|REFERENCE", help="A payment's id, or its reference: the latest of it.")
    ],
    reference: Annotated[str, typer.Option(help="The refund's own, as your books name it.")],
    by: AsName,
    *,
    amount: Annotated[
        str | None, typer.Option(help="In major units: 4.50; everything that is left otherwise.", show_default=False)
    ] = None,
    terminal: Annotated[
        str | None,
        typer.Option(metavar="POIID", help="Over this terminal; the payment's otherwise.", show_default=False),
    ] = None,
    merchant: OnlyMerchant = None,
    send_by_s: Annotated[
        int, typer.Option("--send-by-s", min=MIN_SEND_BY_S, max=MAX_SEND_BY_S, help="Seconds in which to send it.")
    ] = DEFAULT_REFUND_SEND_BY_S,
    idempotency_key: Annotated[
        str | None, typer.Option(help="Repeat with the same key to be sure of one refund.", show_default=False)
    ] = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until it was taken or refused.")] = True,
    as_json: Json = False,
) -> int:
    """Pay a payment back, in part or whole, to the card that paid it.

    That it was received is all that the terminal can say: whether it was paid out, the platform tells within days.
    Exit status: 0 received or paid back, 10 ended without, 20 not known yet, 1 refused.
    """
    key = idempotency_key or f"{by.encode('ascii', 'replace').decode()[:120]} at the command line, {uuid4()}"
    with product() as counterfoil:
        paid = find(counterfoil, payment, merchant)
        money = amount_of(amount, paid["currency"]) if amount is not None else _everything(counterfoil, paid)
        body = {"reference": reference, "amount": money, "send_by_s": send_by_s}
        body |= {"poi_id": terminal} if terminal else {}
        envelope = {"merchant_account": paid["merchant_account"], "idempotency_key": key}
        row = counterfoil.refund_intake.refund(paid["id"], body, envelope, by).row
        if wait:
            row = _followed(counterfoil, row, quietly=as_json)
    if as_json:
        emit(refund_json(row))
    else:
        console().print(Text(refund_verdict(row), style=f"bold {_style(row)}"))
        say(f"Follow it with `counterfoil refunds show {row['id']}`.")
    return exit_status(row) if wait else Exit.DONE


@refunds.command(name="list")
def list_refunds(
    *,
    payment: Annotated[
        str | None, typer.Option(metavar="ID|REFERENCE", help="Of this payment.", show_default=False)
    ] = None,
    merchant: OnlyMerchant = None,
    reference: Annotated[str | None, typer.Option(help="Of this name.", show_default=False)] = None,
    terminal: Annotated[
        str | None, typer.Option(metavar="POIID", help="Only over this terminal.", show_default=False)
    ] = None,
    state: Annotated[State | None, typer.Option(help="Where it is in its life.", show_default=False)] = None,
    outcome: Annotated[RefundOutcome | None, typer.Option(help="What became of it.", show_default=False)] = None,
    psp_reference: Annotated[str | None, typer.Option(help="The platform's.", show_default=False)] = None,
    limit: Annotated[int, typer.Option(min=1, max=_PAGE_MAX, help="How many at most.")] = _LIST_DEFAULT,
    as_json: Json = False,
) -> None:
    """List refunds, newest first; what is given narrows the list."""
    with product() as counterfoil:
        narrowed = RefundFilter(
            merchant_account=merchant,
            reference=reference,
            poi_id=terminal,
            state=state and state.value,
            outcome=outcome and outcome.value,
            psp_reference=psp_reference,
            payment_id=find(counterfoil, payment, merchant)["id"] if payment else None,
        )
        rows = counterfoil.refunds.many(narrowed, None, limit)
    if as_json:
        emit([refund_json(row) for row in rows])
        return
    heads = ("at", "reference", "terminal", "amount", "state", "verdict")
    table(heads, map(_line, rows), "No refund matches.")


@refunds.command()
def show(
    wanted: Wanted,
    merchant: OnlyMerchant = None,
    journal: Annotated[bool, typer.Option("--journal", help="Also why it says what it says.")] = False,
    as_json: Json = False,
) -> None:
    """Show a refund: what became of it, and with --journal the evidence, line by line."""
    with product() as counterfoil:
        row = _find(counterfoil, wanted, merchant)
        lines = counterfoil.refunds.journal(row["id"], 0, 10 * _PAGE_MAX) if journal else []
    if as_json:
        emit(refund_json(row) | ({"journal": [line_json(line) for line in lines]} if journal else {}))
        return
    console().print(Text(refund_verdict(row), style=f"bold {_style(row)}"))
    for name, value in _fields(row).items():
        if value:
            say(f"  {name:<16}  {value}")
    if journal:
        say("")
        heads = ("", "at", "evidence", "event", "state", "detail")
        table(heads, [line_cells(line) for line in lines], "No journal.")


@refunds.command()
def check(wanted: Wanted, by: AsName, merchant: OnlyMerchant = None, as_json: Json = False) -> None:
    """Ask the terminal now what became of a refund whose answer was lost. Harmless at any time."""
    with product() as counterfoil:
        row = _find(counterfoil, wanted, merchant)
        counterfoil.refund_recorder.record(row["id"], CheckAsked(asked_by=by))
        row = counterfoil.refunds.row(row["id"]) or row
    if as_json:
        emit(refund_json(row))
    else:
        say(f"{row['reference']}: {refund_verdict(row)}")


def exit_status(row: Row) -> Exit:
    """The verdict as an exit status. What was received is done, as far as anybody here can do it."""
    if row["outcome"] is None:
        return Exit.DONE if row["reason"] == RefundReason.RECEIVED else Exit.UNKNOWN
    return Exit.DONE if RefundOutcome(row["outcome"]).paid_back else Exit.NOT_CHARGED


def _style(row: Row) -> str:
    return {Exit.DONE: "green", Exit.NOT_CHARGED: "red"}.get(exit_status(row), "yellow")


def _everything(counterfoil: Counterfoil, paid: Row) -> dict[str, Any]:
    """What is left to pay back; of nothing, a cent is asked for, and refused with what is wrong."""
    open_ones = [row for row in counterfoil.refunds.of_payment(paid["id"]) if row["outcome"] is None]
    left = (paid["authorised_minor"] or 0) - paid["refunded_minor"] - sum(row["amount_minor"] for row in open_ones)
    return {"currency": paid["currency"], "value": max(1, left)}


def _followed(counterfoil: Counterfoil, row: Row, *, quietly: bool) -> Row:
    """Wait while it is on its way to the terminal, or until it is plain that nobody works on it."""
    said = ""
    with heard_between_looks() as pause:
        while row["state"] == State.PENDING and row["reason"] is None:
            text = refund_progress(row)
            if text != said and not quietly:
                say(text)
                said = text
            due = row["send_by"] if row["sent_at"] is None else row["answer_by"]
            if datetime.now(UTC) - due > _NOBODY_WORKS_AFTER:
                break
            pause(_LOOK_EVERY_S)
            try:
                row = counterfoil.refunds.row(row["id"]) or row
            except StoreUnavailable:
                continue  # the refund goes on, or waits, without us
    return row


def _find(counterfoil: Counterfoil, wanted: str, merchant: str | None) -> Row:
    try:
        row = counterfoil.refunds.row(UUID(wanted))
    except ValueError:
        row = None
    named = RefundFilter(reference=wanted, merchant_account=merchant)
    found = row or next(iter(counterfoil.refunds.many(named, None, 1)), None)
    if found is None:
        message = f"there is no refund with the id or reference {wanted!r}; `counterfoil refunds list` shows the latest"
        raise NotFound(message)
    return found


def _line(row: Row) -> tuple[Text, ...]:
    return (
        Text(clock(row["created_at"])),
        Text(row["reference"], overflow="fold"),
        Text(row["poi_id"]),
        Text(money_text(row["currency"], row["amount_minor"]), justify="right", no_wrap=True),
        Text(row["state"]),
        Text(refund_verdict(row), style=_style(row)),
    )


def _fields(row: Row) -> dict[str, str | None]:
    return {
        "id": str(row["id"]),
        "payment": str(row["payment_id"]) if row["payment_id"] else "none: to the card that was presented",
        "reference": row["reference"],
        "merchant account": row["merchant_account"],
        "terminal": row["poi_id"],
        "amount": money_text(row["currency"], row["amount_minor"]),
        "state": " ".join(filter(None, (row["state"], row["outcome"], row["reason"]))),
        "PSP reference": row["psp_reference"],
        "asked by": row["asked_by"],
        "approved by": row["approved_by"],
        "accepted": clock(row["created_at"]),
        "sent": clock(row["sent_at"]),
        "ended": clock(row["concluded_at"]),
        "reconciled": clock(row["reconciled_at"]),
    }
