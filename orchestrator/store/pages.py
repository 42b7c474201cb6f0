"""Lists: payments by filter and journals by payment, a page at a time."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import ColumnElement, Select, String, literal_column, select
from sqlalchemy.dialects.postgresql import psycopg as dialect
from sqlmodel import col

from orchestrator.model import CHARGED_OUTCOMES
from orchestrator.store.database import Database
from orchestrator.store.tables import JournalDetail, JournalLine, PaymentRow

#: Refusals are kept and shown this long (interfaces, "HTTP API").
REJECTION_DAYS: Final = 30

_REJECTIONS = f"""
SELECT id, at, idempotency_key, reference, problem, field, detail, payment_id FROM rejections
WHERE merchant_account = %(merchant_account)s AND at > now() - interval '{REJECTION_DAYS} days'
    AND (%(before_id)s::bigint IS NULL OR id < %(before_id)s::bigint)
ORDER BY id DESC LIMIT %(limit)s
"""

_DIALECT = dialect.dialect()  # type: ignore[no-untyped-call]


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentFilter:
    """What a list of payments is narrowed to; None does not narrow."""

    merchant_account: str | None = None
    reference: str | None = None
    sale_reference_id: str | None = None
    poi_id: str | None = None
    state: str | None = None
    outcome: str | None = None
    charged: bool | None = None
    psp_reference: str | None = None
    amount_minor: int | None = None
    created_from: datetime | None = None
    created_to: datetime | None = None


@dataclass(frozen=True, slots=True)
class Pages:
    """Reads lists."""

    database: Database

    def payments(self, narrowed: PaymentFilter, before_number: int | None, limit: int) -> list[dict[str, Any]]:
        """Read payments, newest first, older than ``before_number``."""
        query = _narrow(select(*PaymentRow.__table__.columns), narrowed)  # type: ignore[attr-defined]
        if before_number is not None:
            query = query.where(col(PaymentRow.number) < before_number)
        return self._read(query.order_by(col(PaymentRow.number).desc()).limit(limit))

    def journal(self, payment_id: UUID, after_sequence: int, limit: int) -> list[dict[str, Any]]:
        """Read journal lines in ascending order, with what they rest on where retention has kept it."""
        line, detail = JournalLine, JournalDetail
        query = (
            select(
                col(line.sequence), col(line.at), col(line.evidence), col(line.event), col(line.before),
                col(line.after), col(line.digest), col(line.detail_hash), col(line.hash), col(detail.detail),
                col(detail.salt),
            )
            .join(
                detail,
                (col(line.payment_id) == col(detail.payment_id)) & (col(line.sequence) == col(detail.sequence)),
                isouter=True,
            )
            .where(col(line.payment_id) == payment_id, col(line.sequence) > after_sequence)
            .order_by(col(line.sequence))
            .limit(limit)
        )  # fmt: skip
        return self._read(query)

    def rejections(self, merchant_account: str, before_id: int | None, limit: int) -> list[dict[str, Any]]:
        """Read refusals of submissions that came by task, newest first, older than ``before_id``."""
        values = {"merchant_account": merchant_account, "before_id": before_id, "limit": limit}
        return self.database.all(_REJECTIONS, values)

    def concluded_among(self, payment_ids: list[UUID]) -> set[UUID]:
        """Of these payments, those that a caller who waits has waited long enough for."""
        query = select(col(PaymentRow.id)).where(
            col(PaymentRow.id).in_(payment_ids), col(PaymentRow.state) != "pending"
        )
        return {row["id"] for row in self._read(query)}

    def _read(self, query: "Select[Any]") -> list[dict[str, Any]]:
        compiled = query.compile(dialect=_DIALECT, compile_kwargs={"render_postcompile": True})
        parameters: Mapping[str, Any] = dict(compiled.params)
        return self.database.all(str(compiled), parameters)


def _narrow(query: "Select[Any]", narrowed: PaymentFilter) -> "Select[Any]":
    equal = ("merchant_account", "reference", "poi_id", "state", "outcome", "psp_reference", "amount_minor")
    for name in equal:
        value = getattr(narrowed, name)
        if value is not None:
            query = query.where(col(getattr(PaymentRow, name)) == value)
    if narrowed.sale_reference_id is not None:
        query = query.where(_sale_reference_id() == narrowed.sale_reference_id)
    if narrowed.charged is not None:
        charged = col(PaymentRow.outcome).in_([outcome.value for outcome in CHARGED_OUTCOMES])
        query = query.where(charged if narrowed.charged else ~charged)
    if narrowed.created_from is not None:
        query = query.where(col(PaymentRow.created_at) >= narrowed.created_from)
    if narrowed.created_to is not None:
        query = query.where(col(PaymentRow.created_at) < narrowed.created_to)
    return query


def _sale_reference_id() -> ColumnElement[str]:
    """As its index has it: a member that is a bound parameter would not be found there."""
    return literal_column("(payments.options ->> 'sale_reference_id')", String)
