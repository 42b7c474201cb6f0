"""Do one due command. Doing is dull, and ends by producing evidence, which ``record`` judges.

Performing is safe at any time and any number of times: a command that was done is gone, one that is not due is left
alone, and a payment request needs the one-way claim. No HTTP call happens inside a database transaction.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Self
from uuid import uuid4

import structlog

from orchestrator import tracing
from orchestrator.commands import CommandKind
from orchestrator.errors import StoreUnavailable
from orchestrator.evidence import (
    AnswerWindowPassed,
    Evidence,
    NotFoundReported,
    SendByPassed,
)
from orchestrator.meaning import Alarm
from orchestrator.model import Transaction
from orchestrator.policy import SEND_LEASE_S, Policy
from orchestrator.record import Recorder
from orchestrator.store.refunds import LoadedRefund
from orchestrator.store.rows import Loaded, Ring, Route
from orchestrator.store.store import Store
from orchestrator.terminal import TerminalRoute, Terminals
from orchestrator.terminal_api import messages, tag
from orchestrator.terminal_api.acquirer_data import ApplicationInfo

log = structlog.get_logger()

#: A command that failed this often for reasons of ours is shown to a person, and tried on.
_ALARM_AFTER_FAILURES: Final = 3

#: A send's result is offered again after these waits while the database is away, and no longer than this in all: the
#: answer window asks for what was lost.
_INSIST_AFTER_S: Final = (0.1, 0.4, 1.0, 2.0, 4.0)
_INSIST_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class MaySend:
    """The send lease: asked just before the first byte, false once the claim is stale or the shopper may have left.

    ``valid_s`` counts from the claim on this machine's steady clock: no two machines' wall clocks are compared.
    """

    claimed_at_s: float
    valid_s: float

    def __call__(self) -> bool:
        """Say whether the first byte may still be written."""
        return since_boot_s() - self.claimed_at_s <= self.valid_s

    @classmethod
    def of(cls, loaded: Loaded | LoadedRefund, claimed_at_s: float) -> Self:
        """Lease a send to whoever began to claim it at ``claimed_at_s``."""
        return cls(claimed_at_s, min(SEND_LEASE_S, (loaded.send_by - loaded.read_at).total_seconds()))


@dataclass(frozen=True, slots=True)
class Performer:
    """Performs commands by id."""

    store: Store
    recorder: Recorder
    terminal: Terminals
    policy: Policy
    tag_keys: Callable[[], Sequence[bytes]]
    tell: Callable[[int], None]
    application: ApplicationInfo = field(default_factory=ApplicationInfo)
    till_prints: bool = False

    def perform(self, command_id: int, kind: CommandKind | None = None) -> None:
        """Do the command, if it is there and due. ``kind`` spares a read where the caller knows it.

        A failure of ours puts the command off, and is raised for the log: the database still knows what is to be done.
        """
        try:
            if kind is CommandKind.SEND:
                self._send(command_id)
            elif kind is CommandKind.TELL_CALLER:
                self.tell(command_id)
            else:
                self._perform_loaded(command_id)
        except Exception:
            put_off(self.store, self.policy, command_id)
            raise

    def sweep(self) -> int:
        """Ring what is due; conclude on the spot what needs no terminal. Return how many commands were due."""
        rings = self.store.ring_due()
        silent = [ring for ring in rings if ring.kind in {CommandKind.EXPIRE, CommandKind.EXPECT_ANSWER}]
        self.recorder.bell([ring for ring in rings if ring not in silent])
        for ring in silent:
            self._sweep_one(ring)
        return len(rings)

    def _sweep_one(self, ring: Ring) -> None:
        try:
            self.perform(ring.command_id)
        except Exception:  # one payment's trouble must not keep the sweep from the others; perform() put it off
            log.exception("command_failed", command=ring.kind.value, payment=str(ring.payment_id))

    def _perform_loaded(self, command_id: int) -> None:
        loaded = self.store.load_for(command_id)
        if loaded is None or loaded.command is None:
            return
        if loaded.command is CommandKind.SEND:
            self._send(command_id)
        elif loaded.command is CommandKind.TELL_CALLER:
            self.tell(command_id)
        else:
            with tracing.step(loaded.command.value, loaded.row, "consumer", command=loaded.command.value):
                self.recorder.conclude_command(command_id, loaded, self._evidence(loaded))

    def _evidence(self, loaded: Loaded) -> Evidence:
        match loaded.command:
            case CommandKind.EXPIRE:
                return SendByPassed()
            case CommandKind.EXPECT_ANSWER:
                return AnswerWindowPassed()
            case CommandKind.CHECK_STATUS:
                return self._check(loaded)
            case _:
                return self.terminal.abort(loaded.transaction, route_to(loaded.transaction, loaded.route))

    def _check(self, loaded: Loaded) -> Evidence:
        evidence = self.terminal.check(loaded.transaction, route_to(loaded.transaction, loaded.route))
        if isinstance(evidence, NotFoundReported) and loaded.route.reassigned:
            return NotFoundReported(
                digest=evidence.digest, last_service_id=evidence.last_service_id, terminal_reassigned=True
            )
        return evidence

    def _send(self, command_id: int) -> None:
        """Claim, then send once. From the claim on, nothing re-opens the send."""
        signing_key = self.tag_keys()[0]  # may read the database, or be missing: not after the claim
        claimed_at_s = since_boot_s()
        loaded = self._claim(command_id)
        if loaded is None:
            self.store.park_send(command_id, self.policy.queue_backstop_s)
            return
        with tracing.step("send", loaded.row, "consumer", command="send", transport=loaded.transaction.transport):
            self._put_on_the_wire(loaded, self._payment_request(loaded, signing_key), MaySend.of(loaded, claimed_at_s))

    def _put_on_the_wire(self, loaded: Loaded, request: bytes, may_send: MaySend) -> None:
        route = route_to(loaded.transaction, loaded.route)
        evidence = self.terminal.pay(loaded.transaction, route, request, may_send)
        if evidence is not None:
            insist(lambda: self.recorder.record(loaded.transaction.id, evidence))

    def _payment_request(self, loaded: Loaded, signing_key: bytes) -> bytes:
        till_prints = loaded.route.till_prints
        return messages.payment_request(
            loaded.transaction,
            at=loaded.read_at,
            tag=tag.sign(signing_key, loaded.transaction),
            application=self.application,
            options=loaded.options,
            till_prints=self.till_prints if till_prints is None else till_prints,
        )

    def _claim(self, command_id: int) -> Loaded | None:
        token = uuid4()
        window_s = self.policy.answer_window_s
        try:
            return self.store.claim(command_id, token, window_s)
        except StoreUnavailable:
            # The claim may have committed. If it did it is ours, and says so by the token; sending is then as safe as
            # ever, inside the lease. If it did not, it may be tried again: only one claim of a payment ever succeeds.
            # If the database stays away, nothing is sent, and the answer window finds out.
            return self.store.claimed_with(token) or self.store.claim(command_id, token, window_s)


def put_off(store: Store, policy: Policy, command_id: int) -> None:
    """Have a command whose performing failed tried again later; a person is told when it goes on failing."""
    try:
        failures = store.put_off(command_id, policy.command_retry_s)
    except StoreUnavailable:
        return
    if failures == _ALARM_AFTER_FAILURES:
        store.raise_alarm(command_id, Alarm.COMMAND_FAILS)


def insist(record: Callable[[], object]) -> None:
    """Record what a send ended with. Nobody else can ever learn that nothing was delivered, so insist a little."""
    give_up_at_s = time.monotonic() + _INSIST_S
    for wait_s in _INSIST_AFTER_S:
        try:
            record()
        except StoreUnavailable:
            if time.monotonic() + wait_s > give_up_at_s:
                raise
            time.sleep(wait_s)
        else:
            return
    record()


def route_to(tx: Transaction, route: Route) -> TerminalRoute:
    """Say which terminal a transaction goes to, and how."""
    return TerminalRoute(
        poi_id=tx.poi_id,
        merchant_account=tx.merchant_account,
        transport=tx.transport,
        region=route.region,
        family=route.cloud_api,
        address=route.address,
        store=route.store,
    )


def since_boot_s() -> float:
    """Seconds since boot, counting the time that the machine slept where the system can tell."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime(clock)
