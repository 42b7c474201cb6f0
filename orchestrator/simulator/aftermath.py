"""THE TABLE of what comes afterwards: what the platform's books do with a payment or a refund, and how webhooks travel.

All times are in protocol seconds and are divided by the time scale. A refund plays the scenario that its own reference
ends in; a webhook behaves as the payment's or refund's reference ends in, after its scenario: `ORDER-1-silent` plays
`silent`, `ORDER-1-webhook-late` has a late webhook, and `ORDER-1-silent-webhook-missing` is both.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

CANCEL_OR_REFUND = "CANCEL_OR_REFUND"
# Whether a payment's AUTHORISATION comes before or after its result is for the platform's queues to say; some seconds
# after is what integrators see.
SOON_S = 5.0
_LATER_S = 60.0


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing that the platform's books learn, so long after the payment ended or the refund was received.

    `truth` is the kind of the ledger line that says so, with `outcome` for a refund; empty: the ledger knows already.
    """

    code: str
    after_s: float = SOON_S
    success: bool = True
    truth: str = ""
    outcome: str = ""
    reason: str = ""
    action: str = ""
    """`cancel` or `refund`, for CANCEL_OR_REFUND."""


AUTHORISED = Fact("AUTHORISATION")
REFUSED = Fact("AUTHORISATION", success=False)
# An offline approval goes out when the terminal is back online.
AUTHORISED_LATER = Fact("AUTHORISATION", _LATER_S)
REFUSED_LATER = Fact("AUTHORISATION", _LATER_S, success=False, truth="charge_refused", reason="05 Do not honor")
TRIED_BEFORE = Fact("AUTHORISATION", success=False, reason="05 Do not honor", truth="earlier_try")
# The terminal's reversal of an approval that the card itself refused.
TAKEN_BACK = Fact("TECHNICAL_CANCEL", _LATER_S, truth="cancellation")


@dataclass(frozen=True, slots=True)
class RefundScenario:
    """One named behaviour of a refund: what its request is answered, and what becomes of it."""

    line: str
    takes: bool = True
    """False: the connection closes before anything is taken."""
    error_condition: str = ""
    """Refused at once, by this condition."""
    answer_after_s: float = 0.0
    answers: bool = True
    """False: taken, then the connection closes; nothing is pushed either."""
    facts: tuple[Fact, ...] = ()


def _booked(outcome: str, action: str = "refund", after_s: float = SOON_S, *, success: bool = True) -> Fact:
    reason = "" if success else "Refund refused by the scheme"
    return Fact(CANCEL_OR_REFUND, after_s, success, truth="refund", outcome=outcome, action=action, reason=reason)


def _undone(code: str, outcome: str, reason: str = "") -> Fact:
    return Fact(code, _LATER_S, truth="refund", outcome=outcome, reason=reason)


_DONE = _booked("done")

REFUNDS: dict[str, RefundScenario] = {
    "refund-done": RefundScenario("received, then refunded", facts=(_DONE,)),
    "refund-plain": RefundScenario(
        "received, then refunded; told as REFUND, as some accounts are",
        facts=(Fact("REFUND", truth="refund", outcome="done"),),
    ),
    "refund-both": RefundScenario(
        "received, then refunded; told as CANCEL_OR_REFUND and as REFUND",
        facts=(_DONE, Fact("REFUND", SOON_S + 1)),
    ),
    "refund-lost": RefundScenario("received and refunded, but never answered", answers=False, facts=(_DONE,)),
    "refund-never-taken": RefundScenario("the connection closes and nothing is taken", takes=False),
    "refund-slow": RefundScenario(
        "answered after 20 s, refunded after 60 s", answer_after_s=20, facts=(_booked("done", after_s=_LATER_S),)
    ),
    "refund-not-found": RefundScenario("refused: original unknown", error_condition="NotFound"),
    "refund-not-allowed": RefundScenario("refused: not allowed", error_condition="NotAllowed"),
    "refund-busy": RefundScenario("refused: the terminal is busy", error_condition="Busy"),
    "refund-cancels": RefundScenario(
        "received; the payment was not captured yet and is cancelled instead", facts=(_booked("cancelled", "cancel"),)
    ),
    "refund-declined": RefundScenario("received, then refused", facts=(_booked("declined", success=False),)),
    "refund-fails": RefundScenario(
        "received and refunded, then REFUND_FAILED",
        facts=(_DONE, _undone("REFUND_FAILED", "failed", "Refund failed at the scheme")),
    ),
    "refund-reversed": RefundScenario(
        "received and refunded, then REFUNDED_REVERSED", facts=(_DONE, _undone("REFUNDED_REVERSED", "reversed"))
    ),
    "refund-voided": RefundScenario(
        "received, then voided before it went out", facts=(_undone("VOID_PENDING_REFUND", "voided"),)
    ),
}
AN_ORDINARY_REFUND = REFUNDS["refund-done"]


