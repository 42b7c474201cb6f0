"""A desk that pays back, on a real database; its terminal answers as a test wants, and counts what it is sent."""

import json
import secrets
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from orchestrator.commands import CommandKind
from orchestrator.refund_record import RefundRecorder
from orchestrator.refunding.intake import RefundIntake, UnreferencedRule
from orchestrator.refunding.perform import RefundPerformer
from orchestrator.refunds.evidence import RefundBooked, RefundEntry
from orchestrator.store.refunds import RefundStore
from orchestrator.terminal import TerminalRoute
from orchestrator.wire import Answer, Failure
from tests.integration.store_support import MERCHANT, Shop

Message = dict[str, Any]
Reply = Callable[[Message], Answer | Failure]


def reply(message: Message, category: str, body: Message) -> Answer:
    """An answer to this request, with its own header."""
    header = message["SaleToPOIRequest"]["MessageHeader"] | {"MessageCategory": category, "MessageType": "Response"}
    content = {"MessageHeader": header, f"{category}Response": body}
    return Answer(200, json.dumps({"SaleToPOIResponse": content}).encode())


def received(message: Message) -> Answer:
    """The reversal was received. It names its modification after the request's ServiceID."""
    modification = "MOD" + message["SaleToPOIRequest"]["MessageHeader"]["ServiceID"]
    ids = {"POITransactionID": {"TransactionID": modification, "TimeStamp": "2025-03-14T09:00:00Z"}}
    return reply(message, "Reversal", {"Response": {"Result": "Success"}, "POIData": ids})


def failed(condition: str) -> Reply:
    """The reversal was refused."""
    body = {"Response": {"Result": "Failure", "ErrorCondition": condition}}
    return lambda message: reply(message, "Reversal", body)


def paid_out(message: Message) -> Answer:
    """The amount went to the card that was presented."""
    wanted = message["SaleToPOIRequest"]["PaymentRequest"]["PaymentTransaction"]["AmountsReq"]
    amounts = {"AuthorizedAmount": wanted["RequestedAmount"], "Currency": wanted["Currency"]}
    ids = {"POITransactionID": {"TransactionID": "BV5k001.OUT1", "TimeStamp": "2025-03-14T09:00:00Z"}}
    body = {"Response": {"Result": "Success"}, "POIData": ids}
    return reply(message, "Payment", {**body, "PaymentResult": {"PaymentType": "Refund", "AmountsResp": amounts}})


def unknown(message: Message) -> Answer:
    """The terminal knows no such message."""
    asked = message["SaleToPOIRequest"]["TransactionStatusRequest"]["MessageReference"]
    body = {"Response": {"Result": "Failure", "ErrorCondition": "NotFound"}, "MessageReference": asked}
    return reply(message, "TransactionStatus", body)


def repeated(message: Message) -> Answer:
    """The terminal repeats that it was received."""
    header = message["SaleToPOIRequest"]["MessageHeader"]
    asked = message["SaleToPOIRequest"]["TransactionStatusRequest"]["MessageReference"]
    inner = {"MessageHeader": {**asked, "POIID": header["POIID"]}}
    inner["RepeatedResponseMessageBody"] = {"ReversalResponse": {"Response": {"Result": "Success"}}}
    body = {"Response": {"Result": "Success"}, "MessageReference": asked, "RepeatedMessageResponse": inner}
    return reply(message, "TransactionStatus", body)


def lost(message: Message) -> Failure:
    """Nothing came back."""
    return Failure("read-timeout", delivered=True)


def unreached(message: Message) -> Failure:
    """No byte was written."""
    return Failure("connect-failed", delivered=False)


@dataclass
class Wire:
    """The part of the terminals' client that a refund uses."""

    answer: Reply = received
    status: Reply = unknown
    sent: list[Message] = field(default_factory=list)
    asked: list[Message] = field(default_factory=list)
    routes: list[TerminalRoute] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def request(
        self,
        route: TerminalRoute,
        kind: str,
        body: bytes,
        read_timeout_s: float,
        may_send: Callable[[], bool] = lambda: True,
    ) -> Answer | Failure:
        assert kind == "sync"
        assert read_timeout_s > 0
        message: Message = json.loads(body)
        if not may_send():
            return Failure("lease-expired", delivered=False)
        is_status = "TransactionStatusRequest" in message["SaleToPOIRequest"]
        with self._lock:
            (self.asked if is_status else self.sent).append(message)
            self.routes.append(route)
        return (self.status if is_status else self.answer)(message)

    def sent_ids(self) -> list[str]:
        """The ServiceIDs of the refunds that were put on the wire."""
        return [message["SaleToPOIRequest"]["MessageHeader"]["ServiceID"] for message in self.sent]


