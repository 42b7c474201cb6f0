"""How commands print: JSON, tables, plain lines where nobody looks at a screen."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from orchestrator.terminal_api import money


@cache
def console() -> Console:
    """Standard output; without colours and control codes where it is no terminal."""
    return Console(highlight=False, markup=False, emoji=False, soft_wrap=not sys.stdout.isatty())


def say(text: str) -> None:
    """Print one line."""
    typer.echo(text)


def emit(value: Any) -> None:
    """Print JSON."""
    typer.echo(json.dumps(value, indent=2, default=_plain, ensure_ascii=False))


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return str(value)


def table(heads: Sequence[str], rows: Iterable[Sequence[str | Text]], empty: str) -> None:
    """Print rows under their heads: a table on a screen, tabs in between otherwise."""
    lines = list(rows)
    if not console().is_terminal:
        for line in [heads, *lines] if lines else []:
            say("\t".join(str(cell) for cell in line))
    elif lines:
        shown = Table(*heads, box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
        for line in lines:
            shown.add_row(*line)
        console().print(shown)
    if not lines:
        say(empty)


def access_table(named: str, rows: Iterable[Mapping[str, Any]], empty: str) -> None:
    """Print who may come in, people or keys, each by this member; those who may no more as well."""
    heads = (named, "merchant account", "role", "made by", "made", "revoked")
    lines = [
        (
            str(row[named]),
            str(row["merchant_account"]),
            str(row["role"]),
            str(row["created_by"]),
            clock(row["created_at"]),
            clock(row["revoked_at"]),
        )
        for row in rows
    ]
    table(heads, lines, empty)


def money_text(currency: str, minor: int) -> str:
    """10.50 EUR."""
    return money.in_words(currency, minor)


def clock(at: datetime | None) -> str:
    """A time in this machine's zone, for people; today without its date."""
    if at is None:
        return ""
    local = at.astimezone()
    today = local.date() == datetime.now().astimezone().date()
    return local.strftime("%H:%M:%S" if today else "%Y-%m-%d %H:%M:%S")
