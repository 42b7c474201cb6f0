"""The bell: rings are published in order and together, late ones too, until the broker fails."""

import threading
from collections.abc import Sequence
from uuid import UUID

from orchestrator.bell import Message, ThreadedBell
from orchestrator.commands import CommandKind
from orchestrator.model import Transport
from orchestrator.store.rows import Ring

WITHIN_S = 10


def ring(number: int, kind: CommandKind = CommandKind.SEND, transport: Transport = Transport.ASYNC) -> Ring:
    return Ring(number, kind, UUID(int=number), f"ref-{number}", "V400m-1", transport)


class Broker:
    """Takes messages when it may; the first calls fail as often as told."""

    def __init__(self, failures: int = 0) -> None:
        self.may_answer = threading.Event()
        self.asked = threading.Semaphore(0)
        self.calls: list[list[int]] = []
        self.messages: list[Message] = []
        self._failures = failures

    def __call__(self, messages: Sequence[Message]) -> None:
        self.calls.append([message.kwargs["command_id"] for message in messages])
        self.asked.release()
        assert self.may_answer.wait(WITHIN_S)
        if len(self.calls) <= self._failures:
            raise ConnectionError
        self.messages += messages


def test_what_was_rung_while_the_broker_was_slow_is_published_together_and_in_order() -> None:
    broker = Broker()
    bell = ThreadedBell(lambda: broker)
    bell([ring(1)])
    assert broker.asked.acquire(timeout=WITHIN_S)
    for number in range(2, 8):
        bell([ring(number)])
    broker.may_answer.set()
    bell.close(WITHIN_S)
    assert broker.calls == [[1], [2, 3, 4, 5, 6, 7]]


def test_what_waited_for_a_publish_that_failed_is_forgotten_and_later_rings_are_not() -> None:
    broker = Broker(failures=1)
    bell = ThreadedBell(lambda: broker)
    bell([ring(1)])
    assert broker.asked.acquire(timeout=WITHIN_S)
    bell([ring(2)])
    broker.may_answer.set()
    while len(broker.calls) < 2:  # the ring that waited is dropped: an empty publish says so
        assert broker.asked.acquire(timeout=WITHIN_S)
    bell([ring(3)])
    bell.close(WITHIN_S)
    assert broker.calls[:2] == [[1], []]
    assert [message.kwargs["command_id"] for message in broker.messages] == [3]


def test_a_first_ring_is_not_lost_to_a_slow_connection() -> None:
    broker = Broker()
    broker.may_answer.set()
    connected = threading.Event()

    def connect() -> Broker:
        assert connected.wait(WITHIN_S)
        return broker

    bell = ThreadedBell(connect)
    bell([ring(1)])
    assert not connected.wait(0.3)  # longer than any healthy broker takes to answer
    connected.set()
    bell.close(WITHIN_S)
    assert broker.calls[0] == [1]


def test_held_sends_have_a_queue_of_their_own_and_the_message_names_the_payment() -> None:
    broker = Broker()
    broker.may_answer.set()
    bell = ThreadedBell(lambda: broker)
    bell([ring(1), ring(2, transport=Transport.SYNC), ring(3, CommandKind.CHECK_STATUS)])
    bell.close(WITHIN_S)
    assert [(m.task, m.queue) for m in broker.messages] == [
        ("tasks.payments.send", "payments"),
        ("tasks.payments.send", "held"),
        ("tasks.status.check", "status"),
    ]
    assert "reference=ref-1 poi_id=V400m-1" in broker.messages[0].shown
