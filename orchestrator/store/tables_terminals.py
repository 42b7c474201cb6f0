"""The tables of terminals: how they are reached, their keys, and what they show and print."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
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

from orchestrator.model import Transport
from orchestrator.store.columns import instant, is_one_of, short_text
from orchestrator.store.words import KeyLevel


class TerminalRow(SQLModel, table=True):
    """A registered terminal and the way to it."""

    __tablename__ = "terminals"
    __table_args__ = (
        CheckConstraint(is_one_of("transport", Transport), name="terminals_transport"),
        Index(
            "terminals_of_merchant",
            "merchant_account",
            "poi_id",
            postgresql_where=text("removed_at IS NULL"),
            postgresql_ops={"poi_id": "varchar_pattern_ops"},
        ),
        Index(
            "terminals_of_store",
            "merchant_account",
            "store",
            "poi_id",
            postgresql_where=text("removed_at IS NULL"),
            postgresql_ops={"poi_id": "varchar_pattern_ops"},
        ),
    )

    poi_id: str = Field(sa_column=Column(String(64), primary_key=True))
    merchant_account: str = Field(sa_column=short_text(80))
    store: str | None = Field(sa_column=short_text(80, nullable=True))
    transport: str = Field(sa_column=short_text(8))
    region: str | None = Field(sa_column=short_text(8, nullable=True))
    cloud_api: str | None = Field(sa_column=short_text(8, nullable=True))
    till_prints: bool | None = Field(sa_column=Column(Boolean))
    address: str | None = Field(sa_column=short_text(255, nullable=True))
    address_at: datetime | None = Field(sa_column=instant())
    trouble: str | None = Field(sa_column=short_text(16, nullable=True))  # what it said is wrong with it
    trouble_at: datetime | None = Field(sa_column=instant())
    created_at: datetime = Field(sa_column=instant(nullable=False, default=True))
    reassigned_at: datetime | None = Field(sa_column=instant())
    removed_at: datetime | None = Field(sa_column=instant())
    held_at: datetime | None = Field(sa_column=instant())
    held_by: str | None = Field(sa_column=short_text(120, nullable=True))
    hold_reason: str | None = Field(sa_column=short_text(500, nullable=True))
    look: dict[str, Any] | None = Field(sa_column=Column(JSONB))  # how it was when somebody last looked
    looked_at: datetime | None = Field(sa_column=instant())


class SharedKeyRow(SQLModel, table=True):
    """A key that terminals share with us: its passphrase by reference to a secret, never itself.

    The highest version seals; all that were not dropped open, so that a key can be rotated.
    """

    __tablename__ = "shared_keys"
    __table_args__ = (
        CheckConstraint(is_one_of("level", KeyLevel), name="shared_keys_level"),
        CheckConstraint("(level = 'company') = (merchant_account IS NULL)", name="shared_keys_merchant"),
        CheckConstraint("(level IN ('store', 'terminal')) = (scope IS NOT NULL)", name="shared_keys_scope"),
        CheckConstraint("version >= 0", name="shared_keys_version"),
        Index(
            "shared_keys_once",
            "level",
            text("coalesce(merchant_account, '')"),
            text("coalesce(scope, '')"),
            "identifier",
            "version",
            unique=True,
            postgresql_where=text("dropped_at IS NULL"),
        ),
    )

    id: int = Field(sa_column=Column(BigInteger, Identity(always=True), primary_key=True))
    level: str = Field(sa_column=short_text(8))
    merchant_account: str | None = Field(sa_column=short_text(80, nullable=True))
    scope: str | None = Field(sa_column=short_text(80, nullable=True))  # the store, or the POIID
    identifier: str = Field(sa_column=short_text(80))
    version: int = Field(sa_column=Column(Integer, nullable=False))
    passphrase: str = Field(sa_column=short_text(255))  # such as env:TERMINAL_KEY or file:/run/secrets/terminal_key
    created_by: str = Field(sa_column=short_text(120))
    created_at: datetime = Field(sa_column=instant(nullable=False, default=True))
    dropped_at: datetime | None = Field(sa_column=instant())


class TerminalEventRow(SQLModel, table=True):
    """What a terminal showed or said, for whoever watches it: never an outcome.

    The ids of one terminal are given out in the order in which its rows are committed (``live`` sees to it), so that
    a reader who knows the last one that it saw misses none.
    """

    __tablename__ = "terminal_events"
    __table_args__ = (
        CheckConstraint("kind IN ('display', 'event')", name="terminal_events_kind"),
        Index("terminal_events_terminal", "poi_id", "id"),
        Index("terminal_events_payment", "payment_id", "id", postgresql_where=text("payment_id IS NOT NULL")),
        Index("terminal_events_age", "at"),
    )

    id: int = Field(sa_column=Column(BigInteger, Identity(always=True), primary_key=True))
    poi_id: str = Field(sa_column=short_text(64))
    payment_id: UUID | None = Field(sa_column=Column(Uuid))
    kind: str = Field(sa_column=short_text(8))
    name: str = Field(sa_column=short_text(80))
    detail: dict[str, Any] = Field(sa_column=Column(JSONB, nullable=False, server_default=text("'{}'")))
    at: datetime = Field(sa_column=instant(nullable=False, default=True))


class ReceiptsRow(SQLModel, table=True):
    """What the terminal wants printed for a payment, as lines; kept where the settings say so."""

    __tablename__ = "receipts"

    payment_id: UUID = Field(sa_column=Column(Uuid, ForeignKey("payments.id"), primary_key=True))
    receipts: list[dict[str, Any]] = Field(sa_column=Column(JSONB, nullable=False))
    at: datetime = Field(sa_column=instant(nullable=False, default=True))
