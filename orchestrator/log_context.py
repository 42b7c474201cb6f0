"""What log lines are about: bound once where work comes in, and said by every line that is written inside.

Held in a context variable: each thread of a pool and each task of an event loop has its own, and whoever binds puts
back what was there before. An exception takes along what was bound where it began, so that whoever logs it further
out, such as Celery, still names the payment.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from contextvars import ContextVar, Token, copy_context
from functools import partial
from types import TracebackType
from typing import Any, Final, TypeVar

#: What may be bound. ``docs/logs.md`` explains each; a test compares.
FIELDS: Final = (
    "request",
    "task",
    "task_name",
    "payment",
    "refund",
    "reference",
    "terminal",
    "command",
    "callback",
    "webhook",
    "trace",
)

_NOTHING: Final[Mapping[str, Any]] = {}
_ATTRIBUTE: Final = "counterfoil_log_context"

_bound: ContextVar[Mapping[str, Any]] = ContextVar("log_context", default=_NOTHING)

T = TypeVar("T")


class About:
    """Binds fields inside a ``with``; :func:`about` leaves out those that are None."""

    __slots__ = ("_fields", "_token")

    def __init__(self, fields: Mapping[str, Any]) -> None:
        self._fields = fields
        self._token: Token[Mapping[str, Any]] | None = None

    def __enter__(self) -> None:
        self._token = _bound.set({**_bound.get(), **self._fields})

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if error is not None and not hasattr(error, _ATTRIBUTE):
            with suppress(AttributeError):  # an exception of somebody else's that takes no attributes
                setattr(error, _ATTRIBUTE, _bound.get())
        if self._token is not None:
            _bound.reset(self._token)


def about(**fields: object) -> About:
    """Have the lines inside this ``with`` say these fields; a field that is None is not said."""
    return About({name: value for name, value in fields.items() if value is not None})


def identity_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """What lines about a payment's row name, or about a refund's, which names its payment itself."""
    if "payment_id" not in row:
        return {"payment": row["id"], "reference": row["reference"], "terminal": row["poi_id"]}
    of_payment = {} if row["payment_id"] is None else {"payment": row["payment_id"]}
    return {**of_payment, "refund": row["id"], "reference": row["reference"], "terminal": row["poi_id"]}


def bound() -> Mapping[str, Any]:
    """What lines are about here."""
    return _bound.get()


def bound_of(error: object) -> Mapping[str, Any]:
    """What lines were about where this exception began; nothing where nobody bound anything."""
    found: Mapping[str, Any] = getattr(error, _ATTRIBUTE, _NOTHING)
    return found


def carried(function: Callable[..., T]) -> Callable[..., T]:
    """Have a function run with what is bound here, in whatever thread it is called."""
    return partial(copy_context().run, function)
