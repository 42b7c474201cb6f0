"""``counterfoil db``: bring the schema up to date, and say whether it is; copies of the database, and back."""

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Final

import typer

from config.logs import configure_logs
from config.settings import settings
from orchestrator.bootstrap import urls
from orchestrator.cli.output import say
from orchestrator.cli.root import Exit, app
from orchestrator.embedded import EmbeddedError, EmbeddedServers, locate
from orchestrator.embedded.postgres import programs
from orchestrator.errors import ConfigurationError
from orchestrator.store import backup, revisions, schema

_MEGABYTE: Final = 1_000_000

db = typer.Typer(help="The database: its schema, its copies.", no_args_is_help=True)
app.add_typer(db, name="db")


@db.command()
def upgrade() -> None:
    """Apply every migration that is missing, and make the first tag key. Old processes may run meanwhile.

    It never waits long for a table, since payments would wait behind it; it gives way, and tries again for two minutes.
    """
    configure_logs(settings().log_format, level=logging.WARNING)
    revision = schema.upgrade(urls(settings()).database)
    later = f", later than this release's {revisions.newest()}; we run on it" if revisions.is_later(revision) else ""
    say(f"the schema is at revision {revision}{later}")


@db.command()
def check() -> int:
    """Compare the schema with what this release needs; exit status 1 when they differ."""
    configure_logs(settings().log_format, level=logging.WARNING)
    difference = schema.differences(urls(settings()).database)
    say(f"{difference}; run `counterfoil db upgrade`" if difference else "the schema is what this release needs")
    return Exit.ERROR if difference else Exit.DONE


@db.command()
def rotate_tag_key() -> None:
    """Make a new key for the tag that results are recognised by; every process signs with it within a minute.

    Older ones go on verifying, and are dropped by the first rotation that is more than three days after theirs.
    """
    configure_logs(settings().log_format, level=logging.WARNING)
    if settings().tag_keys:
        raise ConfigurationError("the tag keys are those of COUNTERFOIL_TAG_KEYS; put a new one in front of them there")
    still = schema.rotate_tag_key(urls(settings()).database)
    say(f"a new tag key signs; {still} older still verif{'ies' if still == 1 else 'y'}")


@db.command("backup")
def back_up(file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to; it must not be there yet.")]) -> None:
    """Copy the whole database, as it is now, into a file; everything may go on meanwhile.

    The file holds every secret that the database holds, so only you can read it. It needs the programs of PostgreSQL,
    which come along where its server does.
    """
    configure_logs(settings().log_format, level=logging.WARNING)
    with _database() as url:
        backup.back_up(url, file, _programs())
    say(f"{file}: {file.stat().st_size / _MEGABYTE:.1f} MB; payments that are taken from now on are not in it")


@db.command()
def restore(file: Annotated[Path, typer.Argument(metavar="FILE", help="What `db backup` wrote.")]) -> None:
    """Bring a copy into an empty database, with every terminal held. Stop every process first.

    What waits in the copy may have been sent since, so nothing starts by itself: reconcile, then release the terminals.
    """
    configure_logs(settings().log_format, level=logging.WARNING)
    with _database() as url:
        backup.restore(url, file, _programs())
        revision = schema.upgrade(url)
    say(f"restored, schema at revision {revision}; every terminal is held")
    say("next: `counterfoil journal verify --all`, then docs/operations.md; then release the terminals")


@contextmanager
def _database() -> Iterator[str]:
    """The database of the settings; the embedded server is started for it unless it runs."""
    chosen = settings()
    running = None if chosen.database_url else locate(chosen.data_dir)
    if url := chosen.database_url or (running and running[0]):
        yield url
        return
    try:
        servers = EmbeddedServers(chosen.data_dir)
        servers.start()
    except EmbeddedError as error:
        raise ConfigurationError(str(error)) from None
    try:
        yield servers.database_url
    finally:
        servers.stop()


def _programs() -> list[backup.Programs]:
    """PostgreSQL's programs on the PATH, and those that come with the embedded server."""
    found = shutil.which("pg_dump")
    folders = [Path(found).resolve().parent, Path(found).parent] if found else []
    with suppress(EmbeddedError):  # not installed
        folders.append(programs())
    return backup.installed(folders)
