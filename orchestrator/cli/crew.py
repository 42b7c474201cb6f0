"""Keeps the processes of ``counterfoil up`` running: one that ends is started again, later each time."""

import signal
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from orchestrator.cli.stopping import Stop
from orchestrator.processes import Processes

#: The wait before a process that ended is started again doubles from one to the other.
_BACK_OFF_FIRST_S: Final = 1.0
_BACK_OFF_MAX_S: Final = 30.0

#: Who has run this long has started well; its next end counts as the first.
_STARTED_WELL_AFTER_S: Final = 60.0

_LOOK_EVERY_S: Final = 0.2
_LAST_LINE_BYTES: Final = 4096

Tell = Callable[[str, str], None]


@dataclass(slots=True)
class _Member:
    """One process: what it runs, when it started, when it is to be started again."""

    command: tuple[str, ...]
    started_s: float
    ends: int = 0
    again_s: float | None = None


class Crew:
    """The child processes of one run."""

    def __init__(self, processes: Processes, commands: Mapping[str, tuple[str, ...]], tell: Tell) -> None:
        self._processes = processes
        self._tell = tell
        self._members: dict[str, _Member] = {}
        for name, command in commands.items():
            self._members[name] = _Member(command, time.monotonic())
            self._start(name)

    def look(self) -> None:
        """See who has ended, and start again whose time has come. Call it often."""
        now_s = time.monotonic()
        for name, member in self._members.items():
            process = self._processes.running.get(name)
            if process is not None and process.poll() is not None:
                del self._processes.running[name]
                self._ended(name, member, process.returncode, now_s)
            elif process is None and member.again_s is not None and now_s >= member.again_s:
                self._start(name)

    def watch(self, stop: Stop, also: Callable[[], None]) -> None:
        """Look until somebody asks to stop; do ``also`` each time."""
        while stop.asked is None:
            self.look()
            also()
            time.sleep(_LOOK_EVERY_S)

    def stop(self, stop: Stop, within_s: float, last: Collection[str] = ()) -> None:
        """Ask everybody to end, and wait until they have, or until somebody insists.

        Those who are named as ``last`` are asked when the others have ended, because they need them until then.
        """
        for name in self._processes.running:
            self._tell(name, "stopping")
        self._processes.stop_all(within_s, last=last, hurry=lambda: stop.insisted)

    def _start(self, name: str) -> None:
        member = self._members[name]
        process = self._processes.start(name, *member.command)
        member.started_s, member.again_s = time.monotonic(), None
        self._tell(name, f"started, process {process.pid}")

    def _ended(self, name: str, member: _Member, status: int, now_s: float) -> None:
        member.ends = 1 if now_s - member.started_s >= _STARTED_WELL_AFTER_S else member.ends + 1
        wait_s = min(_BACK_OFF_FIRST_S * 2 ** (member.ends - 1), _BACK_OFF_MAX_S)
        member.again_s = now_s + wait_s
        how = signal.Signals(-status).name if status < 0 else f"exit status {status}"
        said = _last_line(self._processes.logs / f"{name}.log") if status > 0 else ""
        self._tell(name, f"ended with {how}; again in {wait_s:g} s" + (f": {said}" if said else ""))


def _last_line(log: Path) -> str:
    """The last line that a process wrote, which tells why it ended; its logs hold no secrets."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _LAST_LINE_BYTES))
        lines = file.read().decode(errors="replace").split("\n")
    written = [line.strip() for line in lines if line.strip()]
    return "".join(c for c in written[-1] if c.isprintable())[:300] if written else ""
