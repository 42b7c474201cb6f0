"""THE TABLE of event codes: what each means for the money, by whether it succeeded. A code that is not here is stored
and not guessed.

Source of the codes: the platform's description of its standard webhooks, as far as in-person payments get them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from orchestrator.evidence import BooksEntry
from orchestrator.refunds.evidence import RefundEntry
from orchestrator.webhooks.items import REPORT_AVAILABLE, Item


@dataclass(frozen=True, slots=True)
class Effect:
    """What is recorded of the refund of ours that it is about, and else of the payment; nothing for nothing.

    ``differs`` names the difference that it always is.
    """

    payment: BooksEntry | None = None
    refund: RefundEntry | None = None
    differs: str | None = None


NOTHING: Final = Effect()

_PAID_BACK: Final = Effect(BooksEntry.REFUNDED_ELSEWHERE, RefundEntry.REFUNDED, "refund_elsewhere")
_NOT_PAID_BACK: Final = Effect(None, RefundEntry.DECLINED)
_TAKEN_BACK: Final = Effect(BooksEntry.CANCELLED, RefundEntry.CANCELLED)
_DISPUTED: Final = Effect(BooksEntry.DIFFERENCE, None, "chargeback")
_NOT_CAPTURED: Final = Effect(BooksEntry.DIFFERENCE, None, "capture_failed")


def _undone(refund: RefundEntry) -> Effect:
    """A refund that did not last; one that was made elsewhere is a difference once more."""
    return Effect(BooksEntry.DIFFERENCE, refund, "refund_elsewhere")


#: (event code, success), and for CANCEL_OR_REFUND what it turned out to be. What did not succeed changed nothing,
#: unless a line says otherwise.
EFFECTS: Final[Mapping[tuple[str, bool], Effect]] = {
    ("AUTHORISATION", True): Effect(BooksEntry.AUTHORISED),
    ("AUTHORISATION", False): Effect(BooksEntry.REFUSED),
    ("AUTHORISATION_ADJUSTMENT", True): NOTHING,
    ("AUTHORISATION_ADJUSTMENT", False): NOTHING,
    ("CAPTURE", True): NOTHING,
    ("CAPTURE", False): _NOT_CAPTURED,
    ("CAPTURE_FAILED", True): _NOT_CAPTURED,
    ("CAPTURE_FAILED", False): NOTHING,
    ("CANCELLATION", True): _TAKEN_BACK,
    ("CANCELLATION", False): _NOT_PAID_BACK,
    ("TECHNICAL_CANCEL", True): _TAKEN_BACK,
    ("TECHNICAL_CANCEL", False): _NOT_PAID_BACK,
    ("CANCEL_OR_REFUND", True): _PAID_BACK,
    ("CANCEL_OR_REFUND", False): _NOT_PAID_BACK,
    ("REFUND", True): _PAID_BACK,
    ("REFUND", False): _NOT_PAID_BACK,
    ("REFUND_WITH_DATA", True): Effect(None, RefundEntry.REFUNDED, "refund_elsewhere"),  # it names no payment
    ("REFUND_WITH_DATA", False): _NOT_PAID_BACK,
    ("REFUND_FAILED", True): _undone(RefundEntry.FAILED),
    ("REFUND_FAILED", False): NOTHING,
    ("REFUNDED_REVERSED", True): _undone(RefundEntry.REVERSED),
    ("REFUNDED_REVERSED", False): NOTHING,
    ("VOID_PENDING_REFUND", True): _undone(RefundEntry.VOIDED),
    ("VOID_PENDING_REFUND", False): NOTHING,
    ("EXPIRE", True): Effect(BooksEntry.DIFFERENCE, None, "expired"),
    ("EXPIRE", False): NOTHING,
    ("NOTIFICATION_OF_CHARGEBACK", True): _DISPUTED,
    ("NOTIFICATION_OF_CHARGEBACK", False): NOTHING,
    ("CHARGEBACK", True): _DISPUTED,
    ("CHARGEBACK", False): NOTHING,
    ("CHARGEBACK_REVERSED", True): _DISPUTED,
    ("CHARGEBACK_REVERSED", False): NOTHING,
    ("SECOND_CHARGEBACK", True): _DISPUTED,
    ("SECOND_CHARGEBACK", False): NOTHING,
    (REPORT_AVAILABLE, True): NOTHING,
    (REPORT_AVAILABLE, False): NOTHING,
}


def effect_of(item: Item) -> Effect | None:
    """What a webhook means; None for a code that is not known, or an item that cannot be read whole."""
    if item.unreadable or item.success is None:
        return None
    if (item.event_code, item.success, item.action) == ("CANCEL_OR_REFUND", True, "cancel"):
        return _TAKEN_BACK
    effect = EFFECTS.get((item.event_code, item.success))
    needs_amount = effect is not None and effect.payment is BooksEntry.AUTHORISED
    return None if needs_amount and not (item.amount and item.amount.minor > 0) else effect
