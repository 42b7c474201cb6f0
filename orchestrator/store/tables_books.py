"""The tables of reconciliation: runs, and the differences that they and webhooks find."""

from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Date,
    ForeignKey,
    Identity,
    Index,
    Integer,
    String,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel

from orchestrator.store.columns import instant, is_one_of, short_text
from orchestrator.store.words import DifferenceKind, DifferenceState, RunState


class DifferenceRow(SQLModel, table=True):
    """Something that a person has to look at: what we say, what they say, and what became of it.

    ``identity`` is a digest over the merchant account, the kind and what it is about, so that whoever finds it again
    finds the same row; ``facts`` is one over what they say, so that a closed one opens when that changes.
    """

    __tablename__ = "differences"
    __table_args__ = (
        CheckConstraint(is_one_of("kind", DifferenceKind), name="differences_kind"),
        CheckConstraint(is_one_of("state", DifferenceState), name="differences_state"),
        Index("differences_newest", "merchant_account", "number"),
        Index("differences_open", "merchant_account", "number", postgresql_where=text("state = 'open'")),
        Index("differences_payment", "payment_id", postgresql_where=text("payment_id IS NOT NULL")),
        Index("differences_state_of", "merchant_account", "state", "number"),
        Index("differences_kind_of", "merchant_account", "kind", "state", "number"),
    )

    id: UUID = Field(sa_column=Column(Uuid, primary_key=True, server_default=text("gen_random_uuid()")))
    number: int = Field(sa_column=Column(BigInteger, Identity(always=True), unique=True, nullable=False))
    identity: str = Field(sa_column=Column(String(64), nullable=False, unique=True))
    facts: str = Field(sa_column=short_text(64))
    merchant_account: str = Field(sa_column=short_text(80))
    kind: str = Field(sa_column=short_text(24))
    payment_id: UUID | None = Field(sa_column=Column(Uuid, ForeignKey("payments.id")))
    refund_id: UUID | None = Field(sa_column=Column(Uuid))
    psp_reference: str | None = Field(sa_column=short_text(64, nullable=True))
    reference: str | None = Field(sa_column=short_text(80, nullable=True))
    ours: dict[str, Any] | None = Field(sa_column=Column(JSONB))
    theirs: dict[str, Any] | None = Field(sa_column=Column(JSONB))
    source: str = Field(sa_column=short_text(200))
    found_at: datetime = Field(sa_column=instant(nullable=False, default=True))
    state: str = Field(sa_column=short_text(16, default=DifferenceState.OPEN))
    changed_at: datetime | None = Field(sa_column=instant())
    changed_by: str | None = Field(sa_column=short_text(120, nullable=True))
    note: str | None = Field(sa_column=short_text(500, nullable=True))
    history: list[dict[str, Any]] = Field(sa_column=Column(JSONB, nullable=False, server_default=text("'[]'")))


class RunRow(SQLModel, table=True):
    """A run over one merchant account and a period of whole days, in the reports' time zone."""

    __tablename__ = "reconciliation_runs"
    __table_args__ = (
        CheckConstraint(is_one_of("state", RunState), name="reconciliation_runs_state"),
        CheckConstraint("first_day <= last_day", name="reconciliation_runs_period"),
        CheckConstraint(
            "num_nonnulls(signed_at, signed_by, signed_open, signed_own) IN (0, 4)"
            " AND (signed_at IS NULL OR state = 'done')"
            " AND (coalesce(signed_open, 0) = 0 OR sign_note IS NOT NULL)",
            name="reconciliation_runs_signed",
        ),
        Index("reconciliation_runs_newest", "merchant_account", "number"),
        Index("reconciliation_runs_days", "merchant_account", "last_day"),
        Index(
            "reconciliation_runs_one_waits",
            "merchant_account",
            "first_day",
            "last_day",
            unique=True,
            postgresql_where=text("state = 'queued'"),
        ),
    )

    id: UUID = Field(sa_column=Column(Uuid, primary_key=True))
    number: int = Field(sa_column=Column(BigInteger, Identity(always=True), unique=True, nullable=False))
    merchant_account: str = Field(sa_column=short_text(80))
    first_day: date = Field(sa_column=Column(Date, nullable=False))
    last_day: date = Field(sa_column=Column(Date, nullable=False))
    started_by: str = Field(sa_column=short_text(120))
    created_at: datetime = Field(sa_column=instant(nullable=False, default=True))
    state: str = Field(sa_column=short_text(16, default=RunState.QUEUED))
    started_at: datetime | None = Field(sa_column=instant())
    finished_at: datetime | None = Field(sa_column=instant())
    progress: dict[str, Any] = Field(sa_column=Column(JSONB, nullable=False, server_default=text("'{}'")))
    reports: list[dict[str, Any]] = Field(sa_column=Column(JSONB, nullable=False, server_default=text("'[]'")))
    problems: list[dict[str, Any]] = Field(sa_column=Column(JSONB, nullable=False, server_default=text("'[]'")))
    summary: dict[str, Any] | None = Field(sa_column=Column(JSONB))
    signed_at: datetime | None = Field(sa_column=instant())
    signed_by: str | None = Field(sa_column=short_text(120, nullable=True))
    sign_note: str | None = Field(sa_column=short_text(500, nullable=True))
    signed_open: int | None = Field(sa_column=Column(Integer))  # differences that were open when it was signed off
    signed_own: int | None = Field(sa_column=Column(Integer))  # those that whoever signed had settled


class FoundRow(SQLModel, table=True):
    """Which run found which difference."""

    __tablename__ = "reconciliation_found"

    run_id: UUID = Field(sa_column=Column(Uuid, ForeignKey("reconciliation_runs.id"), primary_key=True))
    difference_id: UUID = Field(sa_column=Column(Uuid, ForeignKey("differences.id"), primary_key=True))
