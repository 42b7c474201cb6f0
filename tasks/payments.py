"""Payments: taken in, sent, stopped."""

from typing import Any
from uuid import UUID

from orchestrator.commands import CommandKind
from orchestrator.evidence import AbortAsked
from orchestrator.submissions import asker, refund_by_task, submit_by_task
from tasks import app, counterfoil
from tasks.keeping import kept_while_the_store_is_away


@app.task(name="tasks.payments.send", ignore_result=True)
def send(command_id: int) -> None:
    """Put a payment request on the wire, once."""
    counterfoil.performer.perform(command_id, CommandKind.SEND)


@app.task(name="tasks.payments.submit")
def submit(submission: dict[str, Any]) -> dict[str, Any]:
    """Take a submission in; a refusal is stored, and told as a value."""
    with kept_while_the_store_is_away():
        return submit_by_task(counterfoil.intake, counterfoil.store, submission)


@app.task(name="tasks.payments.abort", ignore_result=True)
def abort(payment_id: str, asked_by: str = "") -> None:
    """Ask for a payment to be stopped."""
    with kept_while_the_store_is_away():
        counterfoil.recorder.record(UUID(payment_id), AbortAsked(asked_by=asker(asked_by)))


@app.task(name="tasks.payments.refund")
def refund(refund: dict[str, Any]) -> dict[str, Any]:
    """Take a refund of a payment in; a refusal is stored, and told as a value."""
    with kept_while_the_store_is_away():
        return refund_by_task(counterfoil.refund_intake, counterfoil.store, refund)
