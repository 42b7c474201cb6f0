"""A bounded queue and a thread of its own that empties it: for what must never delay whoever asks for it."""

import os
import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Generic, TypeVar

Item = TypeVar("Item")

#: Trouble that lasts is mentioned once in this time.
_COMPLAIN_EVERY_S: Final = 10.0


class Background(Generic[Item]):
    """The queue; its thread starts with the first item of a process, and calls ``work`` once."""

    def __init__(self, name: str, waiting_max: int, work: Callable[[], None]) -> None:
        self.closing = threading.Event()
        self._name, self._work = name, work
        self._queue: queue.Queue[Item | None] = queue.Queue(waiting_max)
        self._thread: threading.Thread | None = None
        self._pid = 0
        self._lock = threading.Lock()
        self._complained_at_s = float("-inf")

    def put(self, item: Item) -> bool:
        """Have this done; return at once, false when too much waits."""
        self._ensure_thread()
        try:
            self._queue.put_nowait(item)
        except queue.Full:
            return False
        return True

    def take(self, together_max: int) -> tuple[list[Item], bool]:
        """Wait for an item, and take what waits behind it; true when nothing comes any more."""
        items = [self._queue.get()]
        with suppress(queue.Empty):
            while len(items) < together_max and items[-1] is not None:
                items.append(self._queue.get_nowait())
        return [item for item in items if item is not None], items[-1] is None

    def close(self, timeout_s: float = 2.0) -> None:
        """Have what waits done, and stop."""
        if self._thread is not None and self._thread.is_alive():
            self.closing.set()
            with suppress(queue.Full):
                self._queue.put(None, timeout=timeout_s)
            self._thread.join(timeout_s)

    def may_complain(self) -> bool:
        """Whether it is time to mention trouble again."""
        now_s = time.monotonic()
        if now_s - self._complained_at_s < _COMPLAIN_EVERY_S:
            return False
        self._complained_at_s = now_s
        return True

    def _ensure_thread(self) -> None:
        if self._thread is not None and self._pid == os.getpid():
            return
        with self._lock:
            if self._thread is None or self._pid != os.getpid():
                self._pid = os.getpid()
                self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
                self._thread.start()
