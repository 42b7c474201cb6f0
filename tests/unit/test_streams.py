"""Server-sent events: how they are spelled, and what a watcher is given and when."""

import asyncio
import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from orchestrator.errors import StoreUnavailable
from orchestrator.store.live import BATCH_MAX, Place
from orchestrator.web import streams
from orchestrator.web.problems import Problem
from orchestrator.web.streams import EventStream, Streams, Watcher, encode, read_id

PAYMENT = UUID("01890000-0000-7000-8000-000000000001")
AT = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "LOOK_EVERY_S", 0.02)
    monkeypatch.setattr(streams, "_GATHER_S", 0.001)


def row(number: int, **changes: Any) -> dict[str, Any]:
    common = {"id": number, "number": 0, "poi_id": "V400m-1", "payment_id": PAYMENT, "kind": "display", "at": AT}
    return common | {"name": "PIN_ENTERED", "detail": {}} | changes


class Live:
    """A store whose rows are a list; says how often it was asked."""

    def __init__(self, *rows: dict[str, Any]) -> None:
        self.rows = list(rows)
        self.looks = 0
        self.is_away = False

    def news(self, places: list[Place]) -> list[dict[str, Any]]:
        self.looks += 1
        if self.is_away:
            raise StoreUnavailable
        return [
            found | {"number": place.number}
            for place in places
            for found in [each for each in self.rows if each["id"] > place.after][:BATCH_MAX]
        ]

    def moved(self, sequences: dict[UUID, int]) -> list[dict[str, Any]]:
        return []


async def run(function: Any, *arguments: Any) -> Any:
    return function(*arguments)


def serving(live: Live) -> Streams:
    return Streams(live, None, run)  # type: ignore[arg-type]


def watcher() -> Watcher:
    return Watcher(PAYMENT, "HarbourBakery", 0, "")


def test_an_event_is_three_lines_and_an_empty_one_whatever_it_holds() -> None:
    spelled = encode("terminal.display", "12.3", {"text": "one\ntwo\r\nthree \u2028 é"})

    assert spelled.endswith(b"\n\n")
    event, number, data = spelled.decode().strip("\n").split("\n")
    assert (event, number) == ("event: terminal.display", "id: 12.3")
    assert json.loads(data.removeprefix("data: ")) == {"text": "one\ntwo\r\nthree \u2028 é"}


@pytest.mark.parametrize(
    ("given", "place"),
    [("12.3", (12, "3")), ("12", (12, "")), ("12.", (12, "")), ("0", (0, "")), ("", (None, "")), (None, (None, ""))],
)
def test_an_id_is_a_place_and_the_mark_of_a_state(given: str | None, place: tuple[int | None, str]) -> None:
    assert read_id(given) == place


@pytest.mark.parametrize("mark", ["9f3a", "1234567890"])
def test_a_terminals_mark_means_nothing_for_a_payment(mark: str) -> None:
    assert Watcher.resumed(PAYMENT, "HarbourBakery", f"1.{mark}", 1).mark == ""
    assert Watcher.resumed("V400m-1", "HarbourBakery", f"1.{mark}", 1).mark == mark


def test_the_state_comes_first_and_every_id_says_where_one_then_is() -> None:
    told = watcher()

    told.give(("payment.pending", {}, "2"), [row(7), row(9)])
    told.give(("payment.pending", {}, "2"), [])  # is no news

    given = asyncio.run(told.take(1)).decode()
    assert [line for line in given.split("\n") if line.startswith(("event", "id"))] == [
        "event: payment.pending", "id: 0.2", "event: terminal.display", "id: 7.2", "event: terminal.display", "id: 9.2",
    ]  # fmt: skip


def test_who_has_not_taken_what_it_was_given_is_given_no_more_and_loses_nothing() -> None:
    async def scene() -> tuple[int, bytes, bytes]:
        live = Live(*[row(number) for number in range(1, BATCH_MAX + 11)])
        all_of_them, slow = serving(live), watcher()
        all_of_them.join(slow)
        await asyncio.sleep(3 * streams.LOOK_EVERY_S)
        looks = live.looks
        first = await slow.take(1)
        second = await slow.take(1)
        all_of_them.leave(slow)
        return looks, first, second

    looks, first, second = asyncio.run(scene())

    assert looks == 1
    assert (first.count(b"event: "), second.count(b"event: ")) == (BATCH_MAX, 10)


