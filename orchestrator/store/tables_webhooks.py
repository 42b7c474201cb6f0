"""The tables of standard webhooks: what each said and what became of it, and those that nobody could believe."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, Boolean, CheckConstraint, Column, Identity, Index, Integer, LargeBinary, String, Uuid
from sqlalchemy import text as sql_text
from sqlmodel import Field, SQLModel

from orchestrator.store.columns import instant, is_one_of, short_text
from orchestrator.store.words import Became


class WebhookRow(SQLModel, table=True):
    """One authentic webhook: members of an allow-list, and what became of it.

    Without ``became`` it was stored and not processed yet; with ``failed_at`` it cannot be, for a defect of ours.
    """

    __tablename__ = "webhooks"
    __table_args__ = (
        CheckConstraint(is_one_of("became", Became), name="webhooks_became"),
        CheckConstraint("(became IS NULL) = (processed_at IS NULL)", name="webhooks_processed"),
        CheckConstraint("(amount_minor IS NULL) = (currency IS NULL)", name="webhooks_amount"),
        Index("webhooks_unprocessed", "number", postgresql_where=sql_text("became IS NULL")),
        Index("webhooks_newest", "merchant_account", "number"),
        Index("webhooks_age", "received_at"),
        Index("webhooks_psp_reference", "psp_reference", postgresql_where=sql_text("psp_reference IS NOT NULL")),
        Index("webhooks_payment", "payment_id", postgresql_where=sql_text("payment_id IS NOT NULL")),
        Index("webhooks_refund", "refund_id", postgresql_where=sql_text("refund_id IS NOT NULL")),
        Index("webhooks_reports", "number", postgresql_where=sql_text("event_code = 'REPORT_AVAILABLE'")),
    )

    number: int = Field(sa_column=Column(BigInteger, Identity(always=True), primary_key=True))
    digest: str = Field(sa_column=Column(String(64), nullable=False, unique=True))
    live: bool | None = Field(sa_column=Column(Boolean))
    event_code: str = Field(sa_column=short_text(80))
    success: bool | None = Field(sa_column=Column(Boolean))
    merchant_account: str | None = Field(sa_column=short_text(256, nullable=True))
    psp_reference: str | None = Field(sa_column=short_text(256, nullable=True))
    original_reference: str | None = Field(sa_column=short_text(256, nullable=True))
    reference: str | None = Field(sa_column=short_text(256, nullable=True))
    currency: str | None = Field(sa_column=short_text(3, nullable=True))
    amount_minor: int | None = Field(sa_column=Column(BigInteger))
    happened_at: datetime | None = Field(sa_column=instant())
    reason: str | None = Field(sa_column=short_text(256, nullable=True))
    terminal_id: str | None = Field(sa_column=short_text(64, nullable=True))
    tender_reference: str | None = Field(sa_column=short_text(64, nullable=True))
    action: str | None = Field(sa_column=short_text(16, nullable=True))
    unreadable: bool = Field(sa_column=Column(Boolean, nullable=False))
    received_at: datetime = Field(sa_column=instant(nullable=False, default=True))
    last_at: datetime = Field(sa_column=instant(nullable=False, default=True))
    times: int = Field(sa_column=Column(Integer, nullable=False, server_default=sql_text("1")))
    became: str | None = Field(sa_column=short_text(16, nullable=True))
    processed_at: datetime | None = Field(sa_column=instant())
    failed_at: datetime | None = Field(sa_column=instant())
    payment_id: UUID | None = Field(sa_column=Column(Uuid))
    refund_id: UUID | None = Field(sa_column=Column(Uuid))


class QuarantineRow(SQLModel, table=True):
    """A body that no key of ours signed. It is kept for the day on which the right key is configured.

    The body alone could be replayed; one without any signature never can, and only counts.
    """

    __tablename__ = "webhook_quarantine"
    __table_args__ = (Index("webhook_quarantine_newest", "last_at"),)

    digest: str = Field(sa_column=Column(String(64), primary_key=True))
    size_bytes: int = Field(sa_column=Column(Integer, nullable=False))
    header: str | None = Field(sa_column=short_text(64, nullable=True))
    body: bytes | None = Field(sa_column=Column(LargeBinary))
    times: int = Field(sa_column=Column(Integer, nullable=False, server_default=sql_text("1")))
    first_at: datetime = Field(sa_column=instant(nullable=False, default=True))
    last_at: datetime = Field(sa_column=instant(nullable=False, default=True))
