"""Signs of life: that beat ticks, and that each queue is served.

Both are told by progress. The sweep, which beat asks for each second, says so every ten; and into each queue goes a
canary, a message that asks whoever takes it to say so here. A worker that is up and takes nothing is thus found out.
At most one canary waits in a queue, and another one after ten minutes, so that a queue that nobody serves holds few.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from orchestrator.store.database import Database

#: What the sweep is called among the pulses.
SWEEP: Final = "sweep"

#: The queue that only terminals need which answer on the connection.
HELD: Final = "held"

#: How often the sweep says that it ran: an alarm at 60 s stands some delay, and the database a row in ten seconds.
TICK_EVERY_S: Final = 10.0

#: How often a queue is asked: three go unanswered before the alarm at 90 s.
CANARY_EVERY_S: Final = 30.0

#: A canary that did not come back by now was lost with its broker, or nobody serves the queue.
CANARY_LOST_AFTER_S: Final = 600.0

#: Queues that somebody has to serve here.
NEEDED: Final = f"""
    (q.name <> '{HELD}' OR EXISTS (SELECT 1 FROM terminals WHERE removed_at IS NULL AND transport <> 'async'))
"""

#: Queues that are being asked. Where canaries were switched off, an old answer says nothing; where nothing sweeps,
#: which is told of by itself, nobody is asked.
ASKED: Final = f"({NEEDED} AND q.asked_at > now() - interval '{2 * CANARY_LOST_AFTER_S:.0f} seconds')"

#: Looks before it writes: several sweeps at once write one row, and an idle second nothing.
_TICK: Final = f"""
WITH ticked AS (
    INSERT INTO pulses (name, at) SELECT '{SWEEP}', now()
    WHERE NOT EXISTS (SELECT 1 FROM pulses WHERE name = '{SWEEP}'
        AND at > now() - make_interval(secs => %(tick_s)s * 0.8))
    ON CONFLICT (name) DO UPDATE SET at = now()
)
INSERT INTO pulses (name, asked_at)
SELECT q.name, now() FROM unnest(%(queues)s::text[]) AS q (name) LEFT JOIN pulses p ON p.name = q.name
WHERE {NEEDED} AND (p.asked_at IS NULL
    OR p.asked_at < now() - make_interval(secs => %(lost_s)s)
    OR (p.asked_at < now() - make_interval(secs => %(canary_s)s * 0.8) AND p.at >= p.asked_at))
ON CONFLICT (name) DO UPDATE SET asked_at = now() RETURNING name
"""

_NOT_ASKED: Final = "UPDATE pulses SET asked_at = NULL WHERE name = ANY (%(queues)s)"

_ANSWER: Final = """
INSERT INTO pulses (name, at, worker) VALUES (%(queue)s, now(), %(worker)s)
ON CONFLICT (name) DO UPDATE SET at = now(), worker = excluded.worker
"""

_READ: Final = f"""
SELECT q.name, q.at, q.worker, extract(epoch FROM now() - coalesce(q.at, q.since))::float8 AS age_s
FROM pulses q WHERE q.name = '{SWEEP}' OR {ASKED} ORDER BY q.name
"""


@dataclass(frozen=True, slots=True)
class Pulse:
    """A sign of life. ``age_s`` counts from when it was last seen, or first waited for."""

    name: str
    at: datetime | None
    worker: str | None
    age_s: float


@dataclass(frozen=True, slots=True)
class PulseStore:
    """Keeps them."""

    database: Database

    def tick(self, queues: Sequence[str]) -> list[str]:
        """Keep that the sweep runs; return the queues that a canary is now to be put into."""
        values = {"queues": list(queues), "tick_s": TICK_EVERY_S, "canary_s": CANARY_EVERY_S}
        rows = self.database.all(_TICK, {**values, "lost_s": CANARY_LOST_AFTER_S})
        return [row["name"] for row in rows]

    def not_asked(self, queues: Sequence[str]) -> None:
        """Keep that no canary went into these after all."""
        self.database.run(_NOT_ASKED, {"queues": list(queues)})

    def answer(self, queue: str, worker: str) -> None:
        """Keep that a worker took a canary from a queue."""
        self.database.run(_ANSWER, {"queue": queue[:24], "worker": worker[:120]})

    def read(self) -> list[Pulse]:
        """Read them; queues that are not asked, or that nobody needs here, are left out."""
        return [Pulse(**row) for row in self.database.all(_READ, {})]
