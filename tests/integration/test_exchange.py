"""Changes on the exchange, heard by a plain kombu consumer on Redis and on RabbitMQ; and what a task returns."""

import re
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from celery import Celery
from kombu import Connection, Consumer, Exchange, Message, Queue

from config.celery import celery_app
from config.settings import load_settings
from orchestrator.announce import Announcer
from orchestrator.evidence import AnswerWindowPassed
from orchestrator.intake import Intake
from orchestrator.publishers import ExchangePublisher
from orchestrator.record import Recorder
from orchestrator.refund_record import RefundRecorder
from orchestrator.submissions import submit_by_task
from orchestrator.views import payment_json, refund_json
from tests.factories import approved, authorisation
from tests.integration.celery_support import Product, product_on, rabbitmqctl, virtual_host, wait_for
from tests.integration.refund_support import RefundDesk
from tests.integration.store_support import MERCHANT, Shop, shop_in
from tests.services import fresh_redis

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]


class Listener:
    """Somebody else's service: kombu and a queue of its own, durable, bound to what it wants to hear."""

    def __init__(self, broker_url: str, *patterns: str) -> None:
        self.broker_url = broker_url
        exchange = Exchange("counterfoil", type="topic", durable=True)
        name = f"listener-{secrets.token_hex(4)}"
        self.queues = [Queue(name, exchange, routing_key=pattern, durable=True) for pattern in patterns]
        self.heard: list[tuple[str, Any]] = []
        with self.connection() as connection:
            for queue in self.queues:
                queue(connection.channel()).declare()

    def connection(self) -> Connection:
        return Connection(self.broker_url, connect_timeout=5)

    def listen(self, until: Callable[[], bool], within_s: float = 20.0) -> None:
        """Take what is in the queue, until it is enough."""

        def take(body: Any, message: Message) -> None:
            self.heard.append((message.delivery_info["routing_key"], body))
            message.ack()

        with self.connection() as connection, Consumer(connection, self.queues[:1], callbacks=[take], accept=["json"]):

            def enough() -> bool:
                try:
                    connection.drain_events(timeout=0.1)
                except TimeoutError:
                    return until()
                return False

            wait_for(enough, within_s)

    def listen_for(self, messages: int) -> None:
        self.listen(lambda: len(self.heard) >= messages)

    def waiting(self) -> int:
        """How many messages its queue holds."""
        with self.connection() as connection:
            declared: Any = self.queues[0](connection.channel()).queue_declare()
            return int(declared.message_count)

    @property
    def keys(self) -> list[str]:
        return [key for key, _ in self.heard]


