"""Timers: once a second, ring what is due; and whether anybody takes what is in the queues."""

from typing import Any

from orchestrator.vigil import CANARY_EXPIRES_S
from tasks import app, counterfoil


@app.task(name="tasks.timers.sweep", ignore_result=True)
def sweep() -> None:
    """Ring what is due and was not done."""
    counterfoil.performer.sweep()
    counterfoil.vigil.swept(_send_canary)


@app.task(name="tasks.timers.canary", ignore_result=True, bind=True)
def canary(self: Any, queue: str) -> None:
    """Say that this queue is served."""
    counterfoil.vigil.answered(queue, self.request.hostname or "")


def _send_canary(queue: str) -> None:
    canary.apply_async(kwargs={"queue": queue}, queue=queue, expires=CANARY_EXPIRES_S)
