"""How a command that goes on until somebody stops it hears of it.

Python raises ``KeyboardInterrupt`` wherever it happens to be, and drops it when that is a destructor or a callback of
the garbage collector: then nothing is heard of a Ctrl-C. So here a signal only leaves a mark, which is looked at in a
place where it is safe to end.
"""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


class Stop:
    """Whether somebody asked us to end. Signals set it; nothing is raised in the middle of anything."""

    def __init__(self) -> None:
        self.asked: signal.Signals | None = None
        self.insisted = False  #: asked again: whoever still has something in hand is not to be waited for

    def listen(self) -> None:
        """Take SIGTERM, SIGINT and SIGHUP as a wish to end."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self.ask)

    def ask(self, number: int, _frame: FrameType | None) -> None:
        """Note the wish; a handler of signals."""
        self.insisted = self.asked is not None
        self.asked = signal.Signals(number)


@contextmanager
def heard_between_looks() -> Iterator[Callable[[float], None]]:
    """A pause that ends with ``KeyboardInterrupt`` when Ctrl-C was pressed since the last one.

    A second Ctrl-C is raised at once, for when something hangs. Outside the main thread nobody hears signals.
    """
    stop = Stop()

    def ask(number: int, frame: FrameType | None) -> None:
        stop.ask(number, frame)
        if stop.insisted:
            raise KeyboardInterrupt

    def pause(for_s: float) -> None:
        if stop.asked is None:
            time.sleep(for_s)
        if stop.asked is not None:
            raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield pause
        return
    before = signal.signal(signal.SIGINT, ask)
    try:
        yield pause
    finally:
        signal.signal(signal.SIGINT, before)
