"""Copies of the whole database in a file, and back, by PostgreSQL's own programs.

A copy is of one instant. What was sent after it is not in it, and the platform does not forget: a payment that waits in
the copy may have been sent, and charged, since. So bringing a copy back holds every terminal, in the same database
transaction: nothing starts before somebody has looked.
"""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.rows import dict_row

from orchestrator.errors import ConfigurationError, Defect, StoreUnavailable
from orchestrator.store.database import connect_arguments

HELD_BY: Final = "counterfoil db restore"
HELD_BECAUSE: Final = "restored from a backup: release it when what was sent since is known"

_CONNECT_TIMEOUT_S: Final = 5
#: A table that somebody locks for longer is not waited for: the copy is taken again later.
_LOCK_WAIT: Final = "10s"
#: From this release on, a copy begins with a setting that older servers do not know.
_TRANSACTION_TIMEOUT_SINCE: Final = 17
_UNKNOWN_SETTING: Final = b"SET transaction_timeout = 0;\n"
#: That setting stands among the first lines.
_BEGINNING_BYTES: Final = 64 * 1024
_SAID_CHARS: Final = 300

_SERVER: Final = """
SELECT current_setting('server_version_num')::int / 10000 AS version,
    (SELECT count(*) FROM pg_catalog.pg_tables WHERE schemaname = 'public') AS tables,
    (SELECT count(*) FROM pg_catalog.pg_stat_activity
     WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend') AS others
"""
_HOLD: Final = f"""
UPDATE public.terminals SET held_at = now(), held_by = '{HELD_BY}', hold_reason = '{HELD_BECAUSE}'
WHERE removed_at IS NULL AND held_at IS NULL;
COMMIT;
"""


@dataclass(frozen=True, slots=True)
class Programs:
    """A folder with ``pg_dump``, ``pg_restore`` and ``psql``, and their release."""

    folder: Path
    version: int


def installed(folders: Iterable[Path]) -> list[Programs]:
    """Those of these folders that have the programs."""
    found = []
    for folder in folders:
        with suppress(OSError, subprocess.SubprocessError):
            said = subprocess.run(
                [folder / "pg_dump", "--version"], check=True, capture_output=True, text=True, env=_environment({})
            )
            if version := re.search(r"\b(\d+)[.\w]*", said.stdout):
                found.append(Programs(folder, int(version[1])))
    return found


def back_up(database_url: str, file: Path, programs: Iterable[Programs]) -> None:
    """Copy the database into a file that nobody else can read; the file appears when it is whole.

    Raises:
        ConfigurationError: the file is there already, or no program is new enough for the server.
        StoreUnavailable: the database does not answer, or a table stayed locked.
    """
    if file.exists():
        raise ConfigurationError(f"{file} is there already; name another file")
    server = _server(database_url)
    if not server["tables"]:
        raise ConfigurationError("the database is empty: there is nothing to copy")
    chosen = min(_suitable(programs, server["version"]), key=lambda each: each.version)  # nearest to the server
    connection, environment = _connection(database_url)
    descriptor, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")  # mode 0600
    os.close(descriptor)
    fresh = Path(name)
    try:
        command = [str(chosen.folder / "pg_dump"), "--format=custom", "--no-owner", "--no-privileges"]
        command += [f"--lock-wait-timeout={_LOCK_WAIT}", f"--file={fresh}", f"--dbname={connection}"]
        done = subprocess.run(command, env=environment, capture_output=True, check=False)
        if done.returncode != 0:
            raise StoreUnavailable(f"the database could not be copied: {_said(done.stderr)}")
        _sync(fresh)
        fresh.rename(file)
    finally:
        fresh.unlink(missing_ok=True)