@pytest.fixture(scope="module", params=["redis", "rabbitmq"])
def broker_url(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "redis":
        broker = fresh_redis(request.getfixturevalue("redis_url"))
    else:
        broker = virtual_host(request.getfixturevalue("rabbitmq_url"))
    with broker as url:
        yield url


@pytest.fixture(scope="module")
def shop(postgres_url: str) -> Iterator[Shop]:
    with shop_in(postgres_url) as opened:
        yield opened


@contextmanager
def announcing(broker_url: str) -> Iterator[Announcer]:
    """What every process of ours announces with."""
    settings = load_settings({"COUNTERFOIL_BROKER_URL": broker_url})
    announcer = Announcer(lambda: ExchangePublisher(celery_app(settings, broker_url)))
    yield announcer
    announcer.close(10)


def sent(shop: Shop) -> UUID:
    payment = shop.pay(shop.terminal())
    shop.send(payment)
    return payment


def test_every_change_is_announced_in_order_as_the_payment_was_then(shop: Shop, broker_url: str) -> None:
    listener = Listener(broker_url, "payment.*")
    with announcing(broker_url) as announce:
        recorder = Recorder(shop.store, shop.policy, shop.rung.extend, announce)
        shown = []
        for _ in range(20):
            payment = sent(shop)
            for evidence in (AnswerWindowPassed(), approved(digest=secrets.token_hex(32))):
                recorder.record(payment, evidence)
                shown.append(payment_json(shop.row(payment)))
            psp_reference = shop.row(payment)["psp_reference"]
            recorder.record(payment, authorisation(psp_reference=psp_reference, amount=None))
            shown.append(payment_json(shop.row(payment)))
        listener.listen_for(60)

    assert listener.keys == ["payment.unknown", "payment.confirmed", "payment.reconciled"] * 20
    assert [body["data"] for _, body in listener.heard] == shown
    assert {tuple(body) for _, body in listener.heard} == {("type", "timestamp", "data")}
    assert [body["type"] for _, body in listener.heard] == listener.keys


def test_an_acceptance_a_refusal_and_a_refund_are_announced(shop: Shop, broker_url: str) -> None:
    listener = Listener(broker_url, "payment.#", "refund.#")
    desk = RefundDesk(shop)
    charged = desk.charged()
    with announcing(broker_url) as announce:
        intake = Intake(shop.store, shop.rung.extend, "Till4", announce=announce)
        desk.recorder = RefundRecorder(desk.store, shop.policy, shop.rung.extend, announce)
        key, amount = secrets.token_hex(8), {"currency": "EUR", "value": 1099}
        envelope = {"merchant_account": MERCHANT, "idempotency_key": key}
        accepted = intake.submit({"reference": key, "poi_id": shop.terminal(), "amount": amount}, envelope)
        intake.submit({"reference": key, "poi_id": accepted.row["poi_id"], "amount": amount}, envelope)
        submit_by_task(intake, shop.store, {**envelope, "reference": "wrong"})
        refund = {"reference": key, "amount": amount}
        paid_back = desk.intake_by().refund(charged, refund, {**envelope, "idempotency_key": f"{key}-r"}, "test")
        listener.listen_for(3)

    assert listener.keys == ["payment.pending", "payment.rejected", "refund.pending"]
    bodies = [body["data"] for _, body in listener.heard]
    assert bodies[0] == payment_json(shop.row(UUID(str(accepted.row["id"]))))
    assert (bodies[1]["problem"], bodies[1]["merchant_account"]) == ("invalid-field", MERCHANT)
    assert bodies[2] == refund_json(desk.row(UUID(str(paid_back.row["id"]))))


def test_a_listener_hears_what_it_is_bound_to_and_nothing_is_kept_for_nobody(shop: Shop, broker_url: str) -> None:
    listener = Listener(broker_url, "payment.confirmed")
    with announcing(broker_url) as announce:
        recorder = Recorder(shop.store, shop.policy, shop.rung.extend, announce)
        payment = sent(shop)
        recorder.record(payment, AnswerWindowPassed())
        recorder.record(payment, approved(digest=secrets.token_hex(32)))
        listener.listen_for(1)

    assert listener.keys == ["payment.confirmed"]
    assert listener.waiting() == 0


def test_a_listener_that_was_away_finds_what_it_missed_and_a_cut_connection_loses_no_order(
    shop: Shop, broker_url: str
) -> None:
    """RabbitMQ closes every connection, and the virtual host starts anew from its disk; for Redis see the next test."""
    listener = Listener(broker_url, "payment.*")
    with announcing(broker_url) as announce:
        recorder = Recorder(shop.store, shop.policy, shop.rung.extend, announce)
        payment = sent(shop)
        recorder.record(payment, AnswerWindowPassed())
        if broker_url.startswith("amqp"):
            host = broker_url.rpartition("/")[2]
            wait_for(listener.waiting)
            assert "counterfoil\ttopic\ttrue" in rabbitmqctl("list_exchanges", "-p", host, "name", "type", "durable")
            rabbitmqctl("close_all_connections", "--vhost", host, "test")
            rabbitmqctl("restart_vhost", "-p", host)
        recorder.record(payment, approved(digest=secrets.token_hex(32)))
        listener.listen_for(2)

    assert listener.keys == ["payment.unknown", "payment.confirmed"]


@contextmanager
def own_redis(folder: Path) -> Iterator[Callable[[], None]]:
    """A Redis that a test may kill and start anew; it keeps an append-only file, as the product asks for."""
    program = shutil.which("valkey-server") or shutil.which("redis-server")
    if program is None:
        pytest.skip("no valkey-server or redis-server to kill; install one")
    arguments = ["--port", "0", "--unixsocket", str(folder / "s"), "--dir", str(folder), "--appendonly", "yes"]
    running: list[subprocess.Popen[bytes]] = []

    def restart() -> None:
        for process in running:
            process.kill()
            process.wait()
        running[:] = [subprocess.Popen([program, *arguments, "--appendfsync", "always"], stdout=subprocess.DEVNULL)]

    restart()
    try:
        yield restart
    finally:
        running[0].kill()
        running[0].wait()


def test_what_was_announced_outlives_a_killed_redis_and_announcing_goes_on(shop: Shop) -> None:
    with tempfile.TemporaryDirectory(prefix="cf-") as name, own_redis(Path(name)) as restart:
        url = f"redis+socket://{name}/s"
        wait_for((Path(name) / "s").exists)
        listener = Listener(url, "payment.*")
        with announcing(url) as announce:
            recorder = Recorder(shop.store, shop.policy, shop.rung.extend, announce)
            payment = sent(shop)
            recorder.record(payment, AnswerWindowPassed())
            wait_for(listener.waiting)
            restart()
            recorder.record(payment, approved(digest=secrets.token_hex(32)))
            listener.listen_for(2)

    assert listener.keys == ["payment.unknown", "payment.confirmed"]


def test_the_consumer_in_the_docs_hears(shop: Shop, broker_url: str) -> None:
    source = re.findall(r"```python\n(import sys.*?)```", (ROOT / "docs" / "events.md").read_text(), re.DOTALL)[0]
    listener = [sys.executable, "-c", source, broker_url]
    with (
        subprocess.Popen(listener, stdout=subprocess.PIPE, text=True) as process,
        announcing(broker_url) as announce,
        Connection(broker_url) as connection,
    ):
        channel = connection.channel()
        wait_for(lambda: _is_bound(channel, "my-service"))
        payment = sent(shop)
        Recorder(shop.store, shop.policy, shop.rung.extend, announce).record(payment, AnswerWindowPassed())
        assert process.stdout is not None
        said = process.stdout.readline()
        process.kill()
    assert said == f"payment.unknown {payment} {shop.row(payment)['sequence']}\n"


def _is_bound(channel: Any, queue: str) -> bool:
    if hasattr(channel, "get_table"):
        return any(bound == queue for _, _, bound in channel.get_table("counterfoil"))
    host = channel.connection.client.virtual_host
    return f"counterfoil\t{queue}" in rabbitmqctl("list_bindings", "-p", host, "source_name", "destination_name")


# -- the product's own processes ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def product(
    broker_url: str, postgres_url: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Product]:
    folder = tmp_path_factory.mktemp("product")
    with fresh_redis(redis_url) as results:
        more = {"COUNTERFOIL_RESULT_BACKEND": results}
        with product_on(postgres_url, broker_url, folder, more) as opened:
            opened.client.close()
            opened.client = Celery("a-backend", broker=broker_url, backend=results, set_as_current=False)
            opened.processes.start("worker", "worker")
            opened.processes.start("beat", "beat")
            yield opened


