"""``counterfoil rule``: a person settles an unknown."""

from typing import Annotated, Final

import typer

from orchestrator.cli.output import emit, say
from orchestrator.cli.payments import Wanted, amount_of
from orchestrator.cli.product import AsName, Json, OnlyMerchant, find, product
from orchestrator.cli.root import Exit, app
from orchestrator.cli.verdict import exit_status, verdict
from orchestrator.errors import ConfigurationError
from orchestrator.model import Outcome
from orchestrator.ruling import Person, Verdict
from orchestrator.views import payment_json

_REASON_MIN_CHARS: Final = 3
_REASON_MAX_CHARS: Final = 500


@app.command()
def rule(
    wanted: Wanted,
    outcome: Annotated[Outcome, typer.Argument(help="What became of the money, as you know it.")],
    by: AsName,
    *,
    reason: Annotated[str, typer.Option(help="What you know, and from where; it stays in the journal.")],
    sequence: Annotated[int, typer.Option(min=1, help="The payment's sequence as `counterfoil show --json` gave it.")],
    authorised: Annotated[
        str | None, typer.Option(help="What was charged, in major units, where it was not the whole.")
    ] = None,
    merchant: OnlyMerchant = None,
    as_json: Json = False,
) -> int:
    """Settle a payment that is unknown. Above COUNTERFOIL_RULING_SECOND_ABOVE a second person repeats it.

    The terminal and the books go on being heard: what contradicts a ruling opens it again, with an alarm.
    """
    if not _REASON_MIN_CHARS <= len(reason) <= _REASON_MAX_CHARS or not reason.isprintable():
        raise ConfigurationError(f"--reason: has {_REASON_MIN_CHARS} to {_REASON_MAX_CHARS} characters on one line")
    with product() as counterfoil:
        row = find(counterfoil, wanted, merchant)
        minor = None if authorised is None else amount_of(authorised, row["currency"])["value"]
        person = Person(f"command line: {by}", by)
        decision = counterfoil.rulings.rule(row["id"], Verdict(outcome, reason, sequence, minor), person)
        row = counterfoil.store.row(row["id"])
    if as_json:
        emit(payment_json(row) | {"waits_for_second_person": decision is None})
    elif decision is None:
        say("A second person has to repeat this, under another name, before it counts.")
    else:
        say(verdict(row))
    return Exit.UNKNOWN if decision is None else exit_status(row)
