"""Load, decide, write; and again when somebody else wrote in between. What both recorders rest on."""

from collections.abc import Callable
from typing import Final, TypeVar

from orchestrator.errors import ConcurrentUpdate, StoreUnavailable
from orchestrator.store.store import Repeated

T = TypeVar("T")

#: Each try follows somebody else's success on the same row; more of them in a row than this is not a race.
_TRIES: Final = 20

#: A write whose fate is unknown is tried again: the digest and the compare-and-set make that safe.
_UNAVAILABLE_TRIES: Final = 2


def settled(once: Callable[[], T]) -> T | None:
    """Do it until nobody is in the way; None when the journal had this very evidence already.

    Raises:
        StoreUnavailable: the database did not answer; what was to be written may or may not be stored.
        ConcurrentUpdate: somebody was in the way every time.
    """
    unavailable = 0
    for _ in range(_TRIES):
        try:
            return once()
        except ConcurrentUpdate:
            continue
        except Repeated:
            return None
        except StoreUnavailable:
            unavailable += 1
            if unavailable >= _UNAVAILABLE_TRIES:
                raise
    raise ConcurrentUpdate
