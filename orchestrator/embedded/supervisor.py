"""The two embedded servers of one data folder: started together, stopped together, owned by one process at a time."""

import os
from pathlib import Path
from types import TracebackType
from typing import Self

from orchestrator.embedded import postgres, valkey
from orchestrator.embedded.errors import EmbeddedError
from orchestrator.embedded.folders import (
    forget_socket_folder,
    holder,
    lock,
    make_data_folder,
    make_private,
    make_socket_folder,
    socket_folder,
)
from orchestrator.embedded.privileges import choose


class EmbeddedServers:
    """PostgreSQL and Valkey on `data_dir`, ours from `start` until `stop`.

    `start` may be called again when a server has died: it starts what is not running. Call it in the main thread, so
    that the servers stop when this process is killed (Linux); from another thread, or elsewhere, they outlive us
    unharmed and the next `start` on the folder ends them first.
    """

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir.absolute()
        self._ownership: int | None = None
        self._sockets: Path | None = None
        self._postgres: postgres.Postgres | None = None
        self._valkey: valkey.Valkey | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def database_url(self) -> str:
        """SQLAlchemy's URL; only while started."""
        return postgres.url(self._started_sockets())

    @property
    def broker_url(self) -> str:
        """Kombu's URL; only while started."""
        return valkey.url(self._started_sockets())

    def start(self) -> None:
        """Start what is not running, and return when both answer. Leaves nothing running when it fails."""
        self._claim()
        try:
            self._bring_up()
        except BaseException:
            self.stop()
            raise

    def running(self) -> bool:
        """Whether both servers that we started are alive."""
        return all(server is not None and server.process.running() for server in (self._postgres, self._valkey))

    def stop(self) -> None:
        """Stop both cleanly, in bounded time, and give up the folder. Harmless when nothing runs."""
        servers = [server for server in (self._postgres, self._valkey) if server is not None]
        for server in servers:
            server.process.ask_to_stop()
        for server in servers:
            server.process.finish()
        self._postgres = self._valkey = self._sockets = None
        if self._ownership is not None:
            forget_socket_folder(self._data_dir)
            os.close(self._ownership)
            self._ownership = None

    def _bring_up(self) -> None:
        database = self._postgres = self._postgres or postgres.Postgres(self._data_dir)
        broker = self._valkey = self._valkey or valkey.Valkey(self._data_dir)
        identity = choose(self._data_dir, self._data_dir / "postgres", [postgres.programs(), broker.program.path])
        make_private(self._data_dir / "logs", identity)
        sockets = self._sockets = make_socket_folder(self._data_dir, identity)
        # Both first, then both: each loads its data while the other does.
        for server in (broker, database):
            if not server.process.running():
                server.launch(identity, sockets)
        for server in (broker, database):
            server.wait_ready(sockets)

    def _claim(self) -> None:
        """Become the one owner of the folder."""
        if self._ownership is not None:
            return
        self._data_dir = make_data_folder(self._data_dir)
        path = self._data_dir / "owner.lock"
        held = lock(path)
        if held is None:
            message = f"the data folder {self._data_dir} is in use by process {holder(path)}: stop that one first."
            raise EmbeddedError(message)
        os.ftruncate(held, 0)
        os.pwrite(held, f"{os.getpid()}\n".encode(), 0)
        self._ownership = held

    def _started_sockets(self) -> Path:
        if self._sockets is None:
            message = "the embedded servers are not started: call start() first."
            raise EmbeddedError(message)
        return self._sockets


def locate(data_dir: Path) -> tuple[str, str] | None:
    """The database's and the broker's URL of the servers that run on `data_dir` and let us in; None otherwise."""
    sockets = socket_folder(data_dir.absolute())
    if sockets is None or not postgres.answers(sockets, postgres.DATABASE) or not valkey.answers(sockets):
        return None
    return postgres.url(sockets), valkey.url(sockets)
