"""A worker that is told to end while terminals hold their answers: it waits for them, and loses nothing."""

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.settings import load_settings
from orchestrator.cli.crew import Crew
from orchestrator.cli.stopping import Stop
from orchestrator.cli.up import patience_s
from orchestrator.processes import Processes
from orchestrator.simulator.process import SimulatorProcess
from orchestrator.store import schema
from tests.integration.celery_support import Product, virtual_host, wait_for
from tests.services import fresh_database, fresh_redis

pytestmark = [pytest.mark.integration, pytest.mark.slow]

#: A shopper who takes 45 s takes 9 s.
TIME_SCALE = "5"
SHOPPER_S = 9
ARGUMENTS = ["--any-terminal", "--api-key", "K", "--time-scale", TIME_SCALE, "--seed", "1"]


@pytest.fixture(params=["redis", "rabbitmq"])
def product(request: pytest.FixtureRequest, postgres_url: str, tmp_path: Path) -> Iterator[Product]:
    """Nothing of it runs yet."""
    url = request.getfixturevalue(f"{request.param}_url")
    broker = fresh_redis(url) if request.param == "redis" else virtual_host(url)
    with (
        broker as broker_url,
        fresh_database(postgres_url) as database_url,
        SimulatorProcess(tmp_path / "ledger", ARGUMENTS) as simulator,
    ):
        schema.upgrade(database_url)
        opened = Product(database_url, broker_url, simulator, tmp_path)
        environment = opened.environment | {"COUNTERFOIL_TIME_SCALE": TIME_SCALE}
        opened.processes = Processes(environment, tmp_path / "logs")
        try:
            with opened.processes:
                yield opened
        finally:
            opened.client.close()


def test_a_worker_that_ends_waits_for_what_it_holds_and_leaves_the_rest_to_others(product: Product) -> None:
    sales = [f"{number}-slow" for number in range(4)]
    worker = product.processes.start("worker", "worker", "--concurrency", "2")
    for sale in sales:
        product.enqueue(product.submission(product.terminal(), sale))
    wait_for(lambda: len(product.sql("SELECT 1 FROM payments WHERE sent_at IS NOT NULL")) == 2)

    worker.send_signal(signal.SIGTERM)
    assert worker.wait(30) == 0
    held = product.sql("SELECT reference, outcome FROM payments WHERE sent_at IS NOT NULL")
    assert [row["outcome"] for row in held] == ["approved"] * 2
    assert product.sql("SELECT 1 FROM journal WHERE evidence = 'answer_missing'") == []

    del product.processes.running["worker"]
    product.processes.start("other", "worker")
    product.processes.start("beat", "beat")
    assert {product.outcome(sale) for sale in sales} == {"approved"}
    assert all(len(product.simulator.ledger("request", reference=sale)) == 1 for sale in sales)


# -- everything at once, as `counterfoil up` stops it ------------------------------------------------------------------


@pytest.fixture
def crew(postgres_url: str, redis_broker_url: str, tmp_path: Path) -> Iterator[tuple[Product, Crew]]:
    """A crew with a payment in hand that its terminal will answer in some seconds."""
    with fresh_database(postgres_url) as url, SimulatorProcess(tmp_path / "ledger", ARGUMENTS) as simulator:
        schema.upgrade(url)
        product = Product(url, redis_broker_url, simulator, tmp_path, {"COUNTERFOIL_TIME_SCALE": TIME_SCALE})
        with product.processes:
            running = Crew(product.processes, {"worker": ("worker",), "beat": ("beat",)}, lambda *_: None)
            product.enqueue(product.submission(product.terminal(), "in hand-slow"))
            wait_for(lambda: simulator.ledger("request", reference="in hand-slow"))
            yield product, running
        product.client.close()


def test_who_stops_everything_waits_for_what_terminals_hold(crew: tuple[Product, Crew]) -> None:
    product, running = crew
    running.stop(Stop(), patience_s(load_settings({"COUNTERFOIL_TIME_SCALE": TIME_SCALE})))
    assert product.processes.running == {}
    (paid,) = product.sql("SELECT outcome FROM payments")
    assert paid["outcome"] == "approved"
    assert product.sql("SELECT 1 FROM journal WHERE evidence = 'answer_missing'") == []


@pytest.mark.parametrize(("asked", "within_s"), [(2, 3600), (1, 0.2)])
def test_who_insists_or_has_no_patience_does_not_wait(crew: tuple[Product, Crew], asked: int, within_s: float) -> None:
    product, running = crew
    stop = Stop()
    for _ in range(asked):
        stop.ask(signal.SIGINT, None)
    began_s = time.monotonic()
    running.stop(stop, within_s)
    assert time.monotonic() - began_s < SHOPPER_S
    (cut_off,) = product.sql("SELECT outcome, sent_at FROM payments")
    assert cut_off["outcome"] is None
    assert cut_off["sent_at"] is not None


def test_the_patience_is_as_long_as_a_terminal_may_hold_a_request() -> None:
    held_call_ends_s = 150  # the platform's limit for a held-open payment call
    assert patience_s(load_settings({})) > held_call_ends_s
