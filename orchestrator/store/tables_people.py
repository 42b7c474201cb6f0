"""The tables of the console: people who log in, and their sessions."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, Column, ForeignKey, Index, String, Uuid
from sqlmodel import Field, SQLModel

from orchestrator.keys import Role
from orchestrator.store.columns import instant, is_one_of, short_text


class PersonRow(SQLModel, table=True):
    """Somebody who may log in. Never deleted, so that a name in a journal means one person for good."""

    __tablename__ = "people"
    __table_args__ = (CheckConstraint(is_one_of("role", Role), name="people_role"),)

    id: UUID = Field(sa_column=Column(Uuid, primary_key=True))
    name: str = Field(sa_column=Column(String(80), nullable=False, unique=True))
    merchant_account: str = Field(sa_column=short_text(80))
    role: str = Field(sa_column=short_text(16))
    password_hash: str = Field(sa_column=short_text(200))
    form_secret: str = Field(sa_column=short_text(64))
    created_by: str = Field(sa_column=short_text(120))
    created_at: datetime = Field(sa_column=instant(nullable=False, default=True))
    revoked_at: datetime | None = Field(sa_column=instant())


class ConsoleSessionRow(SQLModel, table=True):
    """A session, by the SHA-256 of the 256 random bits in its cookie."""

    __tablename__ = "console_sessions"
    __table_args__ = (
        Index("console_sessions_person", "person_id"),
        Index("console_sessions_expires_at", "expires_at"),
    )

    token_hash: str = Field(sa_column=Column(String(64), primary_key=True))
    person_id: UUID = Field(sa_column=Column(Uuid, ForeignKey("people.id"), nullable=False))
    csrf: str = Field(sa_column=short_text(64))
    created_at: datetime = Field(sa_column=instant(nullable=False, default=True))
    seen_at: datetime = Field(sa_column=instant(nullable=False, default=True))
    expires_at: datetime = Field(sa_column=instant(nullable=False))
