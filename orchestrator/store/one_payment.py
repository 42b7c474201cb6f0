"""Everything about one payment, for whoever looks at it: three statements in one round trip, each on indexes.

The row is read before its journal: lines that come in between are left out, so that the journal that is shown, and
verified, is the one that explains the row.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from orchestrator.store.chain import EXPUNGED
from orchestrator.store.database import Database
from orchestrator.store.live import shown
from orchestrator.store.rows import Row

#: A payment has some ten lines; one that was asked about for 48 hours has a hundred. Longer journals are cut off here,
#: and said to be.
LINES_MAX: Final = 1_000
#: Of each list beside them.
ROWS_MAX: Final = 200
#: Payments that are counted before this one in the queue.
_AHEAD_MAX: Final = 100

_PAYMENT: Final = f"""
SELECT p.*, clock_timestamp() AS read_at, t.held_at, t.held_by, t.hold_reason, t.trouble, t.store,
    t.poi_id IS NOT NULL AS is_registered,
    (SELECT count(*) FROM (
        SELECT 1 FROM payments q WHERE q.poi_id = p.poi_id AND q.state = 'pending' AND q.sent_at IS NULL
            AND q.number < p.number AND p.state = 'pending' AND p.sent_at IS NULL LIMIT {_AHEAD_MAX}) AS before_it)
    + (SELECT count(*) FROM payments h WHERE h.holds_terminal = p.poi_id AND h.id <> p.id)
    + (SELECT count(*) FROM refunds f WHERE f.holds_terminal = p.poi_id) AS ahead
FROM payments p LEFT JOIN terminals t ON t.poi_id = p.poi_id AND t.removed_at IS NULL
WHERE p.id = %(id)s AND p.merchant_account = %(merchant_account)s
"""

_LINES: Final = f"""
SELECT j.*, d.salt, d.detail, {EXPUNGED}, coalesce(r.times, 0) AS repeats, r.last_at AS repeated_at
FROM journal j LEFT JOIN journal_details d USING (payment_id, sequence)
    LEFT JOIN journal_repeats r ON r.payment_id = j.payment_id AND r.digest = j.digest
