"""Die before a line: a trace over the product's shell, from outside of it.

Only the modules through which effects leave are traced. The core and the protocol compute between two effects; whether
a process dies on this or that line of theirs makes no difference to anybody.
"""

import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any, Final, TypeAlias

from crash.trap import Trap

_CHECKOUT: Final = Path(__file__).parents[1]

#: Where a payment's life is in the hands of code of ours.
SHELL: Final = (
    "orchestrator/bell.py",
    "orchestrator/bootstrap.py",
    "orchestrator/intake.py",
    "orchestrator/perform.py",
    "orchestrator/receive.py",
    "orchestrator/record.py",
    "orchestrator/submissions.py",
    "orchestrator/terminal.py",
    "orchestrator/store/database.py",
    "orchestrator/store/store.py",
    "orchestrator/web/notifications.py",
    "orchestrator/web/payments.py",
    "tasks/payments.py",
    "tasks/status.py",
    "tasks/timers.py",
)

#: How a line is reached: itself, and the lines of the shell that wait for it. Status checks and sweeps go the same way
#: again and again; the first pass of each way is a seam.
Way: TypeAlias = tuple[tuple[str, int], ...]


class LineTrace:
    """Counts the lines of the shell while the trap is armed, in every thread, and kills the process at its seam."""

    def __init__(self, trap: Trap) -> None:
        self._trap = trap
        self._files = {str(_CHECKOUT / name): name for name in SHELL}
        self._lock = threading.Lock()
        self._passed: set[Way] = set()

    def install(self) -> None:
        """Trace every thread to come."""
        threading.settrace(self._enter)

    def install_here(self) -> None:
        """Trace this thread too."""
        sys.settrace(self._enter)

    def _enter(self, frame: FrameType, event: str, argument: Any) -> Any:
        return self._step if frame.f_code.co_filename in self._files else None

    def _step(self, frame: FrameType, event: str, argument: Any) -> Any:
        if event == "line" and self._trap.seam:
            with self._lock:
                self._count(frame)
        return self._step

    def _count(self, frame: FrameType) -> None:
        count = self._trap.count + 1
        if count == 1:  # armed anew
            self._passed.clear()
        way = self._way(frame)
        if way in self._passed:
            return
        self._passed.add(way)
        self._trap.count = count
        if count == self._trap.seam:
            name, line = way[0]
            self._trap.write_place(f"{name}:{line}")
            os.kill(os.getpid(), signal.SIGKILL)

    def _way(self, frame: FrameType | None) -> Way:
        steps = []
        while frame is not None:
            if name := self._files.get(frame.f_code.co_filename):
                steps.append((name, frame.f_lineno))
            frame = frame.f_back
        return tuple(steps)
