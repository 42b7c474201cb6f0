"""Templates, and what they may call."""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from orchestrator.model import Money
from orchestrator.terminal_api import money

_HERE: Final = Path(__file__).parent
STATIC: Final = _HERE / "static"

#: Views in the order of the navigation: path, word.
NAVIGATION: Final = (
    ("/console", "Search"),
    ("/console/attention", "Needs attention"),
    ("/console/terminals", "Terminals"),
    ("/console/reconciliation", "Reconciliation"),
    ("/console/callbacks", "Callbacks"),
    ("/console/health", "Health"),
    ("/console/charts", "Charts"),
)

#: Hexadecimal digits of a file's hash in its address: more than enough to tell its versions apart.
_HASH_DIGITS: Final = 12
_FILES_MAX: Final = 256

_STEPS: Final = ((60, 1, "s"), (3600, 60, "min"), (86_400, 3600, "h"), (float("inf"), 86_400, "d"))


@cache
def environment() -> Environment:
    """The templates, every value in them escaped."""
    made = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=True,
    )
    made.globals |= {"navigation": NAVIGATION, "static": static_url, "is_here": is_here}
    made.filters |= {"amount": amount_text, "utc": utc_text, "iso": iso_text, "ago": ago_text, "words": words}
    return made


def static_url(name: str) -> str:
    """The address of a static file, which changes with what is in it."""
    return f"/console/static/{name}?v={hash_of(name)}"


def hash_of(name: str) -> str:
    """The hash of a static file. Raises FileNotFoundError where there is none."""
    return _hash(name, (STATIC / name).stat().st_mtime_ns)


@lru_cache(_FILES_MAX)
def _hash(name: str, _changed_at_ns: int) -> str:
    return hashlib.sha256((STATIC / name).read_bytes()).hexdigest()[:_HASH_DIGITS]


def is_here(path: str, entry: str) -> bool:
    """Whether a navigation entry is the one that a page stands under."""
    if entry == "/console":
        return path == entry or path.startswith("/console/payments")
    return path == entry or path.startswith(entry + "/")


def amount_text(minor: int | None, currency: str) -> str:
    """10.50 EUR; minor units where the currency is not the platform's."""
    if minor is None:
        return "–"
    try:
        return f"{money.to_major(Money(currency, minor)):,f} {currency}"
    except money.InvalidAmount:
        return f"{minor} minor units of {currency}"


def instant_of(at: datetime | str) -> datetime:
    """An instant, also from the text that the HTTP API shows."""
    return datetime.fromisoformat(at) if isinstance(at, str) else at


def utc_text(at: datetime | str) -> str:
    """2026-11-21 15:04:05, in UTC."""
    return instant_of(at).astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def iso_text(at: datetime | str) -> str:
    """As machines read it."""
    return instant_of(at).astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def ago_text(at: datetime | str) -> str:
    """How long ago, in one unit: "5 min ago", "in 2 h"."""
    seconds = (datetime.now(UTC) - instant_of(at)).total_seconds()
    for limit, unit_s, unit in _STEPS:
        if abs(seconds) < limit:
            count = int(abs(seconds) // unit_s)
            if seconds >= 0:
                return "just now" if unit == "s" and count < 2 else f"{count} {unit} ago"
            return f"in {count} {unit}"
    raise AssertionError  # pragma: no cover  -- the last step has no limit


def words(value: object) -> str:
    """A stored word as people read it: ``partially_approved`` is "partially approved"."""
    return str(value).replace("_", " ")


def host_of(url: str) -> str:
    """The host of an address: the rest may hold a secret."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def render(template: str, values: Mapping[str, Any]) -> str:
    """Make a page's text."""
    return environment().get_template(template).render(values)