WHERE j.payment_id = %(id)s ORDER BY j.sequence LIMIT {LINES_MAX + 1}
"""


#: A value of the payment itself, found once: with it an index gives the payments of a sale in their order.
_ITS: Final = "(SELECT {} FROM payments WHERE id = %(id)s)"

#: As an array, which is found once: each of its members is then looked up in an index, however large a table is.
_OF_REFUNDS: Final = "refund_id = ANY (ARRAY(SELECT id FROM refunds WHERE payment_id = %(id)s))"


def _of_both(columns: str, table: str) -> str:
    """Rows of the payment, and those of its refunds: one branch for each, so that each has its index."""
    return (
        f"(SELECT {columns} FROM {table} WHERE payment_id = %(id)s UNION ALL SELECT {columns} FROM {table} "
        f"WHERE payment_id IS DISTINCT FROM %(id)s AND {_OF_REFUNDS}) AS both_of_them"
    )


#: The lists beside it: what to select, and the order in which they are shown.
_LISTS: Final[Mapping[str, tuple[str, str]]] = {
    "refunds": (
        (
            "SELECT id, number, idempotency_key, reference, poi_id, service_id, currency, amount_minor, asked_by, "
            "state, outcome, reason, sequence, created_at, sent_at, concluded_at, reconciled_at, psp_reference "
            "FROM refunds WHERE payment_id = %(id)s"
        ),
        "number",
    ),
    "refund_lines": (
        (
            "SELECT j.refund_id, j.sequence, j.at, j.evidence, j.event, j.before, j.after, d.detail "
            "FROM refund_journal j LEFT JOIN refund_journal_details d USING (refund_id, sequence) "
            f"WHERE j.{_OF_REFUNDS}"
        ),
        "refund_id, sequence",
    ),
    "tellings": (
        "SELECT * FROM "
        + _of_both(
            "id, number, refund_id, sequence, type, at, url, attempts, next_at, delivered_at, parked_at, last_status, "
            "last_error, data::text = '{}' AS is_emptied",
            "tellings",
        ),
        "number DESC",
    ),
    "alarms": ("SELECT * FROM " + _of_both("id, refund_id, name, sequence, at, closed_at", "alarms"), "id DESC"),
    "commands": ("SELECT * FROM " + _of_both("kind, refund_id, due_at, attempts", "commands"), "due_at"),
    "differences": (
        (
            "SELECT id, number, kind, state, ours, theirs, source, found_at, changed_by, note FROM differences "
            "WHERE payment_id = %(id)s"
        ),
        "number DESC",
    ),
    "webhooks": (
        "SELECT * FROM "
        + _of_both(
            "number, event_code, success, psp_reference, currency, amount_minor, happened_at, received_at, times, "
            "became, refund_id, reason",
            "webhooks",
        ),
        "number DESC",
    ),
    "displays": (
        "SELECT id, poi_id, payment_id, kind, name, detail, at FROM terminal_events WHERE payment_id = %(id)s",
        "id DESC",
    ),
    "sale": (
        (
            "SELECT id, number, reference, poi_id, currency, amount_minor, authorised_minor, refunded_minor, state, "
            "outcome, reason, created_at FROM payments "
            f"WHERE merchant_account = {_ITS.format('merchant_account')} AND reference = {_ITS.format('reference')} "
            "AND id <> %(id)s"
        ),
        "number DESC",
    ),
    "elsewhere": (
        "SELECT psp_reference, amount_minor, paid_back FROM refunds_elsewhere WHERE payment_id = %(id)s",
        "1",
    ),
}


def _as_json(query: str, order: str) -> str:
    """A list in one column: the rows as JSON, in their order."""
    return (
        "(SELECT coalesce(jsonb_agg(to_jsonb(ordered)), '[]') "
        f"FROM ({query} ORDER BY {order} LIMIT {ROWS_MAX}) AS ordered)"
    )


#: Each list by its own index; what belongs to a refund of the payment belongs to its page.
_BESIDE: Final = f"""
SELECT {", ".join(f"{_as_json(*found)} AS {name}" for name, found in _LISTS.items())},
    (SELECT receipts FROM receipts WHERE payment_id = %(id)s) AS receipts,
    (SELECT to_jsonb(r) FROM ruling_proposals r WHERE payment_id = %(id)s) AS proposal
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class OnePayment:
    """A payment and everything that there is about it. ``is_cut`` says that its journal is longer than ``lines``."""

    row: Row
    lines: Sequence[Row]
    is_cut: bool
    refunds: Sequence[Row]
    refund_lines: Sequence[Row]
    tellings: Sequence[Row]
    alarms: Sequence[Row]
    commands: Sequence[Row]
    differences: Sequence[Row]
    webhooks: Sequence[Row]
    displays: Sequence[Row]
    elsewhere: Sequence[Row]
    receipts: Sequence[Mapping[str, Any]]
    proposal: Row | None
    sale: Sequence[Row]

    @property
    def refunding_minor(self) -> int:
        """What is being paid back, as far as is known."""
        return sum(refund["amount_minor"] for refund in self.refunds if refund["outcome"] is None)

    @property
    def left_minor(self) -> int:
        """What is left to pay back, refunds under way counted: as whoever accepts a refund counts it."""
        charged_minor: int = self.row["authorised_minor"] or 0
        back_minor: int = self.row["refunded_minor"]
        left_minor: int = charged_minor - back_minor - self.refunding_minor
        return max(0, left_minor)


@dataclass(frozen=True, slots=True)
class OnePaymentStore:
    """Reads one payment."""

    database: Database

    def read(self, payment_id: UUID, merchant_account: str) -> OnePayment | None:
        """Everything about a payment; None where the merchant account has none of this id."""
        values = {"id": payment_id, "merchant_account": merchant_account}
        rows, lines, beside = self.database.each_of([(text, values) for text in (_PAYMENT, _LINES, _BESIDE)])
        if not rows:
            return None
        row, found = rows[0], beside[0]
        known = [line for line in lines if line["sequence"] <= row["sequence"]]
        return OnePayment(
            row=row,
            lines=known[:LINES_MAX],
            is_cut=len(lines) > LINES_MAX,
            receipts=found["receipts"] or (),
            proposal=_read(found["proposal"]) if found["proposal"] else None,
            displays=[{**shown(each), "id": each["id"]} for each in map(_read, found["displays"])],
            **{name: [_read(each) for each in found[name]] for name in _LISTS if name != "displays"},
        )


def _read(row: Mapping[str, Any]) -> dict[str, Any]:
    """Instants of a row that came as JSON; every column that holds one is named so."""
    return {
        name: datetime.fromisoformat(value) if value is not None and (name == "at" or name.endswith("_at")) else value
        for name, value in row.items()
    }
