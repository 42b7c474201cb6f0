"""After the load: wait until nothing is left to do, with the liveness clock running."""

import time
from collections.abc import Callable

import psycopg

from gauntlet.dump import read_lines
from gauntlet.servers import libpq
from gauntlet.stack import Stack

_LOOK_EVERY_S = 0.5
_DRAINED_WITHIN_S = 15.0

_OPEN = """
SELECT reference, state FROM payments WHERE state = 'pending' OR (state = 'unknown' AND reference <> ALL (%(withheld)s))
UNION ALL
SELECT p.reference, c.kind FROM commands c JOIN payments p ON p.id = c.payment_id
WHERE p.state IN ('confirmed', 'reconciled') AND (NOT p.sentinel OR c.kind <> 'check_status')
"""


def open_work(stack: Stack) -> list[tuple[str, str]]:
    """What has not ended and can: (reference, what it waits for)."""
    withheld = [
        line["reference"]
        for line in read_lines(stack.ledger)
        if line["kind"] == "request" and line.get("scenario") == "withheld"
    ]
    with psycopg.connect(libpq(stack.database_url)) as connection:
        return connection.execute(_OPEN, {"withheld": withheld}).fetchall()


def settled(
    stack: Stack, say: Callable[[str], None], still_open: Callable[[Stack], list[tuple[str, str]]] = open_work
) -> float:
    """Wait until every payment has ended, but those that no evidence will ever settle; the seconds that it took."""
    started_s = said_s = time.monotonic()
    while left := still_open(stack):
        now_s = time.monotonic()
        if now_s - started_s > stack.plan.settle_within_s:
            say(f"gave up waiting after {now_s - started_s:.0f} s: {left[:5]}")
            break
        if now_s - said_s > 10:
            said_s = now_s
            say(f"{len(left)} still open, such as {left[:3]}")
        time.sleep(_LOOK_EVERY_S)
    return time.monotonic() - started_s


def drained(stack: Stack) -> dict[str, int]:
    """Stop what makes new messages, let the workers take what is there, and count what they leave."""
    stack.stop("beat")
    deadline_s = time.monotonic() + _DRAINED_WITHIN_S
    while (left := stack.queued()) and time.monotonic() < deadline_s:
        time.sleep(_LOOK_EVERY_S)
    return left
