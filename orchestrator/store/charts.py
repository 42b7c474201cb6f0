"""What became of payments over a while, added up by hour or day and by terminal: one statement over an index."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Any, Final

from orchestrator.store.database import Database

#: Payments that one chart adds up, the newest: about a second on two cores. What is older is left out, and told.
ROWS_MAX: Final = 200_000

#: Terminals that are listed, the busiest: a page that can be read.
TERMINALS_MAX: Final = 50

#: A payment's id begins with the milliseconds of the process that made it, which lies somewhat before the database's
#: time of writing: clocks differ, and a submission by task waits in its queue for as long as it may be sent, one hour.
_ID_SLACK: Final = "interval '70 minutes'"


class Period(Enum):
    """How far back, by which steps: name, span, step, and both as PostgreSQL has them."""

    DAY = ("day", timedelta(hours=24), timedelta(hours=1), "hour")
    WEEK = ("week", timedelta(days=7), timedelta(hours=6), "6 hours")
    MONTH = ("month", timedelta(days=30), timedelta(days=1), "day")

    def __init__(self, word: str, span: timedelta, step: timedelta, step_text: str) -> None:
        self.word = word
        self.span = span
        self.step = step
        self.step_text = step_text


#: ``id`` is of version 7 (RFC 9562): its order is that of time, so that its own index bounds what is read.
#: A payment was unknown when its answer window passed first: it is so still, or was concluded after ``answer_by``.
_TOTALS: Final = f"""
WITH span AS (
    SELECT date_bin(%(step)s, now(), timestamptz '2000-01-01 00:00+00') + %(step)s::interval - %(span)s::interval
        AS since
), newest AS MATERIALIZED (
    SELECT date_bin(%(step)s, created_at, timestamptz '2000-01-01 00:00+00') AS at, created_at, poi_id, state, outcome,
        coalesce(state = 'unknown' OR concluded_at > answer_by, false) AS was_unknown,
        CASE WHEN outcome <> 'not_performed' THEN extract(epoch FROM concluded_at - sent_at)::float8 END AS took_s
    FROM payments WHERE merchant_account = %(merchant_account)s
        AND id >= (SELECT (lpad(to_hex((extract(epoch FROM since - {_ID_SLACK}) * 1000)::bigint), 12, '0')
            || repeat('0', 20))::uuid FROM span)
        AND created_at >= (SELECT since FROM span)
    ORDER BY id DESC LIMIT {ROWS_MAX}
)
SELECT (SELECT since FROM span) AS since, at, poi_id, count(*) AS payments, min(created_at) AS first_at,
    count(*) FILTER (WHERE outcome IN ('approved', 'partially_approved')) AS charged,
    count(*) FILTER (WHERE outcome = 'declined') AS declined,
    count(*) FILTER (WHERE outcome IN ('cancelled', 'aborted')) AS cancelled,
    count(*) FILTER (WHERE outcome = 'not_performed') AS not_performed,
    count(*) FILTER (WHERE state = 'pending') AS pending,
    count(*) FILTER (WHERE state = 'unknown') AS unknown,
    count(*) FILTER (WHERE was_unknown) AS was_unknown,
    percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY took_s) AS took_s
FROM newest GROUP BY GROUPING SETS ((at), (poi_id), ())
ORDER BY at NULLS LAST, poi_id IS NOT NULL, payments DESC, poi_id LIMIT %(limit)s
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Total:
    """What became of some payments. ``took_s`` is the median and the 95th percentile from request to result."""

    payments: int = 0
    charged: int = 0
    declined: int = 0
    cancelled: int = 0
    not_performed: int = 0
    pending: int = 0
    unknown: int = 0
    was_unknown: int = 0
    took_s: tuple[float, float] | None = None

    @property
    def unknown_share(self) -> float:
        """Of these, how many were unknown at some time; 0 for none."""
        return self.was_unknown / self.payments if self.payments else 0.0

    @property
    def charged_share(self) -> float:
        """Of these, how many were charged."""
        return self.charged / self.payments if self.payments else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """A period: each step of it, each of its busiest terminals, and all together."""

    steps: Sequence[tuple[datetime, Total]]
    terminals: Sequence[tuple[str, Total]]
    whole: Total
    cut_at: datetime | None  # the oldest payment that was added up, where there were more


@dataclass(frozen=True, slots=True)
class ChartStore:
    """Adds up."""

    database: Database

    def totals(self, merchant_account: str, period: Period) -> Totals:
        """Add up the payments of one merchant account that were taken in over a period until now."""
        steps = int(period.span / period.step)
        values = {"merchant_account": merchant_account, "step": period.step, "span": period.span}
        rows = self.database.all(_TOTALS, {**values, "limit": steps + 1 + TERMINALS_MAX})
        whole = next(row for row in rows if row["at"] is None and row["poi_id"] is None)
        by_step = {row["at"]: _total(row) for row in rows if row["at"] is not None}
        instants = [whole["since"] + number * period.step for number in range(steps)]
        return Totals(
            steps=[(at, by_step.get(at, Total())) for at in instants],
            terminals=[(row["poi_id"], _total(row)) for row in rows if row["poi_id"] is not None],
            whole=_total(whole),
            cut_at=whole["first_at"] if whole["payments"] >= ROWS_MAX else None,
        )


def _total(row: dict[str, Any]) -> Total:
    took_s = row["took_s"]
    known = took_s is not None and took_s[0] is not None
    names = "payments charged declined cancelled not_performed pending unknown was_unknown".split()
    return Total(**{name: row[name] for name in names}, took_s=(took_s[0], took_s[1]) if known else None)
