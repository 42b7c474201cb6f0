"""Refunds: sent, asked about, waited for."""

from tasks import app, counterfoil


@app.task(name="tasks.refunds.send", ignore_result=True)
def send(command_id: int) -> None:
    """Put a refund on the wire, once."""
    counterfoil.refund_performer.perform(command_id)


@app.task(name="tasks.refunds.check", ignore_result=True)
def check(command_id: int) -> None:
    """Ask what became of a refund, or note that its time is over."""
    counterfoil.refund_performer.perform(command_id)
