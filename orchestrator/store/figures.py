"""What metrics say of this instant, in one statement. Each part reads few rows by an index, or a small table whole."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from orchestrator.store.database import Database
from orchestrator.store.pulses import ASKED, SWEEP
from orchestrator.store.tallies import FEEDS

#: A command that was rung or put off lies at most ten minutes ahead (``Store.put_off``): what is due is before this.
_AHEAD: Final = "interval '15 minutes'"

#: Runs that are looked through for the newest that was done: some days of a hundred merchant accounts.
_RUNS: Final = 1_000

_OPEN: Final = """
    open_payments AS MATERIALIZED (
        SELECT 'pending' AS state, 'queued' AS stage, created_at, currency, amount_minor FROM payments
        WHERE state = 'pending' AND sent_at IS NULL
        UNION ALL SELECT 'pending', 'sent', created_at, currency, amount_minor FROM payments
        WHERE holds_terminal IS NOT NULL
        UNION ALL SELECT 'unknown', CASE WHEN reason IN ('contradiction', 'never_sent') THEN 'disputed' ELSE 'unknown'
            END, created_at, currency, amount_minor FROM payments WHERE state = 'unknown'
    ),
    open_refunds AS MATERIALIZED (SELECT state, created_at FROM refunds WHERE outcome IS NULL)
"""
#: As ``health`` has it: a send that waits for its terminal is overdue only when nobody rings it.
_DUE: Final = f"""
    due AS MATERIALIZED (
        SELECT kind, extract(epoch FROM now() - since)::float8 AS age_s FROM (
            SELECT kind, CASE kind WHEN 'send' THEN ring_at ELSE due_at END AS since
            FROM commands WHERE ring_at <= now() + {_AHEAD}) AS c WHERE since <= now()
    )
"""

_AGE: Final = "extract(epoch FROM now() - min(created_at))::float8"
_NONE: Final = "'{}'::text[]"

#: Name, labels, value. What is not there says nothing, and is shown as nothing by who knows which labels there are.
_PARTS: Final = (
    "SELECT 'payments_open', ARRAY[state, stage], count(*)::float8 FROM open_payments GROUP BY 2",
    f"SELECT 'payment_oldest_open_age_seconds', ARRAY[state, stage], {_AGE} FROM open_payments GROUP BY 2",
    """SELECT 'payments_unknown_amount_minor', ARRAY[currency::text], sum(amount_minor)::float8 FROM open_payments
    WHERE state = 'unknown' GROUP BY 2""",
    "SELECT 'refunds_open', ARRAY[state::text], count(*)::float8 FROM open_refunds GROUP BY 2",
    f"SELECT 'refund_oldest_open_age_seconds', ARRAY[state::text], {_AGE} FROM open_refunds GROUP BY 2",
    "SELECT 'outbox_pending', ARRAY[kind::text], count(*)::float8 FROM due GROUP BY 2",
    f"SELECT 'outbox_oldest_age_seconds', {_NONE}, max(age_s) FROM due",
    f"""SELECT 'status_check_lag_seconds', {_NONE}, max(age_s) FROM due
    WHERE kind IN ('check_status', 'check_refund')""",
    f"""SELECT 'callbacks_pending', {_NONE}, count(*)::float8 FROM tellings
    WHERE delivered_at IS NULL AND parked_at IS NULL""",
    f"SELECT 'callbacks_parked', {_NONE}, count(*)::float8 FROM tellings WHERE parked_at IS NOT NULL",
    f"SELECT 'inbox_unprocessed', {_NONE}, count(*)::float8 FROM webhooks WHERE became IS NULL",
    f"""SELECT 'quarantined_webhooks', {_NONE}, count(*)::float8 FROM webhook_quarantine""",
    "SELECT 'alarms_open', ARRAY[name::text], count(*)::float8 FROM alarms WHERE closed_at IS NULL GROUP BY 2",
    """SELECT 'reconciliation_differences', ARRAY[kind::text], count(*)::float8 FROM differences WHERE state = 'open'
    GROUP BY 2""",
    f"""SELECT 'reconciliation_last_success_timestamp_seconds', {_NONE}, max(extract(epoch FROM finished_at))::float8
    FROM (SELECT finished_at, state FROM reconciliation_runs ORDER BY number DESC LIMIT {_RUNS}) AS r
    WHERE state = 'done'""",
    f"""SELECT 'first_payment_timestamp_seconds', {_NONE}, (SELECT extract(epoch FROM created_at)::float8 FROM payments
    ORDER BY number LIMIT 1)""",
    """SELECT 'terminals_registered', ARRAY[transport::text], count(*)::float8 FROM terminals
    WHERE removed_at IS NULL GROUP BY 2""",
    f"""SELECT 'terminals_held', {_NONE}, count(*)::float8 FROM terminals
    WHERE removed_at IS NULL AND held_at IS NOT NULL""",
    """SELECT 'terminals_in_trouble', ARRAY[trouble::text], count(*)::float8 FROM terminals
    WHERE removed_at IS NULL AND trouble IS NOT NULL GROUP BY 2""",
    f"SELECT 'database_connections', {_NONE}, sum(numbackends)::float8 FROM pg_stat_database",
    f"""SELECT 'database_connections_max', {_NONE}, current_setting('max_connections')::float8
    - current_setting('superuser_reserved_connections')::float8""",
    "SELECT 'schema', ARRAY[version_num::text], 1 FROM alembic_version",
    f"""SELECT 'beat_tick_age_seconds', {_NONE}, extract(epoch FROM now() - coalesce(at, since))::float8 FROM pulses
    WHERE name = '{SWEEP}'""",
    f"""SELECT 'queue_canary_age_seconds', ARRAY[name::text], extract(epoch FROM now() - coalesce(at, since))::float8
    FROM pulses q WHERE name <> '{SWEEP}' AND %(canaries)s AND {ASKED}""",
    *(
        # The newest may have been expunged: then nothing is left to count.
        f"""SELECT 'uncounted_rows', ARRAY['{name}'], greatest(0, (SELECT coalesce(max({feed.number}), 0)
        FROM {feed.table} WHERE {feed.where}) - mark)::float8 FROM tally_marks WHERE feed = '{name}'"""
        for name, feed in FEEDS.items()
    ),
)
_FIGURES: Final = f"WITH {_OPEN}, {_DUE} SELECT * FROM ({' UNION ALL '.join(_PARTS)}) AS f (name, labels, value)"


@dataclass(frozen=True, slots=True)
class FigureStore:
    """Reads them."""

    database: Database

    def read(self, *, canaries: bool) -> Sequence[Mapping[str, Any]]:
        """Read every figure: ``name``, ``labels``, ``value``; those of queues only where canaries go there."""
        return self.database.all(_FIGURES, {"canaries": canaries})
