"""The product as real processes, for ``up``, the demo, the acceptance tests and the benchmarks."""

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

_READY_WITHIN_S: Final = 30.0
_STOPS_WITHIN_S: Final = 15.0
_LOOK_EVERY_S: Final = 0.05
_CHECKOUT: Final = Path(__file__).parents[1]


def _never() -> bool:
    return False


class Processes:
    """Starts ``counterfoil <command>`` processes by name, with their logs in a folder; stops what it started."""

    def __init__(self, environment: Mapping[str, str], logs: Path) -> None:
        """Take the whole environment of the processes and the folder for their logs."""
        self._environment = {"PATH": os.defpath, "PYTHONUNBUFFERED": "1", **environment}
        self.logs = logs
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        logs.mkdir(parents=True, exist_ok=True)

    def start(self, name: str, *command: str) -> subprocess.Popen[bytes]:
        """Start ``counterfoil <command>`` under a name; a started one of that name is left to its caller."""
        arguments = [sys.executable, "-m", "orchestrator.cli", *command]
        with (self.logs / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                arguments,
                env=self._environment,
                cwd=_CHECKOUT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for whoever started them, who then stops them in order
            )
        self.running[name] = process
        return process

    def kill(self, name: str) -> None:
        """SIGKILL, as the kernel or a power cut would."""
        process = self.running.pop(name)
        process.kill()
        process.wait()

    def stop(self, name: str, within_s: float = _STOPS_WITHIN_S) -> int:
        """Ask it to end, and insist after a while; return its exit status."""
        process = self.running.pop(name)
        process.send_signal(signal.SIGTERM)
        return _ended(process, time.monotonic() + within_s, _never)

    def stop_all(
        self, within_s: float = _STOPS_WITHIN_S, *, last: Collection[str] = (), hurry: Callable[[], bool] = _never
    ) -> None:
        """Stop everything, all at once but those named as ``last``; kill whoever is not done in time, or in a hurry.

        Each is asked once: whoever is asked again takes it for impatience.
        """
        for now in (sorted(set(self.running) - set(last)), sorted(set(self.running) & set(last))):
            ending = [self.running.pop(name) for name in now]
            for process in ending:
                process.send_signal(signal.SIGTERM)
            deadline_s = time.monotonic() + within_s
            for process in ending:
                _ended(process, deadline_s, hurry)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop_all()


def _ended(process: subprocess.Popen[bytes], deadline_s: float, hurry: Callable[[], bool]) -> int:
    """The exit status of a process that was asked to end; it is killed at the deadline, or in a hurry."""
    while process.poll() is None and time.monotonic() < deadline_s and not hurry():
        time.sleep(_LOOK_EVERY_S)
    if process.poll() is None:
        process.kill()
    return process.wait()


def wait_until_ready(url: str, within_s: float = _READY_WITHIN_S) -> None:
    """Wait for an API's ``/readyz``.

    Raises:
        TimeoutError: it did not answer 200 in time.
    """
    deadline_s = time.monotonic() + within_s
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while time.monotonic() < deadline_s:
        try:
            with opener.open(f"{url}/readyz", timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(_LOOK_EVERY_S)
    message = f"{url}/readyz was not ready within {within_s:.0f} s"
    raise TimeoutError(message)
