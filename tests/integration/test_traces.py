"""One trace from the caller's request to the callback: over processes, over the wait, and over a worker's restart."""

import secrets
import threading
from collections.abc import Iterator

import pytest
from celery import Celery

from orchestrator import tracing
from tests.integration.celery_support import wait_for
from tests.integration.traces_support import (
    API_KEY,
    MERCHANT,
    PASSWORD,
    Receiver,
    Traced,
    new_secret,
    traced_product,
    traceparent,
)
from tests.services import fresh_redis

pytestmark = [pytest.mark.integration, pytest.mark.slow]

#: The kinds of spans, by their numbers in OTLP.
INTERNAL, SERVER, CLIENT, CONSUMER = 1, 2, 3, 5


@pytest.fixture(scope="module")
def caller() -> Iterator[Receiver]:
    with Receiver(new_secret()) as opened:
        yield opened


@pytest.fixture(scope="module")
def product(
    postgres_url: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory, caller: Receiver
) -> Iterator[Traced]:
    with (
        fresh_redis(redis_url) as broker_url,
        traced_product(postgres_url, broker_url, tmp_path_factory.mktemp("traces"), caller) as opened,
    ):
        yield opened


def test_an_approved_payment_is_one_trace_from_the_callers_span_to_the_callback(
    product: Traced, caller: Receiver
) -> None:
    trace_id, span_id, header = traceparent()
    payment = product.pay("approve", traceparent=header)
    told = product.collector.one(trace_id, "callback payment.confirmed")
    accepted = product.collector.one(trace_id, "POST /v1/payments")
    send = product.collector.one(trace_id, "send")
    request = product.collector.one(trace_id, "terminal async")
    wait = product.collector.one(trace_id, "wait for an answer")
    notification = product.collector.one(trace_id, "notification")

    assert (accepted.parent_id, accepted.kind, accepted.service) == (span_id, SERVER, "counterfoil-api")
    assert (send.parent_id, send.kind, send.service) == (accepted.span_id, CONSUMER, "counterfoil-worker")
    assert (request.parent_id, request.kind) == (send.span_id, CLIENT)
    assert (notification.parent_id, notification.service) == (accepted.span_id, "counterfoil-api")
    assert (wait.parent_id, wait.kind) == (accepted.span_id, INTERNAL)
    assert (told.parent_id, told.kind, told.service) == (accepted.span_id, CLIENT, "counterfoil-worker")
    assert notification.attributes["counterfoil.outcome"] == "approved"
    for span in (accepted, send, wait, notification, told):
        assert span.attributes["counterfoil.payment.id"] == payment["id"]
        assert span.attributes["counterfoil.reference"] == payment["reference"]
        assert span.attributes["counterfoil.poi_id"] == payment["poi_id"]
    [heard] = [each for each in caller.heard if each.body["data"]["id"] == payment["id"]]
    assert heard.headers["traceparent"] == f"00-{trace_id}-{told.span_id}-01"


def test_a_lost_answer_is_settled_by_a_status_check_in_the_same_trace_after_the_wait(product: Traced) -> None:
    trace_id, _, header = traceparent()
    payment = product.pay("silent", traceparent=header)
    told = product.collector.one(trace_id, "callback payment.confirmed")
    accepted = product.collector.one(trace_id, "POST /v1/payments")
    passed = product.collector.one(trace_id, "expect_answer")
    check = product.collector.named(trace_id, "check_status")[-1]
    wait = product.collector.one(trace_id, "wait for an answer")
    asked = product.collector.named(trace_id, "terminal sync")[-1]

    assert {span.parent_id for span in (passed, check, wait, told)} == {accepted.span_id}
    assert asked.parent_id == check.span_id
    assert passed.attributes["counterfoil.state"] == "unknown"
    assert check.attributes["counterfoil.outcome"] == "approved"
    assert wait.lasted_s >= 150 / 50
    assert product.read(payment)["outcome"] == "approved"


def test_a_worker_that_was_killed_and_started_again_goes_on_with_the_trace(product: Traced) -> None:
    trace_id, _, header = traceparent()
    product.pay("silent", traceparent=header)
    product.collector.one(trace_id, "send")

    product.processes.kill("worker")
    product.processes.start("worker", "worker")
    told = product.collector.one(trace_id, "callback payment.confirmed")

    accepted = product.collector.one(trace_id, "POST /v1/payments")
    assert told.parent_id == accepted.span_id
    assert {span.parent_id for span in product.collector.named(trace_id, "check_status")} == {accepted.span_id}


def test_a_submission_by_task_goes_on_with_the_trace_of_its_message(product: Traced) -> None:
    trace_id, span_id, header = traceparent()
    product.enqueue(
        product.body("approve") | {"merchant_account": MERCHANT, "idempotency_key": trace_id}, traceparent=header
    )

    told = product.collector.one(trace_id, "callback payment.confirmed")
    taken = product.collector.one(trace_id, "tasks.payments.submit")
    assert (taken.parent_id, taken.kind) == (span_id, CONSUMER)
    assert told.parent_id == taken.span_id


def test_a_refund_is_a_trace_of_its_own_request(product: Traced) -> None:
    _, _, header = traceparent()
    payment = product.pay("approve", traceparent=header)
    wait_for(lambda: product.read(payment)["outcome"])
    trace_id, span_id, header = traceparent()
    answer = product.http.post(
        f"/v1/payments/{payment['id']}/refunds",
        json={"reference": f"{payment['reference']}-refund-done", "amount": payment["amount"]},
        headers={"traceparent": header, "idempotency-key": trace_id},
    )
    assert answer.status_code == 201, answer.text

    sent = product.collector.one(trace_id, "send_refund")
    accepted = product.collector.one(trace_id, "POST /v1/payments/{payment_id}/refunds")
    assert (accepted.parent_id, sent.parent_id) == (span_id, accepted.span_id)
    assert sent.attributes["counterfoil.refund.id"] == answer.json()["id"]
    assert sent.attributes["counterfoil.payment.id"] == payment["id"]


