"""``pay``, ``show``, ``list``, ``watch``, ``check``, ``abort``: payments, straight from the database."""

from datetime import datetime
from typing import Annotated, Any, Final
from uuid import uuid4

import typer
from rich.text import Text

from orchestrator.bootstrap import Counterfoil
from orchestrator.cli.live import PAYMENT_HEADS, follow, follow_latest, payment_line
from orchestrator.cli.output import clock, console, emit, money_text, say, table
from orchestrator.cli.product import AsName, Json, Merchant, OnlyMerchant, find, merchant_account, product
from orchestrator.cli.root import Exit, app
from orchestrator.cli.verdict import exit_status, progress, style, verdict
from orchestrator.errors import AlreadyCharged, PaymentOpen
from orchestrator.evidence import AbortAsked, CheckAsked
from orchestrator.model import Outcome, State
from orchestrator.policy import DEFAULT_SEND_BY_S, MAX_SEND_BY_S, MIN_SEND_BY_S
from orchestrator.store.pages import Pages, PaymentFilter
from orchestrator.store.rows import Row
from orchestrator.terminal_api import money
from orchestrator.views import instant, payment_json

Wanted = Annotated[
    str, typer.Argument(metavar="ID|REFERENCE", help="A payment's id, or its reference: the latest of it.")
]
Override = Annotated[
    str | None,
    typer.Option(
        "--override-reason",
        help="Why to charge although an earlier payment of the reference is open or charged.",
        show_default=False,
    ),
]

_LIST_DEFAULT: Final = 50
_PAGE_MAX: Final = 200
_JOURNAL_PAGE: Final = 200


@app.command()
def pay(
    reference: Annotated[str, typer.Argument(help="The sale, as your books name it.")],
    poi_id: Annotated[str, typer.Argument(metavar="POIID", help="The terminal, such as V400m-324688170.")],
    amount: Annotated[str, typer.Argument(help="In major units: 10.50.")],
    currency: Annotated[str, typer.Argument(help="Three letters: EUR.")],
    by: AsName,
    *,
    merchant: Merchant = None,
    send_by_s: Annotated[
        int,
        typer.Option(
            "--send-by-s", min=MIN_SEND_BY_S, max=MAX_SEND_BY_S, help="Seconds in which to start, or not at all."
        ),
    ] = DEFAULT_SEND_BY_S,
    override_reason: Override = None,
    idempotency_key: Annotated[
        str | None, typer.Option(help="Repeat with the same key to be sure of one payment.", show_default=False)
    ] = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait for the outcome.")] = True,
    as_json: Json = False,
) -> int:
    """Take a payment at a terminal and wait for its outcome.

    Exit status: 0 charged, 10 ended without a charge, 20 not known yet, 1 refused.
    """
    body: dict[str, Any] = {"reference": reference, "poi_id": poi_id, "amount": amount_of(amount, currency)}
    body["send_by_s"] = send_by_s
    if override_reason is not None:
        body |= {"override_reason": override_reason, "override_by": by}
    account = merchant_account(merchant)
    key = idempotency_key or f"{by.encode('ascii', 'replace').decode()[:120]} at the command line, {uuid4()}"
    with product() as counterfoil:
        try:
            row = counterfoil.intake.submit(body, {"merchant_account": account, "idempotency_key": key}).row
        except (PaymentOpen, AlreadyCharged) as refused:
            refused.args = (f"{refused} See `counterfoil show {refused.payment_id}`; --override-reason overrides.",)
            raise
        if wait:
            row = _followed(counterfoil, row, quietly=as_json)
    return _told(row, as_json, waited=wait)


@app.command()
def watch(
    wanted: Annotated[
        str | None, typer.Argument(metavar="ID|REFERENCE", help="One payment; the latest ones otherwise.")
    ] = None,
    merchant: OnlyMerchant = None,
) -> int:
    """Watch a payment until it ends, or the latest ones until Ctrl-C. Exit status as of `pay`."""
    with product() as counterfoil:
        if wanted is None:
            follow_latest(counterfoil, merchant)
            return Exit.DONE
        row = _followed(counterfoil, find(counterfoil, wanted, merchant), quietly=False, to_the_end=True)
    return _told(row, as_json=False, waited=True)