def restore(database_url: str, file: Path, programs: Iterable[Programs]) -> None:
    """Bring a copy into an empty database, with every terminal held; all of it or nothing.

    Raises:
        ConfigurationError: the database is not empty, somebody else is connected, or the file is no copy.
        StoreUnavailable: the database does not answer.
    """
    if not file.is_file():
        raise ConfigurationError(f"{file} is no file")
    server = _server(database_url)
    if server["tables"]:
        raise ConfigurationError("the database is not empty; name an empty one in COUNTERFOIL_DATABASE_URL")
    if server["others"]:
        raise ConfigurationError(f"{server['others']} others are connected to the database; stop every process first")
    chosen = max(_suitable(programs, server["version"]), key=lambda each: each.version)  # reads older copies too
    connection, environment = _connection(database_url)
    with tempfile.TemporaryFile() as reading_said, tempfile.TemporaryFile() as writing_said:
        reading = subprocess.Popen(
            [chosen.folder / "pg_restore", "--no-owner", "--no-privileges", "--file=-", file],
            stdout=subprocess.PIPE,
            stderr=reading_said,
            env=environment,
        )
        writing = subprocess.Popen(
            [chosen.folder / "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", f"--dbname={connection}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=writing_said,
            env=environment,
        )
        with suppress(BrokenPipeError):  # psql ended at the first error, and has said why
            _pour(reading, writing, server["version"])
        reading.kill()  # ended, unless nobody takes what it has to say
        reading.wait()
        if writing.wait() != 0:
            writing_said.seek(0)
            raise StoreUnavailable(f"nothing was restored: {_said(writing_said.read())}")
        if reading.returncode != 0:
            reading_said.seek(0)
            raise ConfigurationError(f"nothing was restored, {file} is no copy: {_said(reading_said.read())}")


def _pour(reading: subprocess.Popen[bytes], writing: subprocess.Popen[bytes], server_version: int) -> None:
    """Everything from the one to the other; committed only when all of it came, with the terminals held."""
    source, sink = reading.stdout, writing.stdin
    if source is None or sink is None:
        raise Defect("both were asked for as pipes")
    with source, sink:
        sink.write(b"BEGIN;\n")
        beginning = source.read(_BEGINNING_BYTES)
        if server_version < _TRANSACTION_TIMEOUT_SINCE:
            beginning = beginning.replace(_UNKNOWN_SETTING, b"", 1)
        sink.write(beginning)
        shutil.copyfileobj(source, sink)
        if reading.wait() == 0:
            sink.write(_HOLD.encode())


def _server(database_url: str) -> dict[str, Any]:
    connection, _ = _connection(database_url, with_password=True)
    try:
        with psycopg.connect(connection, connect_timeout=_CONNECT_TIMEOUT_S, row_factory=dict_row) as asked:
            return asked.execute(_SERVER).fetchone() or {}
    except psycopg.OperationalError:
        message = "the database does not answer at COUNTERFOIL_DATABASE_URL; see that it runs and lets us in"
        raise StoreUnavailable(message) from None


def _suitable(programs: Iterable[Programs], server_version: int) -> list[Programs]:
    """Those that are not older than the server."""
    new_enough = [each for each in programs if each.version >= server_version]
    if not new_enough:
        raise ConfigurationError(
            f"pg_dump, pg_restore and psql of PostgreSQL {server_version} or newer are needed and not on the PATH;"
            " run them where the database is: docs/operations.md says how"
        )
    return new_enough


def _connection(database_url: str, *, with_password: bool = False) -> tuple[str, dict[str, str]]:
    """How libpq is told of a database: in words for the command line, and the password apart, which `ps` would show."""
    named = connect_arguments(database_url)
    password = None if with_password else named.pop("password", None)
    return make_conninfo("", **named), _environment({"PGPASSWORD": password} if password else {})


def _environment(more: dict[str, str]) -> dict[str, str]:
    return {"LC_ALL": "C", "TZ": "UTC", "PATH": os.defpath, **more}


def _said(error: bytes) -> str:
    """The first line of what a program complained of. It quotes no row: those stand in later lines."""
    lines = [line for line in error.decode(errors="replace").splitlines() if line.strip()]
    return "".join(c for c in lines[0] if c.isprintable())[:_SAID_CHARS] if lines else "the program says nothing more"


def _sync(file: Path) -> None:
    with file.open("rb") as opened:
        os.fsync(opened.fileno())
