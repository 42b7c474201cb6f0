"""The table of what one person proposed about an unknown payment."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Column, ForeignKey, Uuid
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel

from orchestrator.store.columns import instant, short_text


class RulingProposalRow(SQLModel, table=True):
    """A ruling that waits for a second person; the newest one stands."""

    __tablename__ = "ruling_proposals"

    payment_id: UUID = Field(sa_column=Column(Uuid, ForeignKey("payments.id"), primary_key=True))
    fingerprint: str = Field(sa_column=short_text(64))
    proposed_by: str = Field(sa_column=short_text(120))
    name: str = Field(sa_column=short_text(120))
    verdict: dict[str, Any] | None = Field(sa_column=Column(JSONB))  # what a second person would agree to
    at: datetime = Field(sa_column=instant(nullable=False, default=True))
