"""The product's processes, as the launcher starts them, and the one that follows one of them."""

import json
import os
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Any

from crash.trap import Trap

_CHECKOUT = Path(__file__).parents[1]


class Launcher:
    """`crash.launcher` as a subprocess, shared by every lane."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "crash.launcher"]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=_CHECKOUT
        )
        self._lock = Lock()

    def launch(self, request: dict[str, Any]) -> int:
        """Start a process; return its id."""
        assert self._process.stdin
        assert self._process.stdout
        with self._lock:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            return int(self._process.stdout.readline())

    def close(self) -> None:
        """End it."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


class Launched:
    """A process of the product."""

    def __init__(self, launcher: Launcher, request: dict[str, Any], trap: Trap) -> None:
        trap.set_ready(False)
        trap.disarm()
        self.pid = launcher.launch({**request, "trap": str(trap.path)})
        try:
            self._handle = os.pidfd_open(self.pid)
        except ProcessLookupError:
            self._handle = -1

    @property
    def is_alive(self) -> bool:
        """Whether it runs."""
        if self._handle < 0:
            return False
        ended = select.poll()  # the handle of a process is readable once it has ended (pidfd_open(2))
        ended.register(self._handle, select.POLLIN)
        return not ended.poll(0)

    def send(self, number: signal.Signals) -> None:
        """Send a signal, if it is still there."""
        if self._handle >= 0:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._handle, number)

    def end(self) -> None:
        """Kill it, and return when it is gone."""
        self.send(signal.SIGKILL)
        while self.is_alive:
            time.sleep(0.005)
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1


class Following:
    """`crash.syscalls` on a process, from now on."""

    def __init__(self, pid: int, seam: int) -> None:
        command = [sys.executable, "-S", "-m", "crash.syscalls", str(pid), str(seam)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=_CHECKOUT)
        assert self._process.stdout
        said = self._process.stdout.readline()
        if said != "ready\n":
            self._process.wait()
            message = f"process {pid} cannot be followed by ptrace"
            raise RuntimeError(message)

    def end(self) -> tuple[int, str]:
        """Let go; return how many seams were passed, and where it killed."""
        self._process.terminate()
        said, _ = self._process.communicate()
        report = json.loads(said)
        return report["count"], report["place"]
