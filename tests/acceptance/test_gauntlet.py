"""Payments under load while everything is killed, stopped and cut: not one second request, not one lost."""

import json
from pathlib import Path

import pytest
from celery import Celery

from gauntlet.options import Plan
from gauntlet.report import table
from gauntlet.run import run, verdict
from gauntlet.settle import open_work
from gauntlet.stack import Stack

pytestmark = [pytest.mark.acceptance, pytest.mark.slow, pytest.mark.timeout(300)]


def survive(plan: Plan, folder: Path) -> None:
    """Make the run; the assertion shows the summary when a promise was broken."""
    run(plan, folder, print)
    figures, violations = verdict(folder)
    assert not violations, table(figures, violations)
    # Not more: while a killed simulator starts, or a broker is away, nothing reaches a terminal. On a busy machine
    # that takes seconds, and the load goes on.
    assert figures["requests"] > 0.5 * plan.payments, "most of the payments must have reached the terminals"


def test_kills_on_redis_cost_no_payment_and_double_none(tmp_path: Path, postgres_url: str) -> None:
    survive(Plan(seed=11, kills=12, stops=2, kill_simulator=True, postgres_url=postgres_url), tmp_path)

    ledger = tmp_path / "ledger.jsonl"
    doctored = [line for line in ledger.read_text().splitlines() if '"kind":"charge"' not in line]
    ledger.write_text("\n".join(doctored) + "\n")
    assert verdict(tmp_path)[0]["violations"]["disagrees"], "a judge that overlooks a missing charge proves nothing"


def test_kills_on_rabbitmq_cost_no_payment_and_double_none(
    tmp_path: Path, postgres_url: str, rabbitmq_url: str
) -> None:
    plan = Plan(seed=12, broker="rabbitmq", kills=12, stops=2, postgres_url=postgres_url, rabbitmq_url=rabbitmq_url)
    survive(plan, tmp_path)


@pytest.mark.parametrize("broker", ["redis", "rabbitmq"])
def test_a_broker_that_is_away_makes_payments_late_and_loses_none(
    tmp_path: Path, postgres_url: str, request: pytest.FixtureRequest, broker: str
) -> None:
    rabbitmq_url = request.getfixturevalue("rabbitmq_url") if broker == "rabbitmq" else ""
    plan = Plan(
        payments=150, seed=13, broker=broker, kills=2, stops=0, broker_outage_s=10.0, postgres_url=postgres_url,
        rabbitmq_url=rabbitmq_url,
    )  # fmt: skip
    survive(plan, tmp_path)


def test_a_database_that_restarts_loses_nothing_that_was_accepted(tmp_path: Path) -> None:
    survive(Plan(payments=150, seed=14, rate=10.0, kills=0, stops=1, postgres_restarts=2), tmp_path)


@pytest.mark.parametrize("is_pushed", [True, False], ids=["then pushed", "then asked for"])
def test_a_worker_killed_in_the_middle_of_a_send_leaves_one_request_and_an_outcome(
    tmp_path: Path, postgres_url: str, *, is_pushed: bool
) -> None:
    plan = Plan(workers=1, apis=1, beats=1, terminals=1, mix="clean", postgres_url=postgres_url)
    with Stack(plan, tmp_path) as stack, stack.client() as api:
        # The cloud takes the request and sits on its answer: the worker is killed while it waits for it.
        stack.simulator.post_faults(delay_s=5.0, lose_notifications=not is_pushed)
        body = {"reference": "till-7-slow", "poi_id": stack.terminals[0], "amount": {"currency": "EUR", "value": 1050}}
        created = api.post("/v1/payments", json=body, headers={"idempotency-key": "once"})
        stack.simulator.wait_for(lambda lines: any(line["kind"] == "request" for line in lines))
        stack.kill("worker1")
        stack.simulator.post_faults(lose_notifications=not is_pushed)
        stack.start("worker1")

        url = f"/v1/payments/{created.json()['id']}"
        stack.wait_until(lambda: api.get(url).json()["outcome"] is not None)

        payment = api.get(url).json()
        assert (payment["outcome"], payment["authorised_amount"]) == ("approved", body["amount"])
        assert len(stack.simulator.ledger("request", category="Payment")) == 1
        assert len(stack.simulator.ledger("charge")) == 1
        journal = [line["evidence"] for line in api.get(f"{url}/journal").json()["data"]]
        assert ("answer_window_passed" in journal) is not is_pushed


def test_a_worker_with_messages_in_hand_outlives_a_broker_that_goes_away(tmp_path: Path, postgres_url: str) -> None:
    plan = Plan(workers=2, apis=1, beats=1, terminals=20, mix="clean", postgres_url=postgres_url)
    with Stack(plan, tmp_path) as stack, stack.client() as api:
        stack.wait_until(lambda: consuming(stack) == 2)  # or one may take it all before the other has started
        stack.simulator.post_faults(delay_s=4.0)  # each send holds its message so long
        for number, poi_id in enumerate(stack.terminals):
            body = {"reference": f"r{number}", "poi_id": poi_id, "amount": {"currency": "EUR", "value": 1050}}
            assert api.post("/v1/payments", json=body, headers={"idempotency-key": f"k{number}"}).status_code == 201
        stack.simulator.wait_for(
            lambda lines: sum(line["kind"] == "request" for line in lines) > len(stack.terminals) / 2
        )
        stack.stop_broker()
        stack.simulator.post_faults()
        stack.wait_until(lambda: all("lost" in stack.log(name) for name in ("worker1", "worker2")))
        stack.start_broker()

        stack.wait_until(lambda: not open_work(stack))
        assert not [name for name in stack.names if "Unrecoverable" in stack.log(name)]
        assert len(stack.simulator.ledger("request", category="Payment")) == len(stack.terminals)


def consuming(stack: Stack) -> int:
    """The workers that answer a ping."""
    with Celery("a-caller", broker=stack.broker_url, set_as_current=False) as caller:
        return len(caller.control.ping(timeout=1.0))


def test_a_run_is_the_same_for_the_same_seed() -> None:
    from gauntlet.faults import planned
    from gauntlet.load import orders

    plan, names = Plan(seed=5, kills=8), ["api1", "worker1", "worker2", "beat1"]
    first = json.dumps([repr(orders(plan, ["T-1", "T-2"])), repr(planned(plan, names))])
    assert first == json.dumps([repr(orders(plan, ["T-1", "T-2"])), repr(planned(plan, names))])
    assert repr(planned(plan, names)) != repr(planned(Plan(seed=6, kills=8), names))