def test_nobody_who_watches_means_nothing_is_asked() -> None:
    async def scene() -> tuple[int, int]:
        live = Live(row(1))
        all_of_them, one = serving(live), watcher()
        all_of_them.join(one)
        await one.take(1)
        all_of_them.leave(one)
        await asyncio.sleep(2 * streams.LOOK_EVERY_S)
        before = live.looks
        await asyncio.sleep(2 * streams.LOOK_EVERY_S)
        again = watcher()
        all_of_them.join(again)
        assert await again.take(1)
        all_of_them.leave(again)
        return before, live.looks

    before, after = asyncio.run(scene())

    assert (before, after) == (1, 2)


def test_a_database_that_is_away_delays_and_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "_LOOK_AGAIN_S", 0.01)

    async def scene() -> bytes:
        live = Live(row(1))
        live.is_away = True
        all_of_them, one = serving(live), watcher()
        all_of_them.join(one)
        assert await one.take(0.5) == b""
        assert not one.is_over
        live.is_away = False
        try:
            return await one.take(2)
        finally:
            all_of_them.leave(one)

    assert asyncio.run(scene()).count(b"event: ") == 1


def test_a_fault_of_ours_ends_the_streams_so_that_they_come_again() -> None:
    async def scene() -> bool:
        live = Live(row(1, name=None))
        all_of_them, one = serving(live), watcher()
        all_of_them.join(one)
        assert await one.take(2) == b""
        return one.is_over

    assert asyncio.run(scene())


def test_a_process_takes_as_many_as_it_can_and_none_while_it_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "STREAMS_MAX", 1)

    async def scene() -> None:
        all_of_them, one, late = serving(Live()), watcher(), watcher()
        all_of_them.has_room()
        all_of_them.join(one)
        with pytest.raises(Problem) as refused:
            all_of_them.has_room()
        assert refused.value.slug == "too-many-streams"
        all_of_them.close()
        all_of_them.join(late)
        assert one.is_over
        assert late.is_over

    asyncio.run(scene())


class Client:
    """What a server hears and does for one request."""

    def __init__(self, *, takes: int = 1_000) -> None:
        self.sent: list[dict[str, Any]] = []
        self.leaves = asyncio.Event()
        self._takes = takes

    async def receive(self) -> dict[str, Any]:
        await self.leaves.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        if len(self.sent) >= self._takes:
            await asyncio.Event().wait()
        self.sent.append(message)

    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent)


async def yes() -> bool:
    return True


def test_who_leaves_is_let_go_at_once() -> None:
    async def scene() -> None:
        all_of_them, client = serving(Live()), Client()
        answer = asyncio.create_task(EventStream(all_of_them, watcher(), yes)({}, client.receive, client.send))
        await asyncio.sleep(0.05)
        assert not answer.done()
        client.leaves.set()
        await asyncio.wait_for(answer, 1)

    asyncio.run(scene())


def test_who_takes_nothing_for_long_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "_STUCK_S", 0.05)

    async def scene() -> None:
        client = Client(takes=2)  # the head and the first line
        answer = EventStream(serving(Live(row(1))), watcher(), yes)({}, client.receive, client.send)
        await asyncio.wait_for(answer, 2)

    asyncio.run(scene())


def test_a_stream_beats_while_it_may_stay_and_ends_when_it_may_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "BEAT_EVERY_S", 0.02)
    answers = [True, True, False]

    async def may_stay() -> bool:
        return answers.pop(0)

    async def scene() -> Client:
        client = Client()
        await asyncio.wait_for(EventStream(serving(Live()), watcher(), may_stay)({}, client.receive, client.send), 2)
        return client

    client = asyncio.run(scene())

    assert client.body().count(b": \n\n") == 2
    assert client.body().startswith(b"retry: ")
    assert client.sent[-1]["more_body"] is False
