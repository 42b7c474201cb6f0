"""What callers put into a queue stays there while the database is away: nothing else knows of it yet.

Our own messages need none of this: their commands are rows, and the sweep rings again.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from celery.exceptions import Reject

from orchestrator.errors import ConcurrentUpdate, StoreUnavailable

#: The message comes back at once, so this is how often one thread asks a database that is away.
_PAUSE_S: Final = 1.0


@contextmanager
def kept_while_the_store_is_away() -> Iterator[None]:
    """Give the message back to the broker when nothing could be stored; taking it in twice is harmless."""
    try:
        yield
    except (StoreUnavailable, ConcurrentUpdate) as error:
        time.sleep(_PAUSE_S)
        raise Reject(str(error), requeue=True) from error
