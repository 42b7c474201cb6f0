"""Posts standard webhooks to the product, as the platform does: any 2xx accepts, everything else is tried again."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from orchestrator.simulator.aftermath import Signing
from orchestrator.simulator.delivery import NotDeliveredError, Poster
from orchestrator.simulator.ledger import Ledger
from orchestrator.simulator.webhooks import Item, body, signed

# Source: https://docs.adyen.com/development-resources/webhooks/troubleshoot; the platform goes on for 30 days, which no
# test waits for. An endpoint's whole queue stands still there; here only what is told of the same payment or refund.
RETRY_AFTER_S = (9.0, 18.0, 27.0, 120.0, 300.0, 600.0, 900.0, 1_800.0, 3_600.0)
MAX_ATTEMPTS = len(RETRY_AFTER_S) + 1
_NOBODYS_KEY = hashlib.sha256(b"a key that no account has").hexdigest()


@dataclass(eq=False)
class Sender:
    """Delivers webhooks and keeps the ledger of each attempt."""

    ledger: Ledger
    poster: Poster
    keys: tuple[str, ...]
    """In hexadecimal: the first signs, the others are old. None: unsigned."""
    wait: Callable[[float], Awaitable[None]]
    """Waits for so many protocol seconds."""
    is_losing: Callable[[], bool]
    """Whether webhooks are being lost at this moment."""

    async def deliver(self, items: Sequence[Item], signing: Signing = Signing.CURRENT_KEY) -> None:
        """Post the items in one body until it is accepted, or for as often as the platform's patience is played."""
        for attempt, pause_s in enumerate((*RETRY_AFTER_S, 0.0), 1):
            status = await self.once(items, signing, attempt)
            if 200 <= status < 300 or self.is_losing():
                return
            await self.wait(pause_s)

    async def once(self, items: Sequence[Item], signing: Signing = Signing.CURRENT_KEY, attempt: int = 1) -> int:
        """Post the items in one body, once; the HTTP status, 0 when none came."""
        status, error = 0, ""
        if self.is_losing():
            error = "lost"
        else:
            try:
                status = await self.poster.post(body([signed(item, self._key(signing)) for item in items]))
            except NotDeliveredError as failed:
                error = str(failed)
        for item in items:
            about = {"signing": signing.name, "attempt": attempt, "status": status, "error": error}
            self.ledger.write("webhook", **ledger_fields(item), **about)
        await self.ledger.durable()
        return status

    def _key(self, signing: Signing) -> str:
        if signing is Signing.WRONG_KEY:
            return _NOBODYS_KEY
        if not self.keys:
            return ""
        return self.keys[1 if signing is Signing.OLD_KEY and len(self.keys) > 1 else 0]


def ledger_fields(item: Item) -> dict[str, object]:
    """What a ledger line holds of an item; a card's data is in none."""
    return {
        "event_code": item.code,
        "success": item.success,
        "psp_reference": item.psp_reference,
        "original_psp": item.original_reference,
        "reference": item.reference,
        "amount_minor": item.amount_minor,
        "currency": item.currency,
        "merchant": item.merchant,
    }
