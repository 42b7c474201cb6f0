"""Do one due command of a refund, which ends by producing evidence. Safe any number of times, as ``perform`` is.

A refund is put on the wire once, by whoever claims it. That of a payment asks no shopper anything and takes its
terminal only for its own request; one without a payment has the terminal for itself, between payments.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from uuid import UUID, uuid4

import structlog

from orchestrator import tracing
from orchestrator.commands import CommandKind
from orchestrator.errors import StoreUnavailable
from orchestrator.evidence import (
    AnswerWindowPassed,
    CheckAsked,
    Evidence,
    Exchange,
    NotDelivered,
    NotFoundReported,
    SendByPassed,
)
from orchestrator.perform import MaySend, insist, put_off, route_to, since_boot_s
from orchestrator.policy import Policy
from orchestrator.record import Recorder
from orchestrator.refund_record import RefundRecorder
from orchestrator.refunds.evidence import OutcomeOverdue
from orchestrator.refunds.model import Refund, RefundStage
from orchestrator.store.refunds import LoadedRefund, Original, RefundStore
from orchestrator.terminal import Terminals
from orchestrator.terminal_api import interpret, reversals, service_ids
from orchestrator.wire import Answer

log = structlog.get_logger()

#: What a refund's deadline is, by where it stands; elsewhere it has none.
_DEADLINES: Final[dict[RefundStage, Callable[[], Evidence]]] = {
    RefundStage.AWAITING: SendByPassed,
    RefundStage.QUEUED: SendByPassed,
    RefundStage.SENT: AnswerWindowPassed,
    RefundStage.RECEIVED: OutcomeOverdue,
}


@dataclass(frozen=True, slots=True)
class RefundPerformer:
    """Performs the commands of refunds by id. ``payments`` is where a payment is asked about."""

    store: RefundStore
    recorder: RefundRecorder
    payments: Recorder
    terminal: Terminals
    policy: Policy

    def perform(self, command_id: int) -> None:
        """Do the command, if it is there and due.

        A failure of ours puts the command off, and is raised for the log: the database still knows what is to be done.
        """
        try:
            self._perform(command_id)
        except Exception:
            put_off(self.payments.store, self.policy, command_id)
            raise

    def _perform(self, command_id: int) -> None:
        loaded = self.store.load_for(command_id)
        if loaded is not None and loaded.command is not None:
            name = loaded.command.value
            with tracing.step(name, loaded.row, "consumer", command=name, transport=loaded.refund.transport):
                self._do(command_id, loaded)

    def _do(self, command_id: int, loaded: LoadedRefund) -> None:
        if loaded.command is CommandKind.SEND_REFUND:
            self._send(command_id, loaded.refund)
        elif loaded.command is CommandKind.CHECK_REFUND:
            self.recorder.conclude_command(command_id, loaded, self._check(loaded))
        elif (deadline := _DEADLINES.get(loaded.refund.stage)) is not None:
            self.recorder.conclude_command(command_id, loaded, deadline())

    def _send(self, command_id: int, refund: Refund) -> None:
        """Learn how the payment is named, or take the terminal; claim; then send once."""
        original = None
        if refund.payment_id is not None:
            original = self.store.original(refund.id)
            if original is None:
                self._ask_about(refund.payment_id, refund)
                self.store.park(command_id, self.policy.queue_backstop_s)
                return
        elif not self.store.take_terminal(command_id):
            self._step_back(command_id)  # it may still have the terminal: a worker can die before its claim
            return
        claimed_at_s = since_boot_s()
        loaded = self._claim(command_id)
        if loaded is not None:
            evidence = self._put_on_the_wire(loaded, original, MaySend.of(loaded, claimed_at_s))
            insist(lambda: self.recorder.record(refund.id, evidence))
            return
        if refund.payment_id is None:
            self._step_back(command_id)
        else:
            self.store.park(command_id, self.policy.queue_backstop_s)

    def _step_back(self, command_id: int) -> None:
        """Let payments go first, and wait."""
        rings = self.store.give_terminal_back(command_id)
        if rings:
            self.recorder.bell(rings)
        self.store.park(command_id, self.policy.queue_backstop_s)

    def _ask_about(self, payment_id: UUID, refund: Refund) -> None:
        """The books or a notification without details told of the charge: its terminal knows what to call it."""
        self.payments.record(payment_id, CheckAsked(asked_by=f"refund {refund.id}"))

    def _claim(self, command_id: int) -> LoadedRefund | None:
        token, window_s = uuid4(), self.policy.answer_window_s
        try:
            return self.store.claim(command_id, token, window_s)
        except StoreUnavailable:  # as for payments: it may have committed, and then it is ours
            return self.store.claimed_with(token) or self.store.claim(command_id, token, window_s)

    def _put_on_the_wire(self, loaded: LoadedRefund, original: Original | None, may_send: MaySend) -> Evidence:
        tx, at = loaded.refund.as_transaction, loaded.read_at
        if original is None:
            body, read_timeout_s = reversals.payout_request(tx, at=at), self.policy.sync_read_timeout_s
        else:
            body = reversals.reversal_request(
                tx,
                at=at,
                original_id=original.transaction_id,
                original_at=original.transaction_at,
                whole=original.whole,
            )
            read_timeout_s = self.policy.refund_read_timeout_s
        sent = self.terminal.request(route_to(tx, loaded.route), "sync", body, read_timeout_s, may_send)
        if isinstance(sent, Answer):
            return reversals.read_refund_answer(sent.status, sent.body, tx, category=_category(loaded.refund))
        if sent.delivered:
            return interpret.missing(Exchange.PAYMENT, sent.why, tx.service_id)
        return NotDelivered(why=sent.why)

    def _check(self, loaded: LoadedRefund) -> Evidence:
        tx, category = loaded.refund.as_transaction, _category(loaded.refund)
        service_id = service_ids.random_service_id("status")
        body = reversals.status_request(tx, category=category, service_id=service_id)
        route, read_timeout_s = route_to(tx, loaded.route), self.policy.status_read_timeout_s
        sent = self.terminal.request(route, "sync", body, read_timeout_s)
        if not isinstance(sent, Answer):
            return interpret.missing(Exchange.STATUS, sent.why, service_id)
        found = reversals.read_refund_status(
            sent.status, sent.body, tx, category=category, status_service_id=service_id
        )
        if isinstance(found, NotFoundReported) and loaded.route.reassigned:
            return NotFoundReported(digest=found.digest, terminal_reassigned=True)
        return found


def _category(refund: Refund) -> str:
    return reversals.PAYMENT if refund.payment_id is None else reversals.REVERSAL
