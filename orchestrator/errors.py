"""The error tree. What the world does is evidence; these are for what somebody did wrong.

::

    OrchestratorError
    ├── SubmissionRejected        the caller asked for something that we must not do
    │   ├── InvalidSubmission       a field is wrong
    │   ├── IdempotencyConflict     same key, other content
    │   ├── UnknownTerminal         no such terminal for this merchant
    │   ├── PaymentOpen             an earlier payment of the sale is not concluded
    │   ├── AlreadyCharged          an earlier payment of the sale was charged
    │   ├── UnknownPayment          no such payment for this merchant
    │   ├── NotCharged              there is nothing to pay back
    │   ├── RefundExceedsPayment    more than is left to pay back
    │   ├── UnreferencedRefundsOff  no refund without a payment
    │   ├── NotUnknown              a ruling on a payment that is not unknown
    │   ├── RulingStale             a ruling on what the person did not see
    │   ├── RunNotDone              a sign-off of a run that has not ended well
    │   ├── DifferencesOpen         a sign-off over open differences, without a reason
    │   └── AlreadySigned           a second sign-off
    ├── NotFound                  no such object for this key
    ├── ProtocolError             abstract
    │   ├── LocalProtocolError      we were about to send nonsense
    │   └── RemoteProtocolError     they sent nonsense
    ├── ConcurrentUpdate          somebody moved the row first: load and decide again
    ├── StoreUnavailable          the database did not answer
    ├── BrokerUnavailable         the broker did not take a message that no command stands behind
    ├── ConfigurationError        refuse to start
    └── Defect                    the code is wrong: never caught but by the outermost wrapper, always alarms

The first line of a class's docstring is its default message; identifiers are attributes.
"""

from uuid import UUID


class OrchestratorError(Exception):
    """Something went wrong."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or "").splitlines()[0])


class SubmissionRejected(OrchestratorError):
    """The submission was refused; nothing was accepted."""

    problem = "submission-rejected"  #: the stable last part of the problem's ``type``
    status = 422

    def __init__(self, message: str | None = None, *, field: str | None = None, payment_id: UUID | None = None) -> None:
        super().__init__(message)
        self.field = field
        self.payment_id = payment_id


class InvalidSubmission(SubmissionRejected):
    """A field of the submission is wrong."""

    problem = "invalid-field"


class IdempotencyConflict(SubmissionRejected):
    """This idempotency key was already used with another body; use a new key for a new payment."""

    problem = "idempotency-conflict"
    status = 409


class UnknownTerminal(SubmissionRejected):
    """No terminal with this POIID is registered for the merchant account; register it with `terminals add`."""

    problem = "unknown-terminal"


class PaymentOpen(SubmissionRejected):
    """An earlier payment of this reference has not ended; wait for its outcome or override with a reason and a name."""

    problem = "payment-open"
    status = 409


class AlreadyCharged(SubmissionRejected):
    """An earlier payment of this reference was charged and not fully refunded; override with a reason and a name."""

    problem = "already-charged"
    status = 409


class NotUnknown(SubmissionRejected):
    """Only an unknown payment is ruled on; this one has an outcome, or can still get one by itself."""

    problem = "not-unknown"
    status = 409


class RulingStale(SubmissionRejected):
    """The payment has changed since you saw it; look at its journal again, then decide with the new sequence."""

    problem = "ruling-stale"
    status = 409


class RunNotDone(SubmissionRejected):
    """Only a run that is done is signed off; this one has not ended, or it was refused or failed."""

    problem = "run-not-done"
    status = 409


class DifferencesOpen(SubmissionRejected):
    """The run has open differences; explain or close them, or say in a note why it is signed off all the same."""

    problem = "differences-open"
    status = 409


class AlreadySigned(SubmissionRejected):
    """The run was signed off before; run the period again to sign anew."""

    problem = "already-signed"
    status = 409


class UnknownPayment(SubmissionRejected):
    """There is no such payment of this merchant account."""

    problem = "not-found"
    status = 404


class NotCharged(SubmissionRejected):
    """The payment is not charged as far as is known, so there is nothing to pay back; wait for its outcome."""

    problem = "not-charged"
    status = 409


class RefundExceedsPayment(SubmissionRejected):
    """The refund is more than is left of the payment."""

    problem = "refund-exceeds-payment"
    status = 409


class UnreferencedRefundsOff(SubmissionRejected):
    """Refunds without a payment are switched off; COUNTERFOIL_UNREFERENCED_REFUNDS=true switches them on."""

    problem = "unreferenced-refunds-off"
    status = 403


class NotFound(OrchestratorError):
    """There is no such object, or the key may not see it."""


class ProtocolError(OrchestratorError):
    """Abstract: a message breaks the Terminal API's rules."""


class LocalProtocolError(ProtocolError):
    """We were about to send a message that breaks the protocol."""


class RemoteProtocolError(ProtocolError):
    """The other side sent a message that breaks the protocol."""


class ConcurrentUpdate(OrchestratorError):
    """Somebody moved the row first; load it and decide again."""


class StoreUnavailable(OrchestratorError):
    """The database did not answer; nothing can be said about what was asked."""


class BrokerUnavailable(OrchestratorError):
    """The broker did not take the message; send the same request again."""


class ConfigurationError(OrchestratorError):
    """The configuration is wrong; the process refuses to start."""


class Defect(OrchestratorError):
    """The code is wrong."""
