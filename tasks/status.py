"""Status: ask a terminal what became of a payment."""

from uuid import UUID

from orchestrator.evidence import CheckAsked
from tasks import app, counterfoil
from tasks.keeping import kept_while_the_store_is_away


@app.task(name="tasks.status.check", ignore_result=True)
def check(command_id: int | None = None, payment_id: str | None = None) -> None:
    """Perform a due check, or have anybody's wish for one recorded."""
    if command_id is not None:
        counterfoil.performer.perform(command_id)
    elif payment_id is not None:
        with kept_while_the_store_is_away():
            counterfoil.recorder.record(UUID(payment_id), CheckAsked(asked_by="task"))
