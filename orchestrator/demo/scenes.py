"""What happens in the demo: each scene takes a payment into some trouble, and says what came of it."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from orchestrator.client import CounterfoilError, Payment
from orchestrator.demo.stage import TERMINALS, Stage

#: Longer than any scene takes at the demo's time scale.
_ENDS_WITHIN_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Scene:
    """A title, what goes on behind it, and the act. ``outcome`` is what it has to end with."""

    title: str
    story: str
    outcome: str
    act: Callable[[Stage, str], Payment]


def _pay(stage: Stage, reference: str, terminal: int, minor: int = 1250) -> Payment:
    return stage.client.payments.create(
        reference=reference, poi_id=TERMINALS[terminal], amount=(minor, "EUR"), idempotency_key=f"key-{reference}"
    )


def _ended(stage: Stage, payment: Payment) -> Payment:
    """Wait for an outcome, through ``unknown`` where the way leads there."""
    deadline_s = time.monotonic() + _ENDS_WITHIN_S
    while payment.outcome is None and time.monotonic() < deadline_s:
        payment = stage.client.payments.wait(payment.id, timeout=10)
        if payment.state == "unknown":
            time.sleep(0.1)
    return payment


def _plain(terminal: int) -> Callable[[Stage, str], Payment]:
    return lambda stage, reference: _ended(stage, _pay(stage, reference, terminal))


def _killed(stage: Stage, reference: str) -> Payment:
    """Kill the worker with -9 while its request is on the wire; nobody tells anybody the result."""
    stage.faults(delay_s=2.0)
    payment = _pay(stage, reference, 4)
    _until(lambda: _taken(stage, payment))
    stage.processes.kill("worker")
    stage.faults()
    stage.processes.start("worker", "worker")
    return _ended(stage, payment)


def _duplicate(stage: Stage, reference: str) -> Payment:
    """Submit the same thing three times; then the same sale under another key, which is refused."""
    first = _pay(stage, reference, 5)
    again = [_pay(stage, reference, 5) for _ in range(2)]
    if {payment.id for payment in again} != {first.id}:
        message = "a repeated submission became another payment"
        raise RuntimeError(message)
    ended = _ended(stage, first)
    try:
        stage.client.payments.create(
            reference=reference, poi_id=TERMINALS[5], amount=(1250, "EUR"), idempotency_key=f"other-{reference}"
        )
    except CounterfoilError as refused:
        if refused.type.endswith("already-charged"):
            return ended
    message = "a sale that was charged could be paid again"
    raise RuntimeError(message)


def _taken(stage: Stage, payment: Payment) -> bool:
    return any(line.get("service_id") == payment.service_id for line in stage.simulator.ledger("request"))


def _until(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + _ENDS_WITHIN_S
    while not condition():
        if time.monotonic() > deadline_s:
            message = "the simulator never saw the payment"
            raise TimeoutError(message)
        time.sleep(0.02)


SCENES: Final = (
    Scene("Approved", "sent once; the terminal's result is pushed, and carries our tag", "approved", _plain(0)),
    Scene("Declined", "the issuer says no", "declined", _plain(1)),
    Scene("Cancelled", "the shopper presses stop", "cancelled", _plain(2)),
    Scene(
        "A lost answer",
        "charged, and nobody tells us: the answer window passes, the terminal is asked",
        "approved",
        _plain(3),
    ),
    Scene(
        "A worker killed with -9 in mid-send",
        "its request is on the wire, its answer is lost; another worker asks, and never sends again",
        "approved",
        _killed,
    ),
    Scene(
        "A duplicate submission", "the same key three times, then another key for the same sale", "approved", _duplicate
    ),
    Scene(
        "A forged notification",
        "somebody pushes a success without our tag: hearsay, so the terminal is asked",
        "declined",
        _plain(6),
    ),
    Scene(
        "A request that never arrived",
        "the connection broke; two NotFounds behind the fence prove it",
        "not_performed",
        _plain(7),
    ),
)

#: The reference of each scene ends with the simulator's scenario.
REFERENCES: Final = (
    "DEMO-1-approve",
    "DEMO-2-decline",
    "DEMO-3-cancel",
    "DEMO-4-silent",
    "DEMO-5-silent",
    "DEMO-6-approve",
    "DEMO-7-forged",
    "DEMO-8-hangup-before",
)