class RefundDesk:
    """Refunds beside a shop's payments. Each test uses terminals and sales of its own."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self.store = RefundStore(shop.database)
        self.recorder = RefundRecorder(self.store, shop.policy, shop.rung.extend)
        self.wire = Wire()
        self.intake = self.intake_by()
        client: Any = self.wire
        self.performer = RefundPerformer(self.store, self.recorder, shop.recorder, client, shop.policy)

    def intake_by(self, limits: Mapping[str, int] | None = None, callback_url: str | None = None) -> RefundIntake:
        """An intake that allows refunds without a payment, up to these limits."""
        rule = UnreferencedRule(allowed=True, limits=limits or {})
        shop = self.shop
        return RefundIntake(self.store, shop.store, self.recorder, shop.rung.extend, "Till4", callback_url, rule)

    def charged(self, poi_id: str | None = None, **body: Any) -> UUID:
        """A payment of 10.99 EUR that was charged."""
        payment = self.shop.pay(poi_id or self.shop.terminal(), **body)
        assert self.shop.claim(payment)
        self.shop.approve(payment)
        return payment

    def refund(self, payment: UUID, minor: int = 450, key: str | None = None, **body: Any) -> UUID:
        """Accept a refund of its own reference."""
        wanted = {"reference": f"BACK-{secrets.token_hex(6)}", "amount": {"currency": "EUR", "value": minor}} | body
        envelope = {"merchant_account": MERCHANT, "idempotency_key": key or secrets.token_hex(8)}
        return UUID(str(self.intake.refund(payment, wanted, envelope, "key 1").row["id"]))

    def pay_out(self, poi_id: str, minor: int = 450, **body: Any) -> UUID:
        """Accept a refund without a payment, below the limit."""
        wanted = {"reference": f"OUT-{secrets.token_hex(6)}", "amount": {"currency": "EUR", "value": minor}}
        envelope = {"merchant_account": MERCHANT, "idempotency_key": secrets.token_hex(8)}
        intake = self.intake_by({"EUR": 10_000})
        return UUID(str(intake.pay_out({**wanted, "poi_id": poi_id, **body}, envelope, "key 1").row["id"]))

    def command(self, refund: UUID, kind: CommandKind = CommandKind.SEND_REFUND) -> int:
        """The id of its open command of this kind."""
        row = self.shop.sql("SELECT id FROM commands WHERE refund_id = %s AND kind = %s", refund, kind.value)
        return int(row[0]["id"])

    def kinds(self, refund: UUID) -> set[str]:
        """The kinds of its open commands."""
        return {row["kind"] for row in self.shop.sql("SELECT kind FROM commands WHERE refund_id = %s", refund)}

    def perform(self, refund: UUID, kind: CommandKind = CommandKind.SEND_REFUND) -> None:
        """Let its time come, and do it."""
        self.shop.sql("UPDATE commands SET due_at = now() WHERE refund_id = %s AND kind = %s", refund, kind.value)
        self.performer.perform(self.command(refund, kind))

    def sent(self, payment: UUID, minor: int = 450, **body: Any) -> UUID:
        """A refund that was sent, and answered as the wire does now."""
        refund = self.refund(payment, minor, **body)
        self.perform(refund)
        return refund

    def book(self, refund: UUID, entry: RefundEntry, at: str | None = None, **changes: Any) -> None:
        """A webhook tells of it."""
        digest = secrets.token_hex(32)
        evidence = RefundBooked(entry=entry, source="webhook:TEST", effective_at=at, digest=digest, **changes)
        self.recorder.record(refund, evidence)

    def row(self, refund: UUID) -> dict[str, Any]:
        row = self.store.row(refund)
        assert row is not None
        return dict(row)

    def state(self, refund: UUID) -> tuple[str, str | None, str | None]:
        row = self.row(refund)
        return row["state"], row["outcome"], row["reason"]
