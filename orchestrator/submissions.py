"""Submissions that come by task: the same intake; a refusal is stored and told, never raised."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import structlog

from orchestrator.errors import Defect, InvalidSubmission, SubmissionRejected
from orchestrator.intake import Intake
from orchestrator.refunding.intake import RefundIntake
from orchestrator.store.store import Store
from orchestrator.subscription import REJECTED
from orchestrator.views import rejection_json

log = structlog.get_logger()

#: A fault of ours must not lose a submission in silence: its caller finds it among the rejections.
_DEFECT = "something is wrong with this service, and nothing was accepted; it has been noted"

_ENVELOPE = ("merchant_account", "idempotency_key", "submitted_at")


def submit_by_task(intake: Intake, store: Store, submission: Mapping[str, Any]) -> dict[str, Any]:
    """Accept or refuse; return ``{"id", "state"}`` of the payment, or the stored refusal's problem.

    Raises:
        StoreUnavailable: nothing could be stored; the message stays with the broker.
    """
    try:
        if not isinstance(submission, Mapping):
            raise InvalidSubmission("submission: must be an object with the members of POST /v1/payments")
        envelope = {name: submission[name] for name in _ENVELOPE if name in submission}
        body = {name: value for name, value in submission.items() if name not in _ENVELOPE}
        accepted = intake.submit(body, envelope)
    except SubmissionRejected as rejected:
        return _refuse(intake, store, submission, rejected)
    except Defect:
        log.exception("defect")
        return _refuse(intake, store, submission, SubmissionRejected(_DEFECT))
    return {"id": str(accepted.row["id"]), "state": accepted.row["state"]}


def refund_by_task(intake: RefundIntake, store: Store, refund: Mapping[str, Any]) -> dict[str, Any]:
    """Accept or refuse a refund of a payment; return its ``{"id", "state"}``, or the stored refusal's problem.

    Raises:
        StoreUnavailable: nothing could be stored; the message stays with the broker.
    """
    try:
        if not isinstance(refund, Mapping):
            raise InvalidSubmission("refund: must be an object with the members of POST /v1/payments/{id}/refunds")
        envelope = {name: refund[name] for name in _ENVELOPE if name in refund}
        body = {name: value for name, value in refund.items() if name not in {*_ENVELOPE, "payment_id", "asked_by"}}
        accepted = intake.refund(_payment_id(refund), body, envelope, asker(refund.get("asked_by")))
    except SubmissionRejected as rejected:
        return _refuse(intake, store, refund, rejected)
    except Defect:
        log.exception("defect")
        return _refuse(intake, store, refund, SubmissionRejected(_DEFECT))
    return {"id": str(accepted.row["id"]), "state": accepted.row["state"]}


def _payment_id(refund: Mapping[str, Any]) -> UUID:
    try:
        return UUID(refund["payment_id"])
    except (KeyError, TypeError, ValueError, AttributeError):
        raise InvalidSubmission("payment_id: is the payment's id", field="payment_id") from None


def _refuse(
    intake: Intake | RefundIntake, store: Store, submission: Any, rejected: SubmissionRejected
) -> dict[str, Any]:
    row, rings = store.keep_rejection(
        merchant_account=_shown(submission, "merchant_account", 80),
        idempotency_key=_shown(submission, "idempotency_key", 255),
        reference=_shown(submission, "reference", 80),
        problem=rejected.problem,
        field=rejected.field,
        detail=str(rejected)[:500],
        payment_id=rejected.payment_id,
        callback_url=intake.callback_url,
    )
    if rings:
        intake.bell(rings)
    intake.announce(REJECTED, row["at"], lambda: {**rejection_json(row), "merchant_account": row["merchant_account"]})
    log.warning("submission_rejected", problem=rejected.problem, field=rejected.field)
    return {"rejected": rejected.problem, "field": rejected.field, "detail": str(rejected)}


def asker(name: Any) -> str:
    """How the journal names who asked by task: as they call themselves, or ``task``. Anybody can put anything there."""
    return _printable(name, 120) or "task"


def _shown(submission: Any, name: str, length: int) -> str:
    """A member that identifies the submission, as far as it is text at all."""
    return _printable(submission.get(name) if isinstance(submission, Mapping) else None, length)


def _printable(value: Any, length: int) -> str:
    return "".join(c for c in value if c.isprintable())[:length] if isinstance(value, str) else ""
