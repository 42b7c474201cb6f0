"""The schema's revisions: numbers of four digits, one for each migration."""

from functools import cache
from pathlib import Path
from typing import Final

MIGRATIONS: Final = Path(__file__).parent / "migrations"


@cache
def newest() -> str:
    """Name the newest revision that this release brings, by the files: asking Alembic costs every start its import."""
    return max(path.name[:4] for path in (MIGRATIONS / "versions").glob("[0-9][0-9][0-9][0-9]_*.py"))


def serves(found: str | None) -> bool:
    """Whether this release runs on a schema of this revision: its own, or a later one."""
    return found == newest() or is_later(found)


def is_later(found: str | None) -> bool:
    """Whether this revision is a later release's."""
    return found is not None and found.isdecimal() and found > newest()
