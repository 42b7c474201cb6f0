"""Slows down guessing of passwords."""

import time
from collections import deque
from collections.abc import Callable
from typing import Final

#: Wrong passwords of one name before it has to wait: more than a person mistypes. NIST SP 800-63B-4, section 3.2.2
#: allows 100 in a row; these are 2,880 a day, at passwords of 15 characters.
_PER_NAME_MAX: Final = 10
PER_NAME_WITHIN_S: Final = 300.0
#: Of all names together: a shift that logs in at once gets through, and guesses take a third of one core at most.
_IN_ALL_MAX: Final = 60
_IN_ALL_WITHIN_S: Final = 60.0


class Guesses:
    """Slows down guessing. Kept in the process: a guess must cost us no write, and a second process only doubles it.

    A try counts when it begins, so that many at once are no way around, and is taken back when it was right. What is
    kept is bounded by the limit in all. A session that is open is never touched: guessing locks nobody out of it.
    """

    def __init__(self, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._clock_s = clock_s
        self._by_name: dict[str, deque[float]] = {}
        self._in_all: deque[float] = deque()

    def allowed(self, name: str) -> bool:
        """Count a try; false when it has to wait."""
        now = self._clock_s()
        _forget(self._in_all, now - _IN_ALL_WITHIN_S)
        for each in list(self._by_name):
            _forget(self._by_name[each], now - PER_NAME_WITHIN_S)
            if not self._by_name[each]:
                del self._by_name[each]
        mine = self._by_name.get(name, deque())
        if len(mine) >= _PER_NAME_MAX or len(self._in_all) >= _IN_ALL_MAX:
            return False
        self._by_name.setdefault(name, mine).append(now)
        self._in_all.append(now)
        return True

    def right(self, name: str) -> None:
        """The password was right: its name starts anew."""
        tries = self._by_name.pop(name, deque())
        if tries and tries[-1] in self._in_all:
            self._in_all.remove(tries[-1])


def _forget(times: deque[float], before: float) -> None:
    while times and times[0] < before:
        times.popleft()
