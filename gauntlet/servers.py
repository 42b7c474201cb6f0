"""Private servers: each may be stopped in the middle of a run without anybody else noticing."""

import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote, urlsplit

import psycopg
from psycopg import sql

from orchestrator.embedded import postgres as packaged_postgres
from orchestrator.embedded import valkey as packaged_valkey

_ANSWERS_WITHIN_S = 30.0
_LOOK_EVERY_S = 0.05


def free_port() -> int:
    """A TCP port of the loopback that nobody uses at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_port(port: int) -> None:
    """Return once somebody accepts connections there; TimeoutError when nobody does."""
    deadline_s = time.monotonic() + _ANSWERS_WITHIN_S
    while time.monotonic() < deadline_s:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(_LOOK_EVERY_S)
    raise TimeoutError(f"nobody listens on port {port}")


def libpq(url: str) -> str:
    """A URL of the product's as psycopg takes it."""
    return url.replace("postgresql+psycopg://", "postgresql://", 1)


@contextmanager
def throw_away_database(server_url: str) -> Iterator[str]:
    """A database of our own in a server that is there; its URL as the product takes it."""
    name = f"cf_gauntlet_{secrets.token_hex(5)}"
    with psycopg.connect(libpq(server_url), autocommit=True) as server:
        server.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
    parts = urlsplit(libpq(server_url))
    try:
        yield parts._replace(scheme="postgresql+psycopg", path=f"/{name}").geturl()
    finally:
        with psycopg.connect(libpq(server_url), autocommit=True) as server:
            server.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def postgres_programs() -> Path:
    """The distribution's oldest PostgreSQL from 15 on, else the one from the package."""
    found = sorted(path for path in Path("/usr/lib/postgresql").glob("*/bin") if int(path.parent.name) >= 15)
    return found[0] if found else packaged_postgres.programs()


class PrivatePostgres:
    """A cluster of our own that can be restarted. Under root it belongs to somebody else, since PostgreSQL insists."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="cf-pg-"))  # its own, since its owner must be able to reach it
        self._programs = postgres_programs()
        self._port = free_port()
        self._user = _unprivileged() if os.getuid() == 0 else None
        self.url = f"postgresql+psycopg://gauntlet@127.0.0.1:{self._port}/postgres"

    def start(self) -> None:
        """Make the cluster and start it."""
        if self._user:
            shutil.chown(self._folder, self._user)
        self._run("initdb", "-U", "gauntlet", "--auth=trust", "--encoding=UTF8", "--no-locale", "-D", self._data)
        self._ctl("start")

    def restart(self, mode: str) -> None:
        """Restart, ``fast`` (sessions are ended) or ``immediate`` (as in a crash)."""
        self._ctl("restart", "-m", mode)

    def stop(self) -> None:
        """Stop it, and leave nothing."""
        self._ctl("stop", "-m", "fast")
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def _data(self) -> str:
        return str(self._folder / "data")

    def _ctl(self, *arguments: str) -> None:
        settings = {
            "port": self._port, "listen_addresses": "127.0.0.1", "unix_socket_directories": "", "max_connections": 200,
        }  # fmt: skip
        options = " ".join(f"-c {name}={value}" for name, value in settings.items())
        log = str(self._folder / "log")
        self._run("pg_ctl", *arguments, "-w", "-D", self._data, "-l", log, "-o", options)

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [str(self._programs / program), *arguments],
            check=True, cwd="/", user=self._user, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        )  # fmt: skip


def _unprivileged() -> str:
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


class PrivateRedis:
    """A Redis or Valkey of our own, with every write synced: what it answered survives its being stopped."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._port = folder / "redis", free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"redis://127.0.0.1:{self._port}/0"

    def start(self) -> None:
        """Start it on what it wrote before, if anything."""
        self._folder.mkdir(exist_ok=True)
        installed = shutil.which("redis-server") or shutil.which("valkey-server")
        program = installed or str(packaged_valkey.choose(None).path)
        settings = {
            "port": str(self._port), "bind": "127.0.0.1", "dir": str(self._folder), "save": "", "appendonly": "yes",
            "appendfsync": "always",
        }  # fmt: skip
        options = [part for name, value in settings.items() for part in (f"--{name}", value)]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen([program, *options], stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        wait_for_port(self._port)

    def stop(self) -> None:
        """SIGKILL: as hard as it gets."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@contextmanager
def virtual_host(rabbitmq_url: str) -> Iterator[str]:
    """A virtual host of our own on a RabbitMQ that is there; its name quoted for a URL."""
    name = f"cf-gauntlet-{secrets.token_hex(5)}"
    user = urlsplit(rabbitmq_url).username or "guest"
    rabbitmqctl("add_vhost", name)
    try:
        rabbitmqctl("set_permissions", "-p", name, user, ".*", ".*", ".*")
        yield quote(name, safe="")
    finally:
        rabbitmqctl("delete_vhost", name)


def rabbitmqctl(*arguments: str) -> str:
    """Run the command; what it printed."""
    done = subprocess.run(["rabbitmqctl", "-q", *arguments], check=True, capture_output=True, text=True)
    return done.stdout
