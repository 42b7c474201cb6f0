"""What every task is: bound to its id for the log, and the start of a trace where a caller's wish comes in."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final

from celery import Task

from orchestrator import tracing
from orchestrator.log_context import about

#: What callers enqueue. The other tasks perform commands, and a command goes on with the trace of its payment.
_ASKED_BY_CALLERS: Final = frozenset({"tasks.payments.submit", "tasks.payments.abort", "tasks.payments.refund"})


class Doorbell(Task):  # type: ignore[type-arg]  # generic in its types alone, not when it runs
    """A task of ours."""

    abstract = True

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        """Run it. A pool's thread runs one task after the other: what is bound for one is let go of at its end."""
        with about(task=self.request.id, task_name=self.name), self._trace():
            return self.run(*arguments, **keywords)

    def _trace(self) -> AbstractContextManager[None]:
        """Below the caller's own span, where the message names one in its header ``traceparent``."""
        if self.name not in _ASKED_BY_CALLERS:
            return nullcontext()
        parent = self.request.get("traceparent")
        return tracing.door(self.name, "consumer", parent if isinstance(parent, str) else None, task=self.request.id)
