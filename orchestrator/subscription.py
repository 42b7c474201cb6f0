"""What callers are told of by callback, and who else may hear of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeAlias

_STATES: Final = ("pending", "unknown", "confirmed", "reconciled")

DISPLAY: Final = "terminal.display"
COMPLETED: Final = "reconciliation.completed"
REJECTED: Final = "payment.rejected"

#: Every type of callback; on the exchange they are the routing keys.
TYPES: Final = (
    *(f"payment.{state}" for state in _STATES),
    REJECTED,
    *(f"refund.{state}" for state in _STATES),
    DISPLAY,
    COMPLETED,
)

#: Tells whoever listens on the exchange: a type, when it came to be, and what spells it once it is needed.
Announce: TypeAlias = Callable[[str, datetime, Callable[[], Mapping[str, Any]]], None]


def unheard(_type: str, _at: datetime, _data: Callable[[], Mapping[str, Any]]) -> None:
    """Announce to nobody."""


@dataclass(frozen=True, slots=True)
class Subscription:
    """Which types callbacks are sent for: names, and patterns such as ``payment.*`` and ``*``."""

    patterns: tuple[str, ...] = ("payment.*", "refund.*", COMPLETED)

    def wants(self, type_: str, *, agreed: bool = False) -> bool:
        """Whether a callback is sent. ``agreed``: the books merely confirmed what was told, so it must be named."""
        return type_ in self.patterns or (not agreed and any(_covers(pattern, type_) for pattern in self.patterns))

    @property
    def wanted(self) -> list[str]:
        """The types that are there and that callbacks are sent for."""
        return [type_ for type_ in TYPES if self.wants(type_)]


#: What callbacks are sent for where nobody says otherwise.
USUAL: Final = Subscription()


def _covers(pattern: str, type_: str) -> bool:
    return pattern == "*" or (pattern.endswith(".*") and type_.startswith(pattern[:-1]))
