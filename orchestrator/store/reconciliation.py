"""Runs: asked for, going on, and what came of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Final
from uuid import UUID

from psycopg.types.json import Json, Jsonb

from orchestrator.cards import mask_card_numbers
from orchestrator.ids import new_id
from orchestrator.meaning import Alarm
from orchestrator.store.database import Database
from orchestrator.store.rows import Ring, Row, ring_of
from orchestrator.store.words import RunState

#: A run that was asked for and has not begun is the same run.
_ASK: Final = """
INSERT INTO reconciliation_runs AS r (id, merchant_account, first_day, last_day, started_by)
VALUES (%(id)s, %(merchant_account)s, %(first_day)s, %(last_day)s, %(started_by)s)
ON CONFLICT (merchant_account, first_day, last_day) WHERE state = 'queued' DO UPDATE SET started_by = r.started_by
RETURNING *, id = %(id)s AS created
"""

#: One that was going on when its process died begins anew: whoever has the lock of the merchant account may say so.
_BEGIN: Final = """
UPDATE reconciliation_runs SET state = 'running', started_at = now(), finished_at = NULL, progress = '{}',
    reports = '[]', problems = '[]', summary = NULL
WHERE id = %(id)s AND state IN ('queued', 'running', 'failed') RETURNING *
"""

_PROGRESS: Final = "UPDATE reconciliation_runs SET progress = %(progress)s WHERE id = %(id)s AND state = 'running'"

#: The end of a run, an alarm where a person is needed (one until somebody closes it), and the telling of it.
_FINISH: Final = """
WITH finished AS (
        UPDATE reconciliation_runs SET state = %(state)s, finished_at = now(), reports = %(reports)s,
            problems = %(problems)s, summary = %(summary)s, progress = '{}'
        WHERE id = %(id)s RETURNING *
    ),
    alarmed AS (
        INSERT INTO alarms (name) SELECT %(alarm)s::text WHERE %(alarm)s::text IS NOT NULL
            AND NOT EXISTS (SELECT 1 FROM alarms WHERE name = %(alarm)s::text AND closed_at IS NULL)
    ),
    told AS (
        INSERT INTO tellings (merchant_account, type, at, url, data)
        SELECT merchant_account, 'reconciliation.completed', finished_at, %(callback_url)s::text, %(told)s
        FROM finished WHERE %(callback_url)s::text IS NOT NULL
        RETURNING id
    )
INSERT INTO commands (telling_id, kind, due_at, ring_at)
SELECT id, 'tell_caller', now(), now() + interval '5 seconds' FROM told
RETURNING id AS command_id, kind, payment_id, '' AS reference, '' AS poi_id, 'async' AS transport
"""

_ONE: Final = """
SELECT * FROM reconciliation_runs
WHERE id = %(id)s AND (%(merchant_account)s::text IS NULL OR merchant_account = %(merchant_account)s)
"""

_MANY: Final = """
SELECT * FROM reconciliation_runs
WHERE (%(merchant_account)s::text IS NULL OR merchant_account = %(merchant_account)s)
    AND (%(before)s::bigint IS NULL OR number < %(before)s)
ORDER BY number DESC LIMIT %(limit)s
"""

_MERCHANTS: Final = """
SELECT merchant_account FROM terminals UNION SELECT DISTINCT merchant_account FROM refunds ORDER BY 1
"""

#: What waits, and what was going on when its process died: one that is still going on has the lock.
_QUEUED: Final = """
SELECT * FROM reconciliation_runs WHERE merchant_account = %(merchant_account)s AND state IN ('queued', 'running')
ORDER BY number LIMIT 1
"""

#: Signed once, when it is done; with open differences only if a note says why.
_SIGN_OFF: Final = """
WITH found AS (
    SELECT count(*) FILTER (WHERE d.state = 'open') AS open,
        count(*) FILTER (WHERE d.state <> 'open' AND d.changed_by = %(by)s::text) AS own
    FROM reconciliation_found f JOIN differences d ON d.id = f.difference_id WHERE f.run_id = %(id)s
)
UPDATE reconciliation_runs r SET signed_at = now(), signed_by = %(by)s::text, sign_note = %(note)s::text,
    signed_open = found.open, signed_own = found.own