class Signing(Enum):
    """What a webhook is signed with."""

    CURRENT_KEY = auto()
    OLD_KEY = auto()
    WRONG_KEY = auto()


@dataclass(frozen=True, slots=True)
class WebhookBehaviour:
    """One named behaviour of a payment's or refund's webhooks."""

    line: str
    copies: int = 1
    """0: never sent."""
    signing: Signing = Signing.CURRENT_KEY
    delay_s: float = 0.0
    backwards: bool = False
    """Told in reverse order, once everything has happened."""
    together: bool = False
    """Told in one body, once everything has happened."""
    contradicts: bool = False
    more_minor: int = 0
    other_currency: bool = False
    other_merchant: bool = False
    forges: bool = False
    """First comes a contradicting one whose signature is wrong."""
    orphan: bool = False
    """Another one comes, about a payment that nobody asked for."""
    before: tuple[Fact, ...] = ()
    then: tuple[Fact, ...] = ()
    """What else the books learn of a payment; a refund has its own."""


_CAPTURED = Fact("CAPTURE", SOON_S + 1)
_CANCELLED = Fact("CANCELLATION", _LATER_S, truth="cancellation")

WEBHOOKS: dict[str, WebhookBehaviour] = {
    "webhook-missing": WebhookBehaviour("no webhook ever", copies=0),
    "webhook-late": WebhookBehaviour("the webhook comes 10 minutes late", delay_s=600),
    "webhook-twice": WebhookBehaviour("the same webhook comes twice", copies=2),
    "webhook-disorder": WebhookBehaviour(
        "a later fact comes first: CAPTURE before AUTHORISATION, a refund's failure before the refund",
        backwards=True,
        then=(_CAPTURED,),
    ),
    "webhook-batch": WebhookBehaviour("AUTHORISATION and CAPTURE in one body", together=True, then=(_CAPTURED,)),
    "webhook-wrong-signature": WebhookBehaviour("the only webhook has a wrong signature", signing=Signing.WRONG_KEY),
    "webhook-forged": WebhookBehaviour("a contradicting one with a wrong signature, then the genuine one", forges=True),
    "webhook-old-key": WebhookBehaviour("signed with the second --hmac-key", signing=Signing.OLD_KEY),
    "webhook-contradicts": WebhookBehaviour(
        "says the opposite: refused for what was charged, authorised for what was refused", contradicts=True
    ),
    "webhook-other-amount": WebhookBehaviour("names 1.00 more", more_minor=100),
    "webhook-other-currency": WebhookBehaviour("names another currency", other_currency=True),
    "webhook-other-merchant": WebhookBehaviour("names another merchant account", other_merchant=True),
    "webhook-orphan": WebhookBehaviour("another AUTHORISATION comes, about nobody's payment", orphan=True),
    "webhook-second-try": WebhookBehaviour(
        "an AUTHORISATION false of an earlier try, with its own PSP reference, comes before the payment's own",
        before=(TRIED_BEFORE,),
    ),
    "webhook-cancelled": WebhookBehaviour("authorised, then cancelled in the back office", then=(_CANCELLED,)),
    "webhook-cancelled-disorder": WebhookBehaviour(
        "the same, but the CANCELLATION comes before the older AUTHORISATION", backwards=True, then=(_CANCELLED,)
    ),
    "webhook-refunded-elsewhere": WebhookBehaviour(
        "authorised, then refunded in the back office", then=(Fact("REFUND", _LATER_S, truth="refund", outcome="done"),)
    ),
    "webhook-capture-failed": WebhookBehaviour(
        "authorised, then the capture fails: no money",
        then=(Fact("CAPTURE_FAILED", _LATER_S, truth="capture_failed", reason="Capture failed"),),
    ),
    "webhook-expired": WebhookBehaviour(
        "authorised, then expired without a capture", then=(Fact("EXPIRE", _LATER_S, truth="expiry"),)
    ),
    "webhook-chargeback": WebhookBehaviour(
        "authorised, then disputed by the cardholder",
        then=(Fact("CHARGEBACK", _LATER_S, truth="chargeback", reason="Cardholder dispute"),),
    ),
}
AN_ORDINARY_WEBHOOK = WebhookBehaviour("signed, soon, once")


def ending(table: dict[str, RefundScenario] | dict[str, WebhookBehaviour], reference: str) -> str:
    """The longest name of the table that the reference ends in, after a hyphen; empty for none."""
    return max((name for name in table if reference.endswith(f"-{name}")), key=len, default="")


def without_webhook_ending(reference: str) -> str:
    """The reference without the behaviour of its webhooks, so that the scenario is at its end."""
    name = ending(WEBHOOKS, reference)
    return reference.removesuffix(f"-{name}") if name else reference


def refund_scenario(reference: str) -> str:
    """The name of the scenario that a refund with this reference plays; empty: an ordinary refund."""
    return ending(REFUNDS, without_webhook_ending(reference))
