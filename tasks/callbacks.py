"""Callbacks: tell callers what became of their payments."""

from orchestrator.commands import CommandKind
from tasks import app, counterfoil


@app.task(name="tasks.callbacks.tell", ignore_result=True)
def tell(command_id: int) -> None:
    """Tell what is due of one payment, in order."""
    counterfoil.performer.perform(command_id, CommandKind.TELL_CALLER)