FROM found
WHERE r.id = %(id)s AND (%(merchant_account)s::text IS NULL OR r.merchant_account = %(merchant_account)s)
    AND r.state = 'done' AND r.signed_at IS NULL AND (found.open = 0 OR %(note)s::text IS NOT NULL)
RETURNING r.*
"""

_COUNTS: Final = """
SELECT d.kind, d.state, count(*) AS n FROM reconciliation_found f JOIN differences d ON d.id = f.difference_id
WHERE f.run_id = %(id)s GROUP BY d.kind, d.state ORDER BY d.kind, d.state
"""


@dataclass(frozen=True, slots=True)
class RunStore:
    """Keeps runs."""

    database: Database

    def ask(self, merchant_account: str, first_day: date, last_day: date, started_by: str) -> Row:
        """Ask for a run; the one that waits for the same period, where one does (``created`` is false then)."""
        values = {"id": new_id(), "merchant_account": merchant_account, "started_by": started_by[:120]}
        row = self.database.one(_ASK, {**values, "first_day": first_day, "last_day": last_day})
        return row or {}

    def begin(self, run_id: UUID) -> Row | None:
        """Say that a run goes on; None when it has ended, or is not there."""
        return self.database.one(_BEGIN, {"id": run_id})

    def progress(self, run_id: UUID, progress: Mapping[str, Any]) -> None:
        """Say how far a run has come."""
        self.database.run(_PROGRESS, {"id": run_id, "progress": Jsonb(dict(progress))})

    def finish(
        self,
        run_id: UUID,
        state: RunState,
        *,
        reports: Sequence[Mapping[str, Any]] = (),
        problems: Sequence[Mapping[str, Any]] = (),
        summary: Mapping[str, Any] | None = None,
        alarm: Alarm | None = None,
        callback_url: str | None = None,
        told: Mapping[str, Any] | None = None,
    ) -> list[Ring]:
        """End a run; return what is to be rung where its caller is told."""
        values = {
            "id": run_id, "state": state.value, "reports": Jsonb(list(reports)), "problems": Jsonb(list(problems)),
            "summary": Jsonb(dict(summary)) if summary is not None else None, "alarm": alarm and alarm.value,
            "callback_url": callback_url, "told": Json(dict(told or {})),
        }  # fmt: skip
        return [ring_of(row) for row in self.database.all(_FINISH, values)]

    def one(self, run_id: UUID, merchant_account: str | None) -> Row | None:
        """Read a run."""
        return self.database.one(_ONE, {"id": run_id, "merchant_account": merchant_account})

    def many(self, merchant_account: str | None, before: int | None, limit: int) -> list[dict[str, Any]]:
        """Read runs, newest first, older than number ``before``."""
        return self.database.all(_MANY, {"merchant_account": merchant_account, "before": before, "limit": limit})

    def next_queued(self, merchant_account: str) -> Row | None:
        """Read the run that has waited longest for its turn."""
        return self.database.one(_QUEUED, {"merchant_account": merchant_account})

    def difference_counts(self, run_id: UUID) -> list[Row]:
        """Count the differences that concern a run's period, by kind and state."""
        return list(self.database.all(_COUNTS, {"id": run_id}))

    def sign_off(self, run_id: UUID, merchant_account: str | None, *, by: str, note: str | None) -> Row | None:
        """Sign a run off by a named person; None when it is not there, not done, signed, or differs without a note."""
        kept = None if note is None else mask_card_numbers(note)[:500]
        values = {"id": run_id, "merchant_account": merchant_account, "by": by[:120], "note": kept}
        return self.database.one(_SIGN_OFF, values)

    def merchant_accounts(self) -> list[str]:
        """Name the merchant accounts that have terminals."""
        return [row["merchant_account"] for row in self.database.all(_MERCHANTS, {})]
