"""A pushed message becomes evidence, or a stray. Stored before it is acknowledged; nothing here concludes by itself.

A result without a valid tag is hearsay. A message about a payment that we do not know is kept as a stray, by its
header alone, and acknowledged: refusing it would not bring it back. What a terminal shows and says is kept for whoever
watches, and is never evidence.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final
from uuid import UUID

import structlog

from orchestrator import tracing
from orchestrator.commands import CommandKind
from orchestrator.errors import Defect
from orchestrator.evidence import Evidence
from orchestrator.model import Transport
from orchestrator.record import Recorder
from orchestrator.store.live import LiveStore, told
from orchestrator.store.rows import Loaded, Row, ring_of
from orchestrator.store.store import Store
from orchestrator.subscription import DISPLAY
from orchestrator.terminal_api import shown
from orchestrator.terminal_api.notifications import (
    Notification,
    NotTerminalMessage,
    PushedDisplay,
    PushedEvent,
    PushedReject,
    PushedResponse,
    read_notification,
)
from orchestrator.terminal_api.protection import KeyRing, ProtectionError, open_pushed

log = structlog.get_logger()

#: The header of a message that has none.
_NOBODY: Final = Notification(poi_id=None, sale_id=None, service_id=None, category=None)


@dataclass(frozen=True, slots=True)
class Receiver:
    """Takes what the platform and terminals push.

    ``tag_keys`` gives the keys that may have signed our tag; ``ring_of`` those of the terminal with a POIID, which a
    sealed message merely claims to be from.
    """

    store: Store
    recorder: Recorder
    tag_keys: Callable[[], Sequence[bytes]]
    live: LiveStore
    ring_of: Callable[[str], KeyRing] = lambda _: KeyRing()

    def receive(self, body: bytes) -> str:
        """Record a pushed message; say in a word what it was. When this returns, it is durable.

        Raises:
            RemoteProtocolError: the body is not the JSON that is taken; nothing was stored.
            StoreUnavailable: it could not be stored; the sender has to be told to repeat it.
        """
        try:
            clear = open_pushed(body, self.ring_of)
            notification = read_notification(clear)
        except (ProtectionError, NotTerminalMessage) as error:
            return self._stray(_NOBODY, error.problem, body)
        match notification:
            case PushedDisplay():
                return self._display(notification)
            case PushedEvent():
                return self._event(notification)
            case PushedResponse() | PushedReject():
                return self._about_a_payment(notification, body, sealed=clear is not body)
            case _:
                return self._stray(notification, "unrecognised", body)

    def _display(self, display: PushedDisplay) -> str:
        """Keep what the terminal shows. Whatever was wrong with it: it works."""
        if display.event is None or display.poi_id is None:
            return "display"  # shows nothing, or nowhere
        row = self.live.keep(
            "display",
            shown.name_of(display.event),
            shown.display_details(tender_reference=display.tender_reference, at=display.at),
            poi_id=display.poi_id,
            sale_id=display.sale_id,
            service_id=display.service_id,
            trouble=None,
            tells_trouble=True,
            alarm=None,
        )
        if row is not None:
            self._tell(row)
        return "display"

    def _tell(self, row: Row) -> None:
        self.recorder.announce(DISPLAY, row["at"], partial(told, row))
        if row["command_id"] is not None:
            of = {"kind": CommandKind.TELL_CALLER, "reference": "", "transport": Transport.ASYNC}
            self.recorder.bell([ring_of({**row, **of})])

    def _event(self, event: PushedEvent) -> str:
        """Keep what the terminal says, and tell a person where it says that something is wrong with it."""
        name, detail = shown.name_of(event.event), shown.safe_details(event.details)
        said = shown.said_by(name, detail)
        kept = self.live.keep(
            "event",
            name,
            detail,
            poi_id=event.poi_id,
            sale_id=event.sale_id,
            service_id=event.service_id,
            trouble=said.trouble,
            tells_trouble=said.is_well or said.trouble is not None,
            alarm=said.alarm,
        )
        log.info("terminal_event", terminal=event.poi_id, event=name, registered=kept is not None)
        if said.alarm is not None:
            log.warning("alarm", alarm=said.alarm.value, terminal=event.poi_id, runbook=f"#{said.alarm.value}")
        return "event"

    def _about_a_payment(self, notification: PushedResponse | PushedReject, body: bytes, *, sealed: bool) -> str:
        loaded = self._find(notification)
        if loaded is None:
            return self._stray(notification, "no-such-payment", body)
        with tracing.step("notification", loaded.row, "consumer"):
            return self._recorded(notification, loaded, body, sealed=sealed)

    def _recorded(
        self, notification: PushedResponse | PushedReject, loaded: Loaded, body: bytes, *, sealed: bool
    ) -> str:
        evidence = self._evidence(notification, loaded, sealed=sealed)
        if evidence is None:
            return self._stray(notification, "not-our-answer", body)
        try:
            decision = self.recorder.record(loaded.transaction.id, evidence, loaded)
        except Defect:
            log.exception("defect")
            return self._stray(notification, "unprocessed", body, loaded.transaction.id)
        return "repeated" if decision is None else "recorded"

    def _find(self, notification: Notification) -> Loaded | None:
        if not notification.poi_id or not notification.service_id:
            return None
        loaded = self.store.load_by_service_id(notification.poi_id, notification.service_id)
        ours = loaded is not None and loaded.transaction.sale_id == notification.sale_id
        return loaded if ours else None

    def _evidence(
        self, notification: PushedResponse | PushedReject, loaded: Loaded, *, sealed: bool
    ) -> Evidence | None:
        tx = loaded.transaction
        if isinstance(notification, PushedReject):
            return notification.evidence_for(tx)
        # A local terminal answers on the connection, and sealed where it has a key: a clear push is anybody's.
        clear_is_hearsay = tx.transport is Transport.LOCAL and not sealed
        return notification.result_for(tx, () if clear_is_hearsay else self.tag_keys())

    def _stray(self, notification: Notification, why: str, body: bytes, payment_id: UUID | None = None) -> str:
        self.store.keep_stray(
            digest=hashlib.sha256(body).hexdigest(),
            why=why,
            poi_id=notification.poi_id,
            sale_id=notification.sale_id,
            service_id=notification.service_id,
            payment_id=payment_id,
        )
        log.warning("stray", why=why, terminal=notification.poi_id, service_id=notification.service_id)
        return "stray"
