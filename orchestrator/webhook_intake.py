"""Takes the platform's standard webhooks: verified, stored, and then recorded; acknowledged after all three.

A platform that hears no 2xx sends again, so what fails half way is not lost: what was stored is known by its digest,
and what was recorded by the same. Where nothing is sent again, whoever receives the next webhook finishes what was
left behind. A defect of ours keeps one webhook unprocessed with an alarm, and lets those behind it pass.
"""

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import structlog

from orchestrator.booking import Booked, BookEntry, Booker
from orchestrator.errors import ConcurrentUpdate, StoreUnavailable
from orchestrator.log_context import about
from orchestrator.meaning import Alarm
from orchestrator.store.webhooks import Kept, WebhookStore
from orchestrator.store.words import Became
from orchestrator.views import instant
from orchestrator.webhooks import signatures
from orchestrator.webhooks.effects import NOTHING, effect_of
from orchestrator.webhooks.items import Item, read_event, read_item, read_notification_items

log = structlog.get_logger()

#: The platform waits for 10 s; what is stored and not processed by then is finished later.
_PROCESS_WITHIN_S: Final = 5.0

#: No clock of the platform is wrong by more, and no time zone either.
_AHEAD_MAX: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What a body held: whether all of it was signed with one of our keys, and whether the rest ever could be."""

    signed: bool
    replayable: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """What a replay did: bodies that are signed after all, bodies that still are not, webhooks that were processed.

    ``whole`` is false where its time was over first.
    """

    released: int
    refused: int
    processed: int
    failed: int
    whole: bool = True


@dataclass(frozen=True, slots=True)
class WebhookIntake:
    """Takes webhooks. ``keys`` may have signed them, the current one first; ``live`` is the environment."""

    store: WebhookStore
    booker: Booker
    keys: Sequence[bytes]
    live: bool

    def receive(self, body: bytes, header: str | None) -> bool:
        """Take a body, with the signature of its header where it has one; false when not all of it is signed.

        When this returns, what is signed is durable and processed; what is not is in the quarantine.

        Raises:
            RemoteProtocolError: the body holds no webhooks; nothing was stored.
            StoreUnavailable: it could not be stored or processed; the platform has to send it again.
        """
        until_s = time.monotonic() + _PROCESS_WITHIN_S
        taken = self._take(body, header, until_s)
        if not taken.signed:
            self._quarantine(body, header, taken)
        for kept in self.store.left_behind():
            self._process_until(kept, until_s)
        return taken.signed

    def replay(self, within_s: float = float("inf")) -> Replayed:
        """Try what is in the quarantine with the keys of now, and process what was not; for so long and no longer."""
        until_s = time.monotonic() + within_s
        released = refused = 0
        after = ""
        while (row := self.store.next_replayable(after)) is not None and time.monotonic() < until_s:
            after = row["digest"]
            if self._take(bytes(row["body"]), row["header"], None).signed:
                self.store.release(after)
                released += 1
            else:
                refused += 1
        processed = failed = number = 0
        while (page := self.store.unprocessed(number)) and time.monotonic() < until_s:
            for kept in page:
                number = kept.number
                done = self._process(kept)
                processed, failed = processed + done, failed + (not done)
        whole = row is None and not page
        return Replayed(released=released, refused=refused, processed=processed, failed=failed, whole=whole)

    def process_again(self, number: int) -> bool | None:
        """Process one stored webhook, also when that was done before; None when there is no such webhook."""
        kept = self.store.one(number)
        if kept is None:
            return None
        return self._process(kept)

    def _take(self, body: bytes, header: str | None, until_s: float | None) -> Taken:
        """Verify, store and process. Each item stands on its own: one that is signed counts beside one that is not."""
        if header is not None:
            return self._take_event(body, header)
        live, items = read_notification_items(body)
        signed = [item for item in items if signatures.item_is_signed(item, self.keys)]
        found = {item: _certain(item, self.live) for item in (read_item(each, live) for each in signed)}
        self._keep(found, until_s)
        return Taken(signed=len(signed) == len(items), replayable=_replayable(items, signed))

    def _take_event(self, body: bytes, header: str) -> Taken:
        """One of the newer kind says nothing about the money of a payment: it is kept, and that is all."""
        if not signatures.body_is_signed(body, header, self.keys):
            return Taken(signed=False)
        event = read_event(body)
        became = Became.UNKNOWN if event.unreadable else Became.NOTED
        self._keep({event: Became.MISDIRECTED if event.live is (not self.live) else became}, None)
        return Taken(signed=True)

    def _keep(self, found: Mapping[Item, Became | None], until_s: float | None) -> None:
        if not found:
            return
        if Became.MISDIRECTED in found.values():
            self._alarm(Alarm.WEBHOOK_MISDIRECTED)
        for kept in self.store.keep(found):
            log.info("webhook", number=kept.number, code=kept.item.event_code, repeated=kept.repeated)
            if kept.became is None:
                self._process_until(kept, until_s)

    def _process_until(self, kept: Kept, until_s: float | None) -> None:
        if until_s is None or time.monotonic() < until_s:
            self._process(kept)

    def _process(self, kept: Kept) -> bool:
        """Record what a webhook says, and keep what became of it; false when a defect of ours is in the way."""
        with about(webhook=kept.number):
            return self._recorded(kept)

    def _recorded(self, kept: Kept) -> bool:
        try:
            booked = self._apply(kept)
        except (StoreUnavailable, ConcurrentUpdate):
            raise
        except Exception:  # whatever it is, the platform would send it again for a month and hold back all behind it
            log.exception("webhook_failed", number=kept.number, code=kept.item.event_code)
            self.store.fail(kept.number)
            return False
        self.store.finish(kept.number, booked.became, payment_id=booked.payment_id, refund_id=booked.refund_id)
        log.info("webhook_processed", number=kept.number, code=kept.item.event_code, became=booked.became.value)
        return True

    def _apply(self, kept: Kept) -> Booked:
        certain = _certain(kept.item, self.live)
        if certain is not None:
            return Booked(certain)
        booked = self.booker.apply(_entry(kept))
        if booked.became is Became.DIFFERENCE:
            self._alarm(Alarm.BOOKS_DIFFER)
        return booked

    def _quarantine(self, body: bytes, header: str | None, taken: Taken) -> None:
        self.store.quarantine(
            digest=hashlib.sha256((header or "").encode() + b"\0" + body).hexdigest(),
            size_bytes=len(body),
            header=header and header[:64],
            body=body if taken.replayable else None,
        )
        self._alarm(Alarm.WEBHOOK_SIGNATURE)

    def _alarm(self, alarm: Alarm) -> None:
        log.warning("alarm", alarm=alarm.value, runbook=f"#{alarm.value}")
        self.store.alarm(alarm)


def _replayable(items: Sequence[Mapping[str, Any]], signed: Sequence[Mapping[str, Any]]) -> bool:
    """Whether another key could ever prove the rest: not without a signature."""
    return all(item in signed or signatures.signature_of(item) for item in items)


def _certain(item: Item, live: bool) -> Became | None:
    """What becomes of a webhook whatever we know of payments; None when that has to be looked up."""
    if item.live is not live:
        return Became.MISDIRECTED
    effect = effect_of(item)
    if effect is None:
        return Became.UNKNOWN
    return Became.NOTED if effect == NOTHING else None


def _entry(kept: Kept) -> BookEntry:
    """What a webhook says, as an entry in the books.

    When it happened is not signed: a date far in the future would be the last word of the books for ever.
    """
    item, effect = kept.item, effect_of(kept.item)
    happened_at = item.happened_at
    if happened_at is not None and happened_at > (instant(kept.received_at + _AHEAD_MAX) or ""):
        happened_at = instant(kept.received_at)
    return BookEntry(
        effect=effect or NOTHING,
        source=f"webhook:{item.event_code}",
        digest=item.digest,
        merchant_account=item.merchant_account or "",
        psp_reference=item.payment_psp_reference,
        own_psp_reference=item.psp_reference,
        reference=item.reference,
        amount=item.amount,
        effective_at=happened_at,
        terminal_id=item.terminal_id,
        tender_reference=item.tender_reference,
    )
