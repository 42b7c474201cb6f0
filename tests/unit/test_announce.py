"""Announcements: in order, built only for listeners, kept while the broker is away, and never in the way."""

import json
import threading
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from orchestrator import announce
from orchestrator.announce import Announcer

AT = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
WITHIN_S = 10


class Broker:
    """Takes messages when it may; it is away for the first ``failures`` calls."""

    def __init__(self, failures: int = 0, listening: Collection[str] | None = None) -> None:
        self.listening = listening
        self.taken: list[tuple[str, Any]] = []
        self.made = self.closed = 0
        self.asked = threading.Semaphore(0)
        self._failures = failures

    def __call__(self) -> "Broker":
        self.made += 1
        return self

    def heard(self, types: Collection[str]) -> Collection[str]:
        self.asked.release()
        if self._failures:
            self._failures -= 1
            raise ConnectionError
        return types if self.listening is None else set(types) & set(self.listening)

    def publish(self, messages: Sequence[tuple[str, str]]) -> None:
        self.taken += [(key, json.loads(body)) for key, body in messages]

    def close(self) -> None:
        self.closed += 1

    @property
    def numbers(self) -> list[int]:
        return [body["data"]["n"] for _, body in self.taken]


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(announce, "_RETRY_EVERY_S", 0.01)
    monkeypatch.setattr(announce, "_PAUSE_S", 0.0)


def test_what_is_announced_is_published_in_order_as_a_callback_would_say_it() -> None:
    broker = Broker()
    announcer = Announcer(broker)
    for n in range(300):
        announcer("payment.confirmed", AT, lambda n=n: {"n": n})  # type: ignore[misc]
    announcer.close(WITHIN_S)
    assert broker.numbers == list(range(300))
    body = {"type": "payment.confirmed", "timestamp": "2026-01-31T12:00:00.000000Z", "data": {"n": 0}}
    assert broker.taken[0] == ("payment.confirmed", body)
    assert broker.closed == broker.made == 1


def test_what_nobody_listens_for_is_never_spelled() -> None:
    def spelled() -> Mapping[str, Any]:
        pytest.fail("nobody wanted it")

    broker = Broker(listening={"payment.unknown"})
    announcer = Announcer(broker)
    announcer("payment.confirmed", AT, spelled)
    announcer("payment.unknown", AT, lambda: {"n": 1})
    announcer.close(WITHIN_S)
    assert broker.numbers == [1]


def test_what_waited_for_a_broker_that_was_away_is_published_in_order_over_a_new_connection() -> None:
    broker = Broker(failures=3)
    announcer = Announcer(broker)
    for n in range(5):
        announcer("payment.confirmed", AT, lambda n=n: {"n": n})  # type: ignore[misc]
    for _ in range(4):
        assert broker.asked.acquire(timeout=WITHIN_S)
    announcer.close(WITHIN_S)
    assert broker.numbers == [0, 1, 2, 3, 4]
    assert broker.made == 4


def test_one_that_cannot_be_spelled_keeps_no_other_waiting() -> None:
    broker = Broker()
    announcer = Announcer(broker)
    announcer("payment.confirmed", AT, lambda: {"n": object()})
    announcer("payment.confirmed", AT, lambda: {"n": 2})
    announcer.close(WITHIN_S)
    assert broker.numbers == [2]


def test_what_is_too_much_is_dropped_and_counted_and_nobody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(announce, "_WAITING_MAX", 10)
    broker = Broker(failures=10**9)
    announcer = Announcer(broker)
    announcer("payment.confirmed", AT, lambda: {"n": 0})
    assert broker.asked.acquire(timeout=WITHIN_S)  # the thread holds that one, and the broker is away
    for n in range(1, 16):
        announcer("payment.confirmed", AT, lambda n=n: {"n": n})  # type: ignore[misc]
    assert announcer.dropped == 5
    announcer.close(0.5)
    assert broker.taken == []


def test_a_process_ends_although_the_broker_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(announce, "_RETRY_EVERY_S", 3600.0)
    broker = Broker(failures=10**9)
    announcer = Announcer(broker)
    announcer("payment.confirmed", AT, lambda: {"n": 0})
    assert broker.asked.acquire(timeout=WITHIN_S)
    announcer.close(WITHIN_S)
    assert not [thread for thread in threading.enumerate() if thread.name == "announcer" and thread.is_alive()]
