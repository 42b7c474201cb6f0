"""The tables of what metrics count, and of the signs of life that beat and queues give."""

from datetime import datetime

from sqlalchemy import BigInteger, Column, Double, Identity, String, Text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlmodel import Field, SQLModel

from orchestrator.store.columns import instant, short_text


class TallyRow(SQLModel, table=True):
    """What a counter stands at, by the values of its labels. It only rises, whatever retention expunges."""

    __tablename__ = "tallies"

    name: str = Field(sa_column=Column(String(60), primary_key=True))
    labels: list[str] = Field(sa_column=Column(ARRAY(Text), primary_key=True))
    value: float = Field(sa_column=Column(Double, nullable=False))


class TallyMarkRow(SQLModel, table=True):
    """How far a table was counted: up to and with the row of this number."""

    __tablename__ = "tally_marks"

    feed: str = Field(sa_column=Column(String(24), primary_key=True))
    mark: int = Field(sa_column=Column(BigInteger, nullable=False))


class TallyStepRow(SQLModel, table=True):
    """One more of something that leaves no row of its own to be counted by. Gone once it is counted."""

    __tablename__ = "tally_steps"

    id: int = Field(sa_column=Column(BigInteger, Identity(always=True), primary_key=True))
    name: str = Field(sa_column=short_text(60))
    labels: list[str] = Field(sa_column=Column(ARRAY(Text), nullable=False))


class PulseRow(SQLModel, table=True):
    """A sign of life: of the sweep, which beat asks for, and of each queue, whose canary somebody took.

    ``asked_at`` is when the last canary was put into the queue, ``at`` when one was last taken from it.
    """

    __tablename__ = "pulses"

    name: str = Field(sa_column=Column(String(24), primary_key=True))
    since: datetime = Field(sa_column=instant(nullable=False, default=True))
    asked_at: datetime | None = Field(sa_column=instant())
    at: datetime | None = Field(sa_column=instant())
    worker: str | None = Field(sa_column=short_text(120, nullable=True))
