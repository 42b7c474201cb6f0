"""Reconciliation: hold our rows against the platform's reports."""

from tasks import app, counterfoil
from tasks.keeping import kept_while_the_store_is_away


@app.task(name="tasks.reconciliation.run")
def run(
    run_id: str | None = None,
    merchant_account: str | None = None,
    first_day: str | None = None,
    last_day: str | None = None,
) -> list[dict[str, str]]:
    """Go through one run, one merchant account's period, or the last days of all."""
    with kept_while_the_store_is_away():
        return counterfoil.reconciler.by_task(
            run_id=run_id, merchant_account=merchant_account, first_day=first_day, last_day=last_day
        )