@pytest.mark.slow
def test_a_worker_announces_each_state_of_a_payment(product: Product) -> None:
    listener = Listener(product.broker_url, "payment.*")
    submission = product.submission(product.terminal())

    product.enqueue(submission)
    assert product.outcome(submission["reference"]) == "approved"
    listener.listen_for(2)

    assert listener.keys == ["payment.pending", "payment.confirmed"]
    assert [body["data"]["reference"] for _, body in listener.heard] == [submission["reference"]] * 2
    assert listener.heard[1][1]["data"]["charged"] is True


@pytest.mark.slow
def test_a_task_returns_the_payment_or_its_refusal_where_a_result_backend_is_set(product: Product) -> None:
    submission = product.submission(product.terminal())

    def returned(body: dict[str, Any]) -> Any:
        result = product.client.send_task("tasks.payments.submit", kwargs={"submission": body}, queue="payments")
        return result.get(timeout=30)

    accepted = returned(submission)
    refused = returned({**submission, "idempotency_key": "other", "amount": {"currency": "EUR", "value": -5}})

    (row,) = product.sql("SELECT id FROM payments WHERE reference = %s", submission["reference"])
    assert accepted == {"id": str(row["id"]), "state": "pending"}
    assert (refused["rejected"], refused["field"]) == ("invalid-field", "amount.value")
