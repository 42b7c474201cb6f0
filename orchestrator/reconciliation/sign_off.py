"""A person signs a run off: from then on the books of its days count as closed, by name."""

from uuid import UUID

from orchestrator.errors import AlreadySigned, DifferencesOpen, NotFound, RunNotDone
from orchestrator.store.reconciliation import RunStore
from orchestrator.store.rows import Row
from orchestrator.store.words import RunState


def sign_off(runs: RunStore, run_id: UUID, merchant_account: str | None, *, by: str, note: str | None) -> Row:
    """Sign a run off; return it.

    Whoever closed its differences may sign it too: how many of them were the signer's own is kept with the sign-off.

    Raises:
        NotFound: there is no such run.
        RunNotDone: it has not ended, or was refused or failed.
        AlreadySigned: somebody signed it before.
        DifferencesOpen: it has open differences, and no note says why that may be.
    """
    signed = runs.sign_off(run_id, merchant_account, by=by, note=note)
    if signed is not None:
        return signed
    row = runs.one(run_id, merchant_account)
    if row is None:
        raise NotFound
    if row["signed_at"] is not None:
        raise AlreadySigned
    if row["state"] != RunState.DONE:
        raise RunNotDone
    raise DifferencesOpen(field="note")
