"""``counterfoil journal verify``: prove that no line of a journal was changed, and that it explains its payment."""

from collections.abc import Iterator
from typing import Annotated
from uuid import UUID

import typer

from orchestrator.bootstrap import Counterfoil
from orchestrator.cli.output import emit, say
from orchestrator.cli.product import Json, find, product
from orchestrator.cli.root import Exit, app

journal = typer.Typer(help="The hash-chained journals of payments and refunds.", no_args_is_help=True)
app.add_typer(journal, name="journal")


@journal.command()
def verify(
    payment: Annotated[
        str | None, typer.Option(metavar="ID|REFERENCE", help="One payment's journal.", show_default=False)
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Every payment's journal, and every refund's.")] = False,
    as_json: Json = False,
) -> int:
    """Verify the hash chain of one payment or of all, and of their refunds; exit status 30 when one is broken."""
    if (payment is None) is not every:
        raise typer.BadParameter("name one payment with --payment, or all of them with --all")
    broken: dict[str, list[str]] = {}
    count = 0
    with product() as counterfoil:
        for payment_id, problems in _verified(counterfoil, payment):
            count += 1
            if problems:
                broken[str(payment_id)] = problems
                if not as_json:
                    say("\n".join(f"{payment_id}: {problem}" for problem in problems))
        expunged, lines = _expunged(counterfoil, payment)
    if as_json:
        emit({"verified": count, "broken": broken, "expunged": expunged, "expunged_lines": lines})
        return Exit.DIFFERENCES if broken else Exit.DONE
    say(f"{count} verified, {len(broken)} broken" if broken else f"{count} verified, all whole")
    if expunged:
        say(f"Retention has expunged what {expunged} lines rest on; they were verified by their hashes alone.")
    for each, numbers in (lines or {}).items():
        say(f"{each}: lines {', '.join(map(str, numbers))}")
    return Exit.DIFFERENCES if broken else Exit.DONE


def _verified(counterfoil: Counterfoil, payment: str | None) -> Iterator[tuple[UUID, list[str]]]:
    from orchestrator.store.chain import verify_all, verify_chain
    from orchestrator.store.refund_chain import verify_refunds

    if payment is None:
        yield from verify_all(counterfoil.database, counterfoil.policy)
        yield from verify_refunds(counterfoil.database, counterfoil.policy)
        return
    payment_id: UUID = find(counterfoil, payment)["id"]
    yield payment_id, verify_chain(counterfoil.database, payment_id, counterfoil.policy)
    yield from verify_refunds(counterfoil.database, counterfoil.policy, payment_id)


def _expunged(counterfoil: Counterfoil, payment: str | None) -> tuple[int, dict[str, list[int]] | None]:
    """How many lines have lost what they rest on to retention; of one payment and its refunds also which."""
    from orchestrator.store.retention import RetentionStore

    store = RetentionStore(counterfoil.database)
    if payment is None:
        return store.emptied_lines(), None
    lines = {str(each): numbers for each, numbers in store.emptied_lines_of(find(counterfoil, payment)["id"]).items()}
    return sum(map(len, lines.values())), lines
