"""``counterfoil retention``: expunge what is left of payloads, and keep the proof."""

from typing import Annotated

import typer

from config.settings import settings
from orchestrator.cli.output import emit, say
from orchestrator.cli.product import Json, account_name, product
from orchestrator.cli.root import Exit, app
from orchestrator.store.retention import Expunged, RetentionBusy, RetentionStore
from orchestrator.views import instant

retention = typer.Typer(help="What is left of payloads, and how long.", no_args_is_help=True)
app.add_typer(retention, name="retention")


@retention.callback()
def _group() -> None:
    """What is left of payloads, and how long."""


@retention.command()
def run(
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count; nothing changes.")] = False,
    as_json: Json = False,
) -> int:
    """Expunge what is older than COUNTERFOIL_RETENTION_DAYS; exit status 30 when a journal is broken.

    The worker does the same each night. Safe to repeat, and to interrupt: the next run goes on where this one ended.
    """
    with product() as counterfoil:
        try:
            days = settings().retention_days
            expunged = RetentionStore(counterfoil.database).run(days, account_name(), dry_run=dry_run)
        except RetentionBusy:
            say("Another run is going on; look again when it is done.")
            return Exit.ERROR
    if as_json:
        broken = [str(each) for each in expunged.broken]
        emit({"cutoff": instant(expunged.cutoff), "dry_run": dry_run, "expunged": expunged.counts, "broken": broken})
    else:
        _tell(expunged, dry_run=dry_run)
    return Exit.DIFFERENCES if expunged.broken else Exit.DONE


def _tell(expunged: Expunged, *, dry_run: bool) -> None:
    if expunged.cutoff is None:
        say("COUNTERFOIL_RETENTION_DAYS is not set: only what has a term of its own goes.")
    else:
        say(f"Older than {instant(expunged.cutoff)}, and what has a term of its own:")
    for name, count in expunged.counts.items():
        say(f"{count:>12} {name.replace('_', ' ')}{' would go' if dry_run else ''}")
    for each in expunged.broken:
        say(f"{each}: its journal is broken, and was left as it is; see `counterfoil journal verify`")
