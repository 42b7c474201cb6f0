"""``python -m bench.naive.fill COUNT``: that many status checks with a countdown, taken by the worker before this ends.

Each is what a payment leaves behind that waits for its shopper.
"""

import sys
import time
import uuid

from kombu.exceptions import ChannelError

from bench import plain
from bench.naive.tasks import app, check_status

_COUNTDOWN_S = 500
_TAKEN_WITHIN_S = 120


def waiting_at_broker() -> int:
    with app.connection_for_read() as connection:
        try:
            return connection.SimpleQueue("celery").qsize()
        except ChannelError:  # on Redis an empty queue does not exist
            return 0


def main() -> None:
    with app.producer_pool.acquire(block=True) as producer:
        for _ in range(int(sys.argv[1])):
            check_status.apply_async(args=(str(uuid.uuid4()),), countdown=_COUNTDOWN_S, producer=producer)
    deadline = time.monotonic() + _TAKEN_WITHIN_S
    while waiting_at_broker() and time.monotonic() < deadline:
        time.sleep(0.2)
    plain.engine.dispose()


if __name__ == "__main__":
    main()
