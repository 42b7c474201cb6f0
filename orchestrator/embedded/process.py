"""One server process: started through the launcher, watched, stopped; and the leftover of an owner who was killed.

Every server process inherits its data folder's lock, so that "nobody uses these files" is a fact the kernel vouches
for: neither a stale process id file nor a reused process id can put two servers on one folder.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from orchestrator.embedded.errors import EmbeddedError, failed
from orchestrator.embedded.folders import POLL_S, holder, lock
from orchestrator.embedded.privileges import Identity, launch_command

STOP_LIMIT_S = 30
"""A fast shutdown writes one checkpoint: 128 MB of buffers in the worst case. Then we kill, which loses nothing."""
KILL_LIMIT_S = 10
"""Backends notice the death of their postmaster at once; this bounds one that is stuck in a system call. Our choice."""
LOG_LIMIT_BYTES = 10_000_000
"""At a start, a longer log is set aside as `.1`. Our choice."""


@dataclass
class ServerProcess:
    """A server on `folder`. `stop_signal` asks for its quick and clean end."""

    name: str
    folder: Path
    lock_path: Path
    log: Path
    stop_signal: signal.Signals
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def running(self) -> bool:
        """Whether the process that we started is alive."""
        return self._process is not None and self._process.poll() is None

    def spawn(self, identity: Identity, command: list[str], lock_descriptor: int) -> None:
        """Start `command` as `identity` with the lock, which is the server's alone from then on."""
        # The kernel ties "the owner died" to the thread that started the child, so only the main thread may ask for it.
        tied = threading.current_thread() is threading.main_thread()
        full = launch_command(identity, signal=self.stop_signal if tied else 0, lock=lock_descriptor, command=command)
        with self._open_log(identity) as log:
            try:
                # A session of its own: Ctrl-C in a terminal is for the owner, who stops the servers last.
                self._process = subprocess.Popen(
                    full,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=self.folder,
                    pass_fds=(lock_descriptor,),
                    start_new_session=True,
                    umask=0o077,
                )
            finally:
                os.close(lock_descriptor)

    def wait(self, limit_s: float) -> int | None:
        """The exit status, or None when the process still runs after `limit_s`."""
        if self._process is None:
            return 0
        try:
            return self._process.wait(limit_s)
        except subprocess.TimeoutExpired:
            return None

    def ask_to_stop(self) -> None:
        """Send the stop signal to the process that we started, if it is alive."""
        if self._process is not None and self.running():
            self._process.send_signal(self.stop_signal)

    def finish(self) -> None:
        """Wait for the end that was asked for; kill what does not end in time."""
        if self._process is None:
            return
        if self.wait(STOP_LIMIT_S) is None:
            self._process.kill()
            self._process.wait(KILL_LIMIT_S)
        self._process = None

    def take_lock(self) -> int:
        """The lock of the folder, after stopping a server that an earlier owner left behind."""
        free = lock(self.lock_path)
        if free is None:
            free = self._end_leftover(self.stop_signal, STOP_LIMIT_S)
        if free is None:
            free = self._end_leftover(signal.SIGKILL, KILL_LIMIT_S)
        if free is None:
            message = f"an earlier {self.name} (process {holder(self.lock_path)}) still uses {self.folder}: stop it."
            raise EmbeddedError(message)
        return free

    def failure(self, what: str) -> EmbeddedError:
        """The error for this server, with the end of its log."""
        return failed(f"the embedded {self.name} {what}.", self.log)

    def _end_leftover(self, number: signal.Signals, limit_s: float) -> int | None:
        process_id = holder(self.lock_path)
        if process_id is not None and self._works_here(process_id):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(process_id, number)
        return lock(self.lock_path, limit_s=limit_s)

    def _works_here(self, process_id: int) -> bool:
        """Whether the process is the server, which works in our folder, and no later process of the same id."""
        if sys.platform != "linux":
            return True
        entry = Path(f"/proc/{process_id}")
        try:
            return (entry / "cwd").readlink() == self.folder
        except PermissionError:
            # A container's root may not look into another account's processes: that it is that account must do.
            return entry.stat().st_uid == self.folder.stat().st_uid
        except OSError:
            return False

    def _open_log(self, identity: Identity) -> BinaryIO:
        """The log, at its end. The server may write to its folder, so that links in there are not followed."""
        with contextlib.suppress(FileNotFoundError):
            if self.log.stat().st_size > LOG_LIMIT_BYTES:
                self.log.replace(self.log.with_suffix(".log.1"))
        log = os.open(self.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        identity.own(self.log)
        return os.fdopen(log, "ab")


def wait_until_ready(server: ServerProcess, answers: Callable[[], bool], limit_s: float) -> None:
    """Return when the server answers; raise when it has ended or `limit_s` have passed."""
    until = time.monotonic() + limit_s
    while not answers():
        if not server.running():
            raise server.failure("ended while it started")
        if time.monotonic() >= until:
            raise server.failure(f"did not answer within {limit_s:.0f} s")
        time.sleep(POLL_S)
