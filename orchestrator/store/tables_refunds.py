"""The tables of refunds: the rows, their journal, and what was paid back without us."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Identity,
    Index,
    Integer,
    String,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel

from orchestrator.model import State, Transport
from orchestrator.refunds.model import RefundOutcome, RefundReason
from orchestrator.store.columns import flag, instant, is_one_of, short_text
from orchestrator.store.words import COUNTED_LINES


class RefundRow(SQLModel, table=True):
    """One refund: what was asked, and what we believe. Without ``payment_id`` it refers to no payment."""

    __tablename__ = "refunds"
    __table_args__ = (
        UniqueConstraint("merchant_account", "idempotency_key", name="refunds_idempotency"),
        UniqueConstraint("poi_id", "service_id", name="refunds_service_id"),
        CheckConstraint(is_one_of("state", State), name="refunds_state"),
        CheckConstraint(is_one_of("outcome", RefundOutcome), name="refunds_outcome"),
        CheckConstraint(is_one_of("reason", RefundReason), name="refunds_reason"),
        CheckConstraint(is_one_of("transport", Transport), name="refunds_transport"),
        CheckConstraint(
            "(outcome IS NOT NULL) = (state IN ('confirmed', 'reconciled'))", name="refunds_outcome_by_state"
        ),
        CheckConstraint("(concluded_at IS NOT NULL) = (outcome IS NOT NULL)", name="refunds_concluded"),
        CheckConstraint("(reconciled_at IS NOT NULL) = (state = 'reconciled')", name="refunds_reconciled"),
        CheckConstraint("(answer_by IS NOT NULL) = (sent_at IS NOT NULL)", name="refunds_answer_by"),
        CheckConstraint(
            "reason IS DISTINCT FROM 'pending_approval'"
            " OR (needs_approval AND approved_by IS NULL AND sent_at IS NULL)",
            name="refunds_pending_approval",
        ),
        CheckConstraint("approved_by <> asked_by", name="refunds_two_people"),
        CheckConstraint("NOT needs_approval OR payment_id IS NULL", name="refunds_approval_of_unreferenced"),
        CheckConstraint(
            "holds_terminal IS NULL OR (holds_terminal = poi_id AND payment_id IS NULL AND state = 'pending')",
            name="refunds_holds_its_terminal",
        ),
        CheckConstraint("amount_minor > 0", name="refunds_amount"),
        CheckConstraint("currency ~ '^[A-Z]{3}$'", name="refunds_currency"),
        CheckConstraint(r"reference ~ '^[ -9;-\[\]-~]{1,80}$'", name="refunds_reference"),
        CheckConstraint("sequence >= 1", name="refunds_sequence"),
        Index(
            "refunds_terminal_holder",
            "holds_terminal",
            unique=True,
            postgresql_where=text("holds_terminal IS NOT NULL"),
        ),
        Index("refunds_payment", "payment_id", "number"),
        Index("refunds_reference_of_merchant", "merchant_account", "reference"),
        Index("refunds_newest", "merchant_account", "number"),
        Index("refunds_psp_reference", "psp_reference", postgresql_where=text("psp_reference IS NOT NULL")),
        Index("refunds_unknown", "merchant_account", "number", postgresql_where=text("state = 'unknown'")),
        Index("refunds_open", "merchant_account", "number", postgresql_where=text("outcome IS NULL")),
    )

    id: UUID = Field(sa_column=Column(Uuid, primary_key=True))
    number: int = Field(sa_column=Column(BigInteger, Identity(always=True), unique=True, nullable=False))
    payment_id: UUID | None = Field(sa_column=Column(Uuid, ForeignKey("payments.id")))
    merchant_account: str = Field(sa_column=short_text(80))
    idempotency_key: str = Field(sa_column=short_text(255))
    fingerprint: str = Field(sa_column=short_text(64))
    reference: str = Field(sa_column=short_text(80))
    poi_id: str = Field(sa_column=short_text(64))
    sale_id: str = Field(sa_column=short_text(64))
    service_id: str = Field(sa_column=short_text(10))
    transport: str = Field(sa_column=short_text(8))
    currency: str = Field(sa_column=short_text(3))
    amount_minor: int = Field(sa_column=Column(BigInteger, nullable=False))
    send_by: datetime = Field(sa_column=instant(nullable=False))
    created_at: datetime = Field(sa_column=instant(nullable=False, default=True))
    callback_url: str | None = Field(sa_column=short_text(500, nullable=True))
    asked_by: str = Field(sa_column=short_text(120))
    needs_approval: bool = Field(sa_column=flag())
    approved_by: str | None = Field(sa_column=short_text(120, nullable=True))
    state: str = Field(sa_column=short_text(16, default=State.PENDING))
    outcome: str | None = Field(sa_column=short_text(24, nullable=True))
    reason: str | None = Field(sa_column=short_text(40, nullable=True))
    sequence: int = Field(sa_column=Column(Integer, nullable=False, server_default=text("1")))
    sent_at: datetime | None = Field(sa_column=instant())
    answer_by: datetime | None = Field(sa_column=instant())
    concluded_at: datetime | None = Field(sa_column=instant())
    reconciled_at: datetime | None = Field(sa_column=instant())
    psp_reference: str | None = Field(sa_column=short_text(64, nullable=True))
    refused_with: str | None = Field(sa_column=short_text(200, nullable=True))
    not_found_at: datetime | None = Field(sa_column=instant())
    checks: int = Field(sa_column=Column(Integer, nullable=False, server_default=text("0")))
    sentinel: bool = Field(sa_column=flag())
    books: dict[str, Any] | None = Field(sa_column=Column(JSONB))
    holds_terminal: str | None = Field(sa_column=short_text(64, nullable=True))
    claim_token: UUID | None = Field(sa_column=Column(Uuid))
    trace: str | None = Field(sa_column=short_text(55, nullable=True))  # where it began: a W3C traceparent
    journal_hash: str = Field(sa_column=short_text(64))


class RefundJournalLine(SQLModel, table=True):
    """Why the row says what it says: append-only and hash-chained, as ``journal`` is."""

    __tablename__ = "refund_journal"
    __table_args__ = (
        Index("refund_journal_digest", "refund_id", "digest", unique=True, postgresql_where=text("digest IS NOT NULL")),
        Index("refund_journal_counted", "number", postgresql_where=text(COUNTED_LINES)),
    )

    refund_id: UUID = Field(sa_column=Column(Uuid, ForeignKey("refunds.id"), primary_key=True))
    sequence: int = Field(sa_column=Column(Integer, primary_key=True))
    at: datetime = Field(sa_column=instant(nullable=False))
    evidence: str = Field(sa_column=short_text(40))
    event: str = Field(sa_column=short_text(40))
    before: str | None = Field(sa_column=short_text(16, nullable=True))
    after: str = Field(sa_column=short_text(16))
    digest: str | None = Field(sa_column=short_text(64, nullable=True))
    detail_hash: str = Field(sa_column=short_text(64))
    hash: str = Field(sa_column=short_text(64))
    number: int | None = Field(sa_column=Column(BigInteger, server_default=text("nextval('refund_journal_number')")))


class RefundJournalDetail(SQLModel, table=True):
    """What a line rests on; retention may empty it while the proof stays."""

    __tablename__ = "refund_journal_details"

    refund_id: UUID = Field(sa_column=Column(Uuid, primary_key=True))
    sequence: int = Field(sa_column=Column(Integer, primary_key=True))
    salt: str = Field(sa_column=short_text(32))
    detail: dict[str, Any] = Field(sa_column=Column(JSONB, nullable=False))


class RefundRepeat(SQLModel, table=True):
    """Evidence that reached us again: counted, not journalled."""

    __tablename__ = "refund_journal_repeats"

    refund_id: UUID = Field(sa_column=Column(Uuid, ForeignKey("refunds.id"), primary_key=True))
    digest: str = Field(sa_column=Column(String(64), primary_key=True))
    times: int = Field(sa_column=Column(Integer, nullable=False, server_default=text("1")))
    last_at: datetime = Field(sa_column=instant(nullable=False, default=True))


class RefundElsewhereRow(SQLModel, table=True):
    """What the books say was paid back without us, by its own PSP reference: it lowers what is left to refund."""

    __tablename__ = "refunds_elsewhere"
    __table_args__ = (CheckConstraint("amount_minor > 0", name="refunds_elsewhere_amount"),)

    payment_id: UUID = Field(sa_column=Column(Uuid, ForeignKey("payments.id"), primary_key=True))
    psp_reference: str = Field(sa_column=Column(String(64), primary_key=True))
    amount_minor: int = Field(sa_column=Column(BigInteger, nullable=False))
    paid_back: bool = Field(sa_column=flag())
    effective_at: str | None = Field(sa_column=short_text(40, nullable=True))