def test_what_a_person_asks_for_later_is_in_the_payments_trace_and_linked_to_their_own(product: Traced) -> None:
    trace_id, _, header = traceparent()
    payment = product.pay("abortable", traceparent=header)
    product.collector.one(trace_id, "send")
    other_id, _, other = traceparent()
    product.http.post(f"/v1/payments/{payment['id']}/abort", json={}, headers={"traceparent": other})

    asked = product.collector.one(trace_id, "evidence abort_asked")
    assert asked.links == (other_id,)
    assert product.collector.one(other_id, "POST /v1/payments/{payment_id}/abort").attributes[
        "http.response.status_code"
    ] == 202  # fmt: skip


def test_a_caller_that_does_not_sample_is_not_sampled(product: Traced) -> None:
    trace_id, span_id, _ = traceparent()
    payment = product.pay("approve", traceparent=f"00-{trace_id}-{span_id}-00")
    wait_for(lambda: product.read(payment)["outcome"])
    later_id, _, header = traceparent()
    product.pay("approve", traceparent=header)
    product.collector.one(later_id, "callback payment.confirmed")

    assert product.collector.of(trace_id) == []


@pytest.mark.parametrize("header", ["", "nonsense", "00-" + "0" * 32 + "-" + "1" * 16 + "-01", "ff-" + "1" * 52])
def test_a_header_that_is_no_trace_context_begins_a_new_trace(product: Traced, header: str) -> None:
    payment = product.pay("approve", traceparent=header)

    def found() -> list[str]:
        mine = [s for s in product.collector.spans if s.attributes.get("counterfoil.payment.id") == payment["id"]]
        return [span.parent_id for span in mine if span.name == "POST /v1/payments"]

    assert wait_for(found) == [""]


def test_spans_say_what_is_listed_and_nothing_else(product: Traced, caller: Receiver) -> None:
    """Runs after the others: looks at everything that they had sent."""
    spans = list(product.collector.spans)
    assert len(spans) > 30
    listed = set(tracing.ATTRIBUTES.values())
    assert {name for span in spans for name in span.attributes} <= listed
    assert not [span for span in spans if span.says_more]
    everything = b"".join(product.collector.raw)
    for canary in (API_KEY, PASSWORD, caller.secret, product.key, "SaleToPOI", "counterfoil_tag"):
        assert canary.encode() not in everything, canary


# -- logs --------------------------------------------------------------------------------------------------------------


def test_the_lines_of_a_payment_name_it_its_request_and_its_tasks_in_both_processes(product: Traced) -> None:
    trace_id, _, header = traceparent()
    payment = product.pay("approve", traceparent=header, **{"x-request-id": f"till-4/{trace_id}"})
    product.collector.one(trace_id, "callback payment.confirmed")
    mine = [line for line in product.lines("api") if line.get("payment") == payment["id"]]

    assert [line["action"] for line in mine] == ["accepted", "decided"]
    accepted, decided = mine
    assert accepted["request"] == f"till-4/{trace_id}"
    assert decided["request"] != accepted["request"]
    for line in mine:
        assert (line["reference"], line["terminal"], line["trace"]) == (
            payment["reference"],
            payment["poi_id"],
            trace_id,
        )


def test_the_lines_of_a_task_name_the_task_and_the_payment(product: Traced) -> None:
    payment = product.pay("silent")
    wait_for(lambda: product.read(payment)["outcome"])
    mine = [line for line in product.lines("worker") if line.get("payment") == payment["id"]]

    assert [line["event"] for line in mine] == ["window_passed", "charged"]
    passed, checked = mine
    assert (passed["task_name"], passed["command"]) == ("tasks.timers.sweep", "expect_answer")
    assert (checked["task_name"], checked["command"]) == ("tasks.status.check", "check_status")
    assert passed["task"] != checked["task"]
    assert {line["terminal"] for line in mine} == {payment["poi_id"]}


def test_what_celery_says_of_a_task_that_failed_names_the_task(product: Traced) -> None:
    with Celery("somebody-elses", broker=product.broker_url, set_as_current=False) as client:
        sent = client.send_task("tasks.payments.abort", kwargs={"payment_id": "no-id"}, queue="payments")
    lines = wait_for(lambda: [line for line in product.lines("worker") if line.get("task") == sent.id])

    assert [(line["level"], line["task_name"]) for line in lines] == [("error", "tasks.payments.abort")]
    assert "Traceback" in lines[0]["exception"]


def test_the_id_of_a_request_is_answered_back_or_made(product: Traced) -> None:
    answers = [product.http.get("/v1/payments", headers={"x-request-id": asked}) for asked in ("a-1", "a b", "x" * 101)]
    ids = [answer.headers["x-request-id"] for answer in answers]

    assert ids[0] == "a-1"
    assert all(len(made) == 16 and made not in {"a b", "x" * 101} for made in ids[1:])
    assert product.http.get("/nowhere").headers["x-request-id"]


def test_many_requests_at_once_keep_their_ids_apart(product: Traced) -> None:
    payments: dict[str, str] = {}

    def pay(name: str) -> None:
        payments[name] = product.pay("decline", **{"x-request-id": name})["id"]

    threads = [threading.Thread(target=pay, args=(f"till-{secrets.token_urlsafe(4)}",)) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    said = {line["payment"]: line["request"] for line in product.lines("api") if line["action"] == "accepted"}
    assert {payment: said[payment] for payment in payments.values()} == {
        payment: name for name, payment in payments.items()
    }