@app.command()
def show(
    wanted: Wanted,
    merchant: OnlyMerchant = None,
    journal: Annotated[bool, typer.Option("--journal", help="Also why it says what it says.")] = False,
    as_json: Json = False,
) -> None:
    """Show a payment: what became of it, and with --journal the evidence, line by line."""
    with product() as counterfoil:
        row = find(counterfoil, wanted, merchant)
        pages = Pages(counterfoil.database)
        lines = _journal(pages, row) if journal else []
        same_sale = PaymentFilter(reference=row["reference"], merchant_account=row["merchant_account"])
        attempts = pages.payments(same_sale, None, _PAGE_MAX)
    if as_json:
        emit(payment_json(row) | ({"journal": [_line_json(line) for line in lines]} if journal else {}))
        return
    _show(row)
    if len(attempts) > 1:
        others = [str(each["id"]) for each in attempts if each["id"] != row["id"]]
        say(f"  other attempts  {', '.join(others)}")
    if journal:
        say("")
        heads = ("", "at", "evidence", "event", "state", "detail")
        table(heads, [line_cells(line) for line in lines], "No journal.")


@app.command(name="list")
def list_payments(
    *,
    merchant: OnlyMerchant = None,
    reference: Annotated[str | None, typer.Option(help="Of this sale.", show_default=False)] = None,
    sale_reference_id: Annotated[
        str | None, typer.Option(help="The parts of this split sale.", show_default=False)
    ] = None,
    terminal: Annotated[
        str | None, typer.Option(metavar="POIID", help="Only at this terminal.", show_default=False)
    ] = None,
    state: Annotated[State | None, typer.Option(help="Where it is in its life.", show_default=False)] = None,
    outcome: Annotated[Outcome | None, typer.Option(help="What became of it.", show_default=False)] = None,
    charged: Annotated[
        bool | None, typer.Option("--charged/--not-charged", help="Whether the money moved.", show_default=False)
    ] = None,
    psp_reference: Annotated[str | None, typer.Option(help="The platform's.", show_default=False)] = None,
    amount: Annotated[int | None, typer.Option(help="In minor units: 1050 for 10.50 EUR.", show_default=False)] = None,
    created_from: Annotated[
        datetime | None, typer.Option("--from", help="Accepted from this on, in local time.", show_default=False)
    ] = None,
    created_to: Annotated[
        datetime | None, typer.Option("--to", help="Before this, in local time.", show_default=False)
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many at most.")] = _LIST_DEFAULT,
    as_json: Json = False,
) -> None:
    """List payments, newest first; what is given narrows the list."""
    narrowed = PaymentFilter(
        merchant_account=merchant,
        reference=reference,
        sale_reference_id=sale_reference_id,
        poi_id=terminal,
        state=state,
        outcome=outcome,
        charged=charged,
        psp_reference=psp_reference,
        amount_minor=amount,
        created_from=created_from and created_from.astimezone(),
        created_to=created_to and created_to.astimezone(),
    )
    rows: list[Row] = []
    with product() as counterfoil:
        pages = Pages(counterfoil.database)
        while len(rows) < limit:
            page = pages.payments(narrowed, rows[-1]["number"] if rows else None, min(_PAGE_MAX, limit - len(rows)))
            rows += page
            if not page:
                break
    if as_json:
        emit([payment_json(row) for row in rows])
        return
    table(PAYMENT_HEADS, map(payment_line, rows), "No payment matches.")


@app.command()
def check(wanted: Wanted, by: AsName, merchant: OnlyMerchant = None, as_json: Json = False) -> None:
    """Ask the terminal now what became of a payment. Harmless at any time."""
    with product() as counterfoil:
        row = find(counterfoil, wanted, merchant)
        counterfoil.recorder.record(row["id"], CheckAsked(asked_by=by))
        row = counterfoil.store.row(row["id"])
    _asked(row, "a status check is on its way", as_json)


@app.command()
def abort(wanted: Wanted, by: AsName, merchant: OnlyMerchant = None, as_json: Json = False) -> None:
    """Ask for a payment to be stopped. Whether it was, only its own result tells."""
    with product() as counterfoil:
        row = find(counterfoil, wanted, merchant)
        counterfoil.recorder.record(row["id"], AbortAsked(asked_by=by))
        row = counterfoil.store.row(row["id"])
    _asked(row, "it was asked to stop; wait for its outcome", as_json)


def amount_of(text: str, currency: str) -> dict[str, Any]:
    """An amount in major units, as a submission has it. A wrong one is a mistake of usage."""
    code = currency.upper()
    try:
        places = money.decimals(code)
    except money.InvalidAmount:
        raise typer.BadParameter(f"{currency!r} is not a currency that the platform lists, such as EUR") from None
    try:
        return {"currency": code, "value": money.from_major(text, code).minor}
    except money.InvalidAmount:
        example = "10" if places == 0 else f"10.{'50'.ljust(places, '0')}"
        raise typer.BadParameter(f"{text!r} is not an amount of {code}; write it like {example}") from None


def _followed(counterfoil: Counterfoil, row: Row, *, quietly: bool, to_the_end: bool = False) -> Row:
    try:
        return follow(counterfoil, row, quietly=quietly, to_the_end=to_the_end)
    except KeyboardInterrupt:
        typer.echo(f"The payment goes on without us: `counterfoil watch {row['id']}`.", err=True)
        raise


def _told(row: Row, as_json: bool, *, waited: bool) -> int:
    """Tell how it stands; the exit status says the same."""
    if as_json:
        emit(payment_json(row))
    elif waited:
        console().print(Text(verdict(row), style=f"bold {style(row)}"))
        if row["outcome"] is None:
            say(f"Follow it with `counterfoil watch {row['id']}`.")
    else:
        say(f"accepted as {row['id']}: {progress(row)}")
    return exit_status(row) if waited else Exit.DONE


def _asked(row: Row, sentence: str, as_json: bool) -> None:
    if as_json:
        emit(payment_json(row))
    elif row["outcome"] is None:
        say(f"{row['reference']}: {sentence}: `counterfoil watch {row['id']}`")
    else:
        say(f"{row['reference']}: {verdict(row)}")


def _show(row: Row) -> None:
    console().print(Text(verdict(row), style=f"bold {style(row)}"))
    fields = {
        "id": str(row["id"]),
        "reference": row["reference"],
        "merchant account": row["merchant_account"],
        "terminal": row["poi_id"],
        "amount": money_text(row["currency"], row["amount_minor"]),
        "state": " ".join(filter(None, (row["state"], row["outcome"], row["reason"]))),
        **_particulars(payment_json(row)),
        "PSP reference": row["psp_reference"],
        "tender": row["tender_reference"],
        "accepted": clock(row["created_at"]),
        "sent": clock(row["sent_at"]),
        "answer by": clock(row["answer_by"]) if row["outcome"] is None else None,
        "ended": clock(row["concluded_at"]),
        "reconciled": clock(row["reconciled_at"]),
        "late": "its result came after it was taken for not performed" if row["late"] else None,
    }
    for name, value in fields.items():
        if value:
            say(f"  {name:<16}  {value}")


def _particulars(shown: dict[str, Any]) -> dict[str, str | None]:
    """What the terminal said beside its result."""
    extras = ", ".join(f"{name} {_money(shown[name])}" for name in ("tip", "cashback", "surcharge") if shown[name])
    card, dcc = shown["card"] or {}, shown["dcc"]
    return {
        "of which": extras,
        "converted": dcc and f"{_money(dcc['amount'])}{'' if dcc['accepted'] else ', declined'}",
        "card": " ".join(filter(None, (card.get("brand"), card.get("last4"), card.get("entry_mode")))),
        "authorisation": shown["auth_code"],
        "refused": shown["refusal_reason"],
        "signature": {"captured": "on the screen", "required": "on the cashier's receipt"}.get(
            shown["signature"] or ""
        ),
        "split sale": shown["sale_reference_id"],
    }


def _money(amount: dict[str, Any]) -> str:
    return money_text(amount["currency"], amount["value"])


def _journal(pages: Pages, row: Row) -> list[Row]:
    lines: list[Row] = []
    while page := pages.journal(row["id"], lines[-1]["sequence"] if lines else 0, _JOURNAL_PAGE):
        lines += page
    return lines


def _line_json(line: Row) -> dict[str, Any]:
    names = ("sequence", "evidence", "event", "before", "after", "detail", "hash")
    return {"at": instant(line["at"])} | {name: line[name] for name in names}


def _plain(value: Any) -> str:
    """What a detail says, as a person reads it."""
    match value:
        case {"minor": int(minor), "currency": str(currency)}:
            return money_text(currency, minor)
        case dict():
            return " ".join(f"{name} {_plain(inner)}" for name, inner in value.items())
        case list():
            return " ".join(map(_plain, value))
        case _:
            return str(value)


def line_cells(line: Row) -> tuple[str, ...]:
    """A journal line as a line of a table."""
    moved = line["after"] if line["before"] in {None, line["after"]} else f"{line['before']} → {line['after']}"
    detail = line["detail"] or {}
    shown = ", ".join(f"{name} {_plain(value)}" for name, value in detail.items() if value not in (None, "", [], {}))
    return (
        str(line["sequence"]),
        line["at"].astimezone().strftime("%H:%M:%S.%f")[:-3],
        line["evidence"],
        line["event"],
        moved,
        "".join(c for c in shown if c.isprintable()),
    )
