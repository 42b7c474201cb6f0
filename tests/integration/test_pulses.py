"""Signs of life: the sweep says that it runs, and a queue that nobody serves is found out without filling up."""

from collections.abc import Iterator

import pytest

from config.celery import QUEUES
from orchestrator.store.database import Database
from orchestrator.store.pulses import HELD, SWEEP, PulseStore
from orchestrator.vigil import Vigil
from tests.integration.store_support import MERCHANT, Shop, shop_in

pytestmark = pytest.mark.integration

ASYNC_ONLY = sorted(set(QUEUES) - {HELD})


@pytest.fixture(scope="module")
def opened(postgres_url: str) -> Iterator[Shop]:
    with shop_in(postgres_url) as shop:
        yield shop


@pytest.fixture
def shop(opened: Shop) -> Shop:
    opened.sql("DELETE FROM pulses")
    return opened


@pytest.fixture
def pulses(shop: Shop) -> PulseStore:
    return PulseStore(shop.database)


def later(shop: Shop, seconds: float) -> None:
    """Let time pass for everything that was asked and answered."""
    shop.sql("UPDATE pulses SET at = at - make_interval(secs => %s), asked_at = asked_at - make_interval(secs => %s),"
             " since = since - make_interval(secs => %s)", seconds, seconds, seconds)  # fmt: skip


def test_the_first_sweep_asks_every_queue_that_somebody_needs(pulses: PulseStore) -> None:
    assert sorted(pulses.tick(QUEUES)) == ASYNC_ONLY


def test_the_queue_of_held_calls_is_asked_where_a_terminal_needs_it(shop: Shop, pulses: PulseStore) -> None:
    poi_id = shop.terminal()
    shop.sql("UPDATE terminals SET transport = 'sync' WHERE poi_id = %s", poi_id)
    try:
        assert sorted(pulses.tick(QUEUES)) == sorted(QUEUES)
        assert HELD in {pulse.name for pulse in pulses.read()}
    finally:
        shop.sql(
            "UPDATE terminals SET removed_at = now() WHERE poi_id = %s AND merchant_account = %s", poi_id, MERCHANT
        )

    assert HELD not in {pulse.name for pulse in pulses.read()}


def test_a_queue_that_answered_is_asked_again_after_half_a_minute(shop: Shop, pulses: PulseStore) -> None:
    pulses.tick(["payments"])
    pulses.answer("payments", "worker 1")
    later(shop, 20)
    assert pulses.tick(["payments"]) == []
    later(shop, 10)
    assert pulses.tick(["payments"]) == ["payments"]


def test_at_most_one_canary_waits_in_a_queue_that_nobody_serves(shop: Shop, pulses: PulseStore) -> None:
    asked = len(pulses.tick(["payments"]))
    for _ in range(60):  # an hour in minutes
        later(shop, 60)
        asked += len(pulses.tick(["payments"]))

    assert asked == 7  # one in ten minutes, each of which expires by then


def test_a_queue_that_never_answered_is_as_old_as_its_first_canary(shop: Shop, pulses: PulseStore) -> None:
    pulses.tick(["payments"])
    later(shop, 700)
    pulses.tick(["payments"])

    [pulse] = [each for each in pulses.read() if each.name == "payments"]
    assert pulse.at is None
    assert 700 <= pulse.age_s < 730


def test_a_queue_that_is_not_asked_any_more_is_not_called_stuck(shop: Shop, pulses: PulseStore) -> None:
    """Canaries were switched off, or nothing sweeps, which is told of by itself."""
    pulses.tick(["payments"])
    pulses.answer("payments", "a worker")
    later(shop, 1300)

    assert [pulse.name for pulse in pulses.read()] == [SWEEP]


def test_an_answer_names_the_worker_and_makes_the_queue_young(shop: Shop, pulses: PulseStore) -> None:
    pulses.tick(["payments"])
    later(shop, 700)
    pulses.answer("payments", "counterfoil@till-1")

    [pulse] = [each for each in pulses.read() if each.name == "payments"]
    assert pulse.worker == "counterfoil@till-1"
    assert pulse.age_s < 10


def test_a_tick_that_is_young_is_not_written_again(shop: Shop, pulses: PulseStore) -> None:
    """However many workers sweep, one row is written in ten seconds."""
    rows = "SELECT xmin::text, xmax::text, ctid::text FROM pulses ORDER BY name"
    pulses.tick(QUEUES)
    before = shop.sql(rows)

    for _ in range(5):
        assert pulses.tick(QUEUES) == []

    assert shop.sql(rows) == before


# -- behind the sweep --------------------------------------------------------------------------------------------------


def test_the_vigil_asks_the_database_once_in_ten_seconds_however_often_is_swept(pulses: PulseStore) -> None:
    sent: list[str] = []
    vigil = Vigil(pulses, QUEUES)

    for _ in range(10):
        vigil.swept(sent.append)

    assert sorted(sent) == ASYNC_ONLY


def test_a_canary_that_could_not_be_sent_is_sent_with_the_next_tick(pulses: PulseStore) -> None:
    def refuse(queue: str) -> None:
        raise ConnectionError(queue)

    Vigil(pulses, QUEUES).swept(refuse)

    assert sorted(pulses.tick(QUEUES)) == ASYNC_ONLY


def test_without_canaries_the_sweep_still_says_that_it_runs(pulses: PulseStore) -> None:
    sent: list[str] = []
    Vigil(pulses, ()).swept(sent.append)

    assert sent == []
    assert [pulse.name for pulse in pulses.read()] == [SWEEP]


def test_a_message_that_names_no_queue_of_ours_leaves_nothing_behind(pulses: PulseStore) -> None:
    Vigil(pulses, QUEUES).answered("somebody-elses", "a worker")

    assert pulses.read() == []


def test_a_database_that_is_away_is_no_trouble_of_the_sweeps() -> None:
    away = Database("postgresql+psycopg://postgres@127.0.0.1:1/none", connections=1)
    sent: list[str] = []

    Vigil(PulseStore(away), QUEUES).swept(sent.append)

    away.close()
    assert sent == []
