"""A refund is taken in, or refused with the field and the remedy. One path for HTTP, Celery and the command line.

A payment is paid back to the card that paid it, up to what was charged. A refund without a payment goes to any card
that is presented: it is off unless a setting allows it, and above a limit it takes a second person.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, TypeVar
from uuid import UUID

import structlog
from pydantic import ValidationError

from orchestrator import tracing
from orchestrator.cards import mask_card_numbers
from orchestrator.errors import (
    ConcurrentUpdate,
    IdempotencyConflict,
    InvalidSubmission,
    NotCharged,
    NotFound,
    RefundExceedsPayment,
    UnknownPayment,
    UnknownTerminal,
    UnreferencedRefundsOff,
)
from orchestrator.ids import new_id
from orchestrator.intake import (
    REMEDIES,
    Amount,
    Envelope,
    PoiId,
    Reference,
    SendByS,
    Strict,
    fingerprint,
    refusal,
)
from orchestrator.log_context import identity_of
from orchestrator.model import Money
from orchestrator.policy import DEFAULT_APPROVAL_SEND_BY_S, DEFAULT_REFUND_SEND_BY_S, DEFAULT_SEND_BY_S
from orchestrator.refund_record import RefundRecorder
from orchestrator.refunds.evidence import RefundAccepted, RefundApproved
from orchestrator.refunds.model import RefundReason
from orchestrator.store.database import Conflict
from orchestrator.store.refunds import RefundStore
from orchestrator.store.rows import Ring, Row, detail_parameters, ring_of
from orchestrator.store.store import Store
from orchestrator.subscription import Announce
from orchestrator.terminal_api import money
from orchestrator.terminal_api.service_ids import derive_service_id
from orchestrator.views import refund_json

log = structlog.get_logger()

#: Tries of one acceptance: two submissions can meet on a key, or two keys on a ServiceID.
_TRIES: Final = 5

_REMEDIES: Final[Mapping[str, str]] = {
    **REMEDIES,
    "reference": f"the refund's own, which webhooks name: {REMEDIES['reference']}",
    "amount": f"{REMEDIES['amount']}, in the payment's currency",
}


class RefundBody(Strict):
    """What is to be paid back of a payment, under a reference of its own; at its terminal unless one is named."""

    reference: Reference
    amount: Amount
    poi_id: PoiId | None = None
    send_by_s: SendByS = DEFAULT_REFUND_SEND_BY_S


class PayoutBody(Strict):
    """What is to be paid to a card that is presented at the terminal, without a payment."""

    reference: Reference
    amount: Amount
    poi_id: PoiId
    send_by_s: SendByS | None = None


Body = TypeVar("Body", RefundBody, PayoutBody)


@dataclass(frozen=True, slots=True, kw_only=True)
class UnreferencedRule:
    """Whether refunds without a payment are allowed, and up to what one person may give them: minor units.

    By ``MERCHANT/EUR``, ``MERCHANT/*``, ``EUR`` or ``*``, the first that is there; what has no limit takes two.
    """

    allowed: bool = False
    limits: Mapping[str, int] = field(default_factory=dict)

    def needs_approval(self, merchant_account: str, amount: Money) -> bool:
        """Whether a second person has to agree."""
        names = (f"{merchant_account}/{amount.currency}", f"{merchant_account}/*", amount.currency, "*")
        return amount.minor > next((self.limits[name] for name in names if name in self.limits), 0)


@dataclass(frozen=True, slots=True)
class AcceptedRefund:
    """The refund's row, and whether this submission created it."""

    row: Row
    created: bool

    @property
    def awaits_approval(self) -> bool:
        """Whether it waits for a second person."""
        return bool(self.row["reason"] == RefundReason.PENDING_APPROVAL)


@dataclass(frozen=True, slots=True)
class RefundIntake:
    """Takes refunds in."""

    store: RefundStore
    payments: Store
    recorder: RefundRecorder
    bell: Callable[[list[Ring]], None]
    sale_id: str
    callback_url: str | None = None
    unreferenced: UnreferencedRule = field(default_factory=UnreferencedRule)

    @property
    def announce(self) -> Announce:
        """Whoever tells those who listen on the exchange."""
        return self.recorder.announce

    def refund(
        self,
        payment_id: UUID,
        body: Mapping[str, Any],
        envelope: Mapping[str, Any],
        asked_by: str,
        reason: str | None = None,
    ) -> AcceptedRefund:
        """Accept a refund of a payment once; durable when this returns. The journal keeps the ``reason``.

        Raises:
            SubmissionRejected: why not, with the field and the remedy; nothing was written.
            StoreUnavailable: the database did not answer; the same submission may be sent again.
        """
        wanted, checked = _validated(RefundBody, body, envelope)
        payment = self._payment(payment_id, checked.merchant_account)
        return self._accept(
            checked,
            print_of_body=f"{fingerprint(wanted)[:32]}{payment_id.hex}",
            terms={
                "payment_id": payment_id,
                "reference": wanted.reference,
                "poi_id": wanted.poi_id or payment["poi_id"],
                "amount": Money(wanted.amount.currency, wanted.amount.value),
                "send_by_s": wanted.send_by_s,
                "asked_by": asked_by,
                "needs_approval": False,
                "reason": reason and mask_card_numbers(reason),
            },
        )

    def pay_out(self, body: Mapping[str, Any], envelope: Mapping[str, Any], asked_by: str) -> AcceptedRefund:
        """Accept a refund without a payment; the same body from a second person approves one above the limit.

        Raises:
            SubmissionRejected: why not, with the field and the remedy; nothing was written.
            StoreUnavailable: the database did not answer; the same submission may be sent again.
        """
        if not self.unreferenced.allowed:
            raise UnreferencedRefundsOff
        wanted, checked = _validated(PayoutBody, body, envelope)
        amount = Money(wanted.amount.currency, wanted.amount.value)
        needs_approval = self.unreferenced.needs_approval(checked.merchant_account, amount)
        accepted = self._accept(
            checked,
            print_of_body=fingerprint(wanted),
            terms={
                "payment_id": None,
                "reference": wanted.reference,
                "poi_id": wanted.poi_id,
                "amount": amount,
                "send_by_s": wanted.send_by_s or (DEFAULT_APPROVAL_SEND_BY_S if needs_approval else DEFAULT_SEND_BY_S),
                "asked_by": asked_by,
                "needs_approval": needs_approval,
            },
        )
        if accepted.awaits_approval and accepted.row["asked_by"] != asked_by:
            self.recorder.record(accepted.row["id"], RefundApproved(approved_by=asked_by))
            return AcceptedRefund(self._row(accepted.row["id"]), created=False)
        return accepted

    def _payment(self, payment_id: UUID, merchant_account: str) -> Row:
        try:
            row = self.payments.row(payment_id)
        except NotFound:
            raise UnknownPayment(field="payment_id") from None
        if row["merchant_account"] != merchant_account:
            raise UnknownPayment(field="payment_id")
        return row

    def _accept(self, envelope: Envelope, *, print_of_body: str, terms: Mapping[str, Any]) -> AcceptedRefund:
        for salt in range(_TRIES):
            try:
                row = self.store.accept(self._parameters(envelope, print_of_body, terms, salt))
            except Conflict:  # the same key a moment ago, or a ServiceID that another key derived
                continue
            if row["refused"] is not None:
                return self._refused(row, print_of_body, terms)
            log.info("accepted", **identity_of(row))
            tracing.note(**identity_of(row))
            if row["command_id"] is not None:
                self.bell([ring_of({**row, "kind": "send_refund"})])
            self.announce("refund.pending", row["created_at"], partial(refund_json, row))
            return AcceptedRefund(row, created=True)
        raise ConcurrentUpdate

    def _parameters(self, envelope: Envelope, printed: str, terms: Mapping[str, Any], salt: int) -> dict[str, Any]:
        parent = str(terms["payment_id"] or "")
        said = {
            "merchant_account": envelope.merchant_account,
            "reference": terms["reference"],
            "poi_id": terms["poi_id"],
            "sale_id": self.sale_id,
            "service_id": derive_service_id(
                envelope.merchant_account, "refund", parent, envelope.idempotency_key, salt
            ),
            "asked_by": terms["asked_by"],
            "needs_approval": terms["needs_approval"],
        }
        first = RefundAccepted(**said, payment_id=parent or None, amount=terms["amount"], reason=terms.get("reason"))
        return {
            **said,
            "id": new_id(),
            "payment_id": terms["payment_id"],
            "idempotency_key": envelope.idempotency_key,
            "fingerprint": printed,
            "currency": terms["amount"].currency,
            "amount_minor": terms["amount"].minor,
            "send_by_s": terms["send_by_s"],
            "callback_url": self.callback_url,
            "trace": tracing.traceparent(),
            **detail_parameters(first),
        }

    def _refused(self, row: Row, print_of_body: str, terms: Mapping[str, Any]) -> AcceptedRefund:
        payment_id, currency = terms["payment_id"], terms["amount"].currency
        match row["refused"]:
            case "same" if row["same_fingerprint"] == print_of_body:
                return AcceptedRefund(self._row(row["same_id"]), created=False)
            case "same":
                raise IdempotencyConflict(field="idempotency_key")
            case "not-charged":
                raise NotCharged(payment_id=payment_id)
            case "other-currency":
                detail = "amount.currency: is not the payment's, and a refund goes back in the same"
                raise InvalidSubmission(detail, field="amount.currency", payment_id=payment_id)
            case "refund-exceeds-payment":
                left = f"{money.to_major(Money(currency, max(0, int(row['left_minor'])))):f} {currency}"
                detail = f"amount: {left} is left to pay back, refunds under way counted"
                raise RefundExceedsPayment(detail, field="amount", payment_id=payment_id)
            case _:
                raise UnknownTerminal(field="poi_id")

    def _row(self, refund_id: UUID) -> Row:
        row = self.store.row(refund_id)
        if row is None:
            raise NotFound
        return row


def _validated(model: type[Body], body: Mapping[str, Any], envelope: Mapping[str, Any]) -> tuple[Body, Envelope]:
    try:
        return model.model_validate(body), Envelope.model_validate(envelope)
    except ValidationError as error:
        raise refusal(error, _REMEDIES) from None
