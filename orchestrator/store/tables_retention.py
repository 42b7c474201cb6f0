"""The table of what retention has expunged."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Column, Identity, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel

from orchestrator.store.columns import instant, short_text


class RetentionRunRow(SQLModel, table=True):
    """One run: everything from before ``cutoff`` might go. Without ``finished_at`` it did not come to its end.

    A journal may lack what its lines rest on up to the latest cutoff; beyond it, somebody else took it away.
    """

    __tablename__ = "retention_runs"

    id: int = Field(sa_column=Column(BigInteger, Identity(always=True), primary_key=True))
    cutoff: datetime = Field(sa_column=instant(nullable=False))
    started_by: str = Field(sa_column=short_text(120))
    began_at: datetime = Field(sa_column=instant(nullable=False, default=True))
    finished_at: datetime | None = Field(sa_column=instant())
    expunged: dict[str, Any] = Field(sa_column=Column(JSONB, nullable=False, server_default=text("'{}'")))
