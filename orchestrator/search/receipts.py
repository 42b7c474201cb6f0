"""Words as receipts and people have them, put as the search has them.

A time and its day are two words there, a PSP reference stands in groups, the digits of a card behind stars.
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

_TIME: Final = re.compile(r"(?:at:)?([0-9]{1,2}):([0-9]{2}(?::[0-9]{2})?)", re.IGNORECASE | re.ASCII)
_DAY: Final = re.compile(
    r"(?:on:|at:)?(today|yesterday|[0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]{1,2}([-/.])[0-9]{1,2}\2[0-9]{4})",
    re.IGNORECASE | re.ASCII,
)
#: The day first, as receipts of Europe have it; how it was read is said on the page.
_DAY_FIRST: Final = re.compile(r"([0-9]{1,2})([-/.])([0-9]{1,2})\2([0-9]{4})", re.ASCII)
_STARS: Final = re.compile(r"[*•·…]+|[xX]{4,}")
_LAST4: Final = re.compile(r"[0-9]{4}", re.ASCII)
#: A PSP reference has sixteen capitals and digits, read out by fours.
_GROUP: Final = re.compile(r"[A-Z0-9]{4}")
_GROUPS: Final = 4
#: A clock that goes ahead of ours still says today.
_AHEAD: Final = timedelta(minutes=15)


def put_together(tokens: Sequence[str], now: datetime) -> list[str]:
    """Join what belongs together: a time and its day, a PSP reference in groups, stars and the digits behind them."""
    return _with_days(_with_stars(_with_groups(list(tokens))), now)


def iso_day(text: str) -> str:
    """Write a day that stands first, as ISO 8601 has it; anything else as it is."""
    found = _DAY_FIRST.fullmatch(text)
    return f"{found[4]}-{int(found[3]):02}-{int(found[1]):02}" if found else text


def _with_groups(tokens: list[str]) -> list[str]:
    for at in range(len(tokens) - _GROUPS + 1):
        groups = tokens[at : at + _GROUPS]
        whole = "".join(groups)
        if all(map(_GROUP.fullmatch, groups)) and not whole.isdigit() and not whole.isalpha():
            return [*tokens[:at], whole, *tokens[at + _GROUPS :]]
    return tokens


def _with_stars(tokens: list[str]) -> list[str]:
    starred = {
        at for at, token in enumerate(tokens[:-1]) if _STARS.fullmatch(token) and _LAST4.fullmatch(tokens[at + 1])
    }
    return [token for at, token in enumerate(tokens) if at not in starred]


def _with_days(tokens: list[str], now: datetime) -> list[str]:
    times = [found for found in map(_TIME.fullmatch, tokens) if found]
    days = [found for found in map(_DAY.fullmatch, tokens) if found]
    if len(times) != 1 or len(days) > 1:
        return tokens
    clock = f"{int(times[0][1]):02}:{times[0][2]}"
    day = _iso_of(days[0][1], now) if days else _newest_day(clock, now)
    if day is None:
        return tokens
    kept = [token for token in tokens if not days or token != days[0].group()]
    return [f"at:{day}T{clock}" if token == times[0].group() else token for token in kept]


def _iso_of(day: str, now: datetime) -> str:
    today = now.astimezone(UTC).date()
    named = {"today": today, "yesterday": today - timedelta(1)}.get(day.lower())
    return iso_day(day) if named is None else named.isoformat()


def _newest_day(clock: str, now: datetime) -> str | None:
    """The day on which it was that time last; None where it is no time of a day."""
    today = now.astimezone(UTC)
    try:
        at = datetime.fromisoformat(f"{today.date()}T{clock}").replace(tzinfo=UTC)
    except ValueError:
        return None
    return (at if at <= today + _AHEAD else at - timedelta(1)).date().isoformat()
