"""What is kept of a webhook: an allow-list, read strictly. Nothing else of a body gets any further.

A member that is there and cannot be read makes the whole item ``unreadable``: it is stored, and has no effect, because
half of it would be a guess.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from orchestrator.cards import mask_card_numbers
from orchestrator.errors import RemoteProtocolError
from orchestrator.model import Money
from orchestrator.terminal_api import fields, strict_json
from orchestrator.terminal_api.money import CURRENCIES, read_minor
from orchestrator.views import instant
from orchestrator.webhooks import signatures

REPORT_AVAILABLE: Final = "REPORT_AVAILABLE"

_CODE_CHARS: Final = 80
#: What our own rows take; the platform's are of 16, and a merchant account's name is short.
_PSP_REFERENCE_CHARS: Final = 64
_MERCHANT_CHARS: Final = 80
_TERMINAL_CHARS: Final = 64


class NotWebhooks(RemoteProtocolError):
    """The body holds no webhooks."""

    def __init__(self, problem: str) -> None:
        """Name the ``problem`` by a slug, never by a value."""
        super().__init__(f"not a standard webhook: {problem}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One webhook, as far as it is kept; references verbatim but for card numbers.

    The instant is in UTC as ``views.instant`` spells it.
    ``live`` says for which environment it was meant, None when that is not said. ``digest`` names what it says: of two
    with the same digest one is a repetition.
    """

    digest: str
    live: bool | None
    event_code: str
    success: bool | None = None
    merchant_account: str | None = None
    psp_reference: str | None = None
    original_reference: str | None = None
    reference: str | None = None
    amount: Money | None = None
    happened_at: str | None = None
    reason: str | None = None
    terminal_id: str | None = None
    tender_reference: str | None = None
    action: str | None = None  # of CANCEL_OR_REFUND: cancel or refund
    unreadable: bool = False

    @property
    def payment_psp_reference(self) -> str | None:
        """The PSP reference of the payment that this is about: a modification has one of its own."""
        return self.original_reference or self.psp_reference


def read_notification_items(body: bytes) -> tuple[bool | None, Sequence[Mapping[str, Any]]]:
    """Read a body of items: for which environment it was meant, and each item as it came.

    Raises:
        RemoteProtocolError: it is no JSON that is taken, or has no such items. Neither is quoted.
    """
    message = strict_json.loads(body)
    wrapped = fields.member(message, "notificationItems")
    if not isinstance(wrapped, list) or not wrapped:
        raise NotWebhooks("no-items")
    items = [fields.mapping(each, "NotificationRequestItem") for each in wrapped]
    if any(item is None for item in items):
        raise NotWebhooks("no-item")
    return fields.flag(message, "live"), [item for item in items if item is not None]


def read_item(item: Mapping[str, Any], live: bool | None) -> Item:
    """Read one item, signed or not.

    The digest covers what is signed, and for which environment. When it happened is not signed: what comes again under
    another date, or is replayed under one, says nothing new.
    """
    code = fields.text(item, "eventCode") or ""
    amount, amount_is_readable = _amount(fields.member(item, "amount"))
    success = fields.flag(item, "success")
    psp, original = fields.text(item, "pspReference"), fields.text(item, "originalReference")
    merchant, reference = fields.text(item, "merchantAccountCode"), fields.text(item, "merchantReference")
    additional = fields.mapping(item, "additionalData")
    signed = (signatures.signed_text(item) or b"").hex()
    return Item(
        digest=fields.digest("item", live, signed, code, psp, original, merchant, reference),
        live=live,
        event_code=code[:_CODE_CHARS],
        success=success,
        merchant_account=merchant,
        psp_reference=psp,
        original_reference=original,
        reference=reference and mask_card_numbers(reference),
        amount=amount,
        happened_at=_instant(fields.text(item, "eventDate")),
        reason=_reason(code, success, fields.text(item, "reason")),
        terminal_id=_terminal(additional),
        tender_reference=(fields.text(additional, "tenderReference") or "")[:_TERMINAL_CHARS] or None,
        action=_action(additional),
        unreadable=not (code and merchant and amount_is_readable and success is not None)
        or len(merchant) > _MERCHANT_CHARS
        or ":" in f"{psp}{original}{merchant}"  # what is signed could then be read in more than one way
        or (code != REPORT_AVAILABLE and max(len(psp or ""), len(original or "")) > _PSP_REFERENCE_CHARS),
    )


def read_event(body: bytes) -> Item:
    """Read a webhook of the newer kind, whose body as a whole is signed: what it is called, and whose it is.

    A body that cannot be read is an event without a name: the platform did sign it.
    """
    try:
        message = strict_json.loads(body)
    except strict_json.MalformedJson:
        message = None
    environment = fields.text(message, "environment")
    return Item(
        digest=fields.digest("body", body.hex()),
        live={"live": True, "test": False}.get((environment or "").lower()),
        event_code=(fields.text(message, "type") or "")[:_CODE_CHARS],
        merchant_account=fields.text(message, "data", "merchantId"),
        happened_at=_instant(fields.text(message, "createdAt")),
        terminal_id=(fields.text(message, "data", "uniqueTerminalId") or "")[:_TERMINAL_CHARS] or None,
        unreadable=fields.text(message, "type") is None,
    )


def _amount(value: object) -> tuple[Money | None, bool]:
    """The amount in minor units, and whether there is none or it could be read."""
    minor = fields.member(value, "value")
    currency = fields.member(value, "currency")
    if minor is None and currency is None:
        return None, value is None or isinstance(value, Mapping)
    number = read_minor(str(minor)) if isinstance(minor, int | str) and not isinstance(minor, bool) else None
    if number is None or not isinstance(currency, str) or currency not in CURRENCIES:
        return None, False
    return Money(currency, number), True


def _instant(text: str | None) -> str | None:
    """The instant, in UTC; None for one without a zone, which would have to be guessed."""
    try:
        at = datetime.fromisoformat(text or "")
        return instant(at.astimezone(UTC)) if at.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None


def _reason(code: str, success: bool | None, reason: str | None) -> str | None:
    """Why something failed, or where a report is. That of an approval is made of card data, and is dropped."""
    if reason is None or (code == "AUTHORISATION" and success is not False):
        return None
    return mask_card_numbers(reason)


def _action(additional: Mapping[str, Any] | None) -> str | None:
    found = fields.text(additional, "modification.action")
    return found if found in {"cancel", "refund"} else None


def _terminal(additional: Mapping[str, Any] | None) -> str | None:
    found = fields.text(additional, "terminalId") or fields.text(additional, "uniqueTerminalId")
    return found and found[:_TERMINAL_CHARS]
