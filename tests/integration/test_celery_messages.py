"""What a worker takes from a broker: anybody's submissions; and what it does with everything that is none."""

import pickle
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest
import redis
from kombu import Connection, Queue

from tests.integration.celery_support import Product, product_on, virtual_host, wait_for
from tests.services import client_url

pytestmark = [pytest.mark.integration, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
SECRET = "a-word-that-no-log-may-hold"


@pytest.fixture(scope="module", params=["redis", "rabbitmq"])
def product(
    request: pytest.FixtureRequest, postgres_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Product]:
    """One worker and one beat on each broker."""
    folder = tmp_path_factory.mktemp("product")
    if request.param == "redis":
        from tests.services import fresh_redis

        broker = fresh_redis(request.getfixturevalue("redis_url"))
    else:
        broker = virtual_host(request.getfixturevalue("rabbitmq_url"))
    with broker as broker_url, product_on(postgres_url, broker_url, folder) as opened:
        opened.processes.start("worker", "worker")
        opened.processes.start("beat", "beat")
        yield opened


def publish(product: Product, body: Any, **options: Any) -> None:
    """Put a message of this body into the queue that takes submissions, past every client."""
    with product.client.connection_for_write() as connection:
        producer = connection.Producer()
        producer.publish(body, routing_key="payments", declare=[Queue("payments")], retry=False, **options)


def headers(task: Any = "tasks.payments.submit", **more: Any) -> dict[str, Any]:
    return {"lang": "py", "task": task, "id": "3b3f2bd2-5b0e-4f2e-9d3e-8f6d1c6f7a01", **more}


def test_a_submission_from_a_plain_celery_client_becomes_a_payment(product: Product) -> None:
    submission = product.submission(product.terminal(), metadata={"till_note": SECRET})

    product.enqueue(submission)
    product.enqueue(submission)

    assert product.outcome(submission["reference"]) == "approved"
    assert len(product.sql("SELECT 1 FROM payments WHERE reference = %s", submission["reference"])) == 1
    assert len(product.simulator.ledger("request", reference=submission["reference"])) <= 1


def test_a_refusal_is_kept_and_is_no_traceback(product: Product) -> None:
    submission = product.submission(product.terminal(), amount={"currency": "EUR", "value": -5})

    product.enqueue(submission)

    [kept] = wait_for(lambda: product.sql("SELECT * FROM rejections WHERE reference = %s", submission["reference"]))
    assert (kept["problem"], kept["field"]) == ("invalid-field", "amount.value")
    assert product.sql("SELECT 1 FROM payments WHERE reference = %s", submission["reference"]) == []


@pytest.mark.parametrize("submission", [SECRET, 5, None, [SECRET], {SECRET: SECRET}, {"reference": [SECRET]}])
def test_what_is_no_submission_is_refused_by_our_own_words(product: Product, submission: Any) -> None:
    kept = len(product.sql("SELECT 1 FROM rejections"))

    product.enqueue(submission)

    wait_for(lambda: len(product.sql("SELECT 1 FROM rejections")) > kept)


POISON: dict[str, dict[str, Any]] = {
    "an unknown task": {"body": [[], {"note": SECRET}, {}], "headers": headers("tasks.payments.refund_everything")},
    "a task whose name is no text": {"body": [[], {}, {}], "headers": headers([SECRET])},
    "arguments that the task does not take": {"body": [[], {SECRET: 1}, {}], "headers": headers()},
    "too many arguments": {"body": [[1, 2, 3, SECRET], {}, {}], "headers": headers()},
    "arguments that are none": {"body": [SECRET, SECRET, {}], "headers": headers()},
    "a body that is a number": {"body": 5, "headers": headers()},
    "a body that is a text": {"body": SECRET, "headers": headers()},
    "a body of two": {"body": [[], {"submission": SECRET}], "headers": headers()},
    "a body that is not JSON": {
        "body": b"{" + SECRET.encode(), "headers": headers(), "content_type": "application/json",
        "content_encoding": "utf-8",
    },
    "a body that is not UTF-8": {
        "body": b'["\xff\xfe"]', "headers": headers(), "content_type": "application/json", "content_encoding": "utf-8",
    },
    "nested too deep": {
        "body": b"[" * 50_000 + b"]" * 50_000, "headers": headers(), "content_type": "application/json",
        "content_encoding": "utf-8",
    },
    "a pickle": {
        "body": pickle.dumps([[], {"submission": SECRET}, {}]), "headers": headers(),
        "content_type": "application/x-python-serialize", "content_encoding": "binary",
    },
    "an encoding that does not exist": {
        "body": b"[]", "headers": headers(), "content_type": "application/json", "content_encoding": "klingon",
    },
    "huge": {"body": [[], {"submission": {"reference": SECRET * 200_000}}, {}], "headers": headers()},
    "no headers": {"body": [[], {"submission": SECRET}, {}]},
    "no id": {"body": [[], {"submission": SECRET}, {}], "headers": {"task": "tasks.payments.submit"}},
    "a time limit that is none": {"body": [[], {"submission": {}}, {}], "headers": headers(timelimit=5)},
    "an expiry that is none": {"body": [[], {"submission": {}}, {}], "headers": headers(expires=SECRET)},
    "an eta that is none": {"body": [[], {"submission": {}}, {}], "headers": headers(eta=SECRET)},
    "the older protocol, with nonsense in it": {
        "body": {"task": "tasks.payments.submit", "id": "x", "args": 5, "kwargs": SECRET},
    },
}  # fmt: skip


@pytest.mark.parametrize("poison", POISON.values(), ids=POISON)
def test_a_poison_message_is_rejected_logged_without_its_payload_and_blocks_nothing(
    product: Product, poison: dict[str, Any]
) -> None:
    """More of them than a worker has threads: one that was held instead of rejected would stop it."""
    before = len(product.lines("worker", "poison_message"))

    for _ in range(6):
        publish(product, **poison)
    submission = product.submission(product.terminal())
    product.enqueue(submission)

    assert product.outcome(submission["reference"]) == "approved"
    wait_for(lambda: len(product.lines("worker", "poison_message")) >= before + 6)
    assert SECRET not in product.log("worker")
    worker = product.processes.running["worker"]
    assert worker.poll() is None


@pytest.mark.parametrize("envelope", [SECRET.encode(), b"\xff\xfe", b"[]", b"null", b"{}", b"[" * 100_000])
def test_what_is_not_even_an_envelope_ends_no_worker(product: Product, envelope: bytes) -> None:
    """Redis alone: on RabbitMQ the envelope is the broker's."""
    if not product.broker_url.startswith("redis"):
        return
    before = len(product.lines("worker", "poison_message"))

    with redis.Redis.from_url(client_url(product.broker_url)) as client:
        client.lpush("payments", envelope)
    submission = product.submission(product.terminal())
    product.enqueue(submission)

    assert product.outcome(submission["reference"]) == "approved"
    wait_for(lambda: len(product.lines("worker", "poison_message")) > before)
    assert SECRET not in product.log("worker")
    worker = product.processes.running["worker"]
    assert worker.poll() is None


def test_the_older_protocol_is_understood(product: Product) -> None:
    submission = product.submission(product.terminal())

    publish(product, {"task": "tasks.payments.submit", "id": "x", "args": [], "kwargs": {"submission": submission}})

    assert product.outcome(submission["reference"]) == "approved"


@pytest.mark.parametrize(
    ("asked_by", "named"), [("till 4", "till 4"), ("", "task"), ({"a": 1}, "task"), ("x" * 5000, "x" * 120)]
)
def test_whoever_asks_for_an_abort_by_task_is_named_in_few_words(product: Product, asked_by: Any, named: str) -> None:
    submission = product.submission(product.terminal())
    product.enqueue(submission)
    assert product.outcome(submission["reference"]) == "approved"
    (payment,) = product.sql("SELECT id FROM payments WHERE reference = %s", submission["reference"])

    asked = {"payment_id": str(payment["id"]), "asked_by": asked_by}
    product.client.send_task("tasks.payments.abort", kwargs=asked, queue="payments")

    lines = "SELECT detail FROM journal_details WHERE payment_id = %s AND detail ? 'asked_by'"
    assert wait_for(lambda: product.sql(lines, payment["id"]))[0]["detail"] == {"asked_by": named}


def test_nothing_of_a_submission_is_in_the_log_but_its_reference(product: Product) -> None:
    submission = product.submission(product.terminal(), metadata={"note": SECRET})
    product.enqueue(submission, kwargsrepr=f"{{'submission': '{SECRET}'}}", argsrepr=SECRET)

    assert product.outcome(submission["reference"]) == "approved"
    assert SECRET not in product.log("worker")
    assert SECRET not in product.log("beat")


def test_one_worker_serves_every_queue_and_one_beat_makes_the_sweep_run(product: Product) -> None:
    """A submission whose ring was lost is found by the sweep, which came through the queue of timers."""
    submission = product.submission(product.terminal(), reference="silent-" + SECRET[:6])
    product.simulator.post_scenario("silent", reference=submission["reference"])
    product.enqueue(submission)

    wait_for(
        lambda: product.sql(
            "SELECT 1 FROM payments WHERE reference = %s AND state <> 'pending'", submission["reference"]
        )
    )


def make_careful(connection: Connection) -> Connection:
    """What the worker does to its connections; importing ``tasks`` would wire a whole worker."""
    spec = spec_from_file_location("channel", ROOT / "tasks" / "channel.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    careful: Connection = module.make_careful(connection)
    return careful


@pytest.mark.parametrize("answer", ["ack", "reject", "requeue"])
def test_a_message_whose_connection_was_lost_can_be_answered(redis_url: str, answer: str) -> None:
    """By a task that ended when its worker had connected anew: the broker gives the message out again anyway."""
    from tests.services import fresh_redis

    with fresh_redis(redis_url) as broker_url:
        connection = make_careful(Connection(broker_url))
        connection.Producer().publish({"n": 1}, routing_key="payments", declare=[Queue("payments")], serializer="json")
        message = connection.default_channel.basic_get("payments")
        message.channel._disconnect_pools()  # what is left of a channel that was closed while its broker was away
        message.channel.connection.client = None

        getattr(message, answer)()
        assert message.acknowledged
        message.channel.connection.client = connection  # the library's exit handlers want it
        connection.close()
