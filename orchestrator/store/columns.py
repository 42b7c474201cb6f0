"""The kinds of columns that the tables are made of."""

from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum

from sqlalchemy import Boolean, Column, DateTime, String, text

NOW = text("now()")


def is_one_of(column: str, values: Iterable[StrEnum]) -> str:
    """Spell a CHECK: enumerations are text, since native ones cannot shrink."""
    return f"{column} IN ({', '.join(repr(v.value) for v in values)})"


def instant(*, nullable: bool = True, default: bool = False) -> Column[datetime]:
    """A time with its zone; ``default`` is the database's clock."""
    return Column(DateTime(timezone=True), nullable=nullable, server_default=NOW if default else None)


def flag() -> Column[bool]:
    """False until set."""
    return Column(Boolean, nullable=False, server_default=text("false"))


def short_text(length: int, *, nullable: bool = False, default: str | None = None) -> Column[str]:
    """Text of at most this many characters."""
    return Column(String(length), nullable=nullable, server_default=default)
