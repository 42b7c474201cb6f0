"""The caller hears of every outcome and every correction, at least once, in order; and nobody else suffers for it."""

import secrets
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from uuid import UUID

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from orchestrator.commands import CommandKind
from orchestrator.errors import InvalidSubmission, StoreUnavailable
from orchestrator.evidence import AnswerWindowPassed, NotDelivered
from orchestrator.intake import Intake
from orchestrator.policy import CALLBACK_LEASE_S, Policy
from orchestrator.store.tellings import Telling, TellingStore
from orchestrator.submissions import submit_by_task
from orchestrator.views import payment_json, rejection_json
from tests.factories import authorisation, failed
from tests.integration.callback_support import (
    Heard,
    Receiver,
    last_attempt_is_next,
    let_time_pass,
    new_secret,
    tell_command,
    teller,
    tellings,
)
from tests.integration.servers import shop as shop  # noqa: PLC0414  # a fixture
from tests.integration.store_support import MERCHANT, Shop, all_at_once

pytestmark = pytest.mark.integration

SECRET = new_secret()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver(SECRET) as listening:
        yield listening


def sent(shop: Shop, url: str) -> UUID:
    """A payment on the wire whose caller listens at ``url``."""
    payment = shop.pay(shop.terminal(), callback_url=url)
    shop.send(payment)
    return payment


def lost_then_found(shop: Shop, url: str) -> UUID:
    """A payment with two things to tell: unknown, then approved."""
    payment = sent(shop, url)
    shop.recorder.record(payment, AnswerWindowPassed())
    shop.approve(payment)
    return payment


def counting(name: str, real: Callable[..., Any], run: list[str]) -> Callable[..., Any]:
    """The same method, noted in ``run`` each time."""

    def method(*arguments: Any) -> Any:
        run.append(name)
        return real(*arguments)

    return method


def is_settled(shop: Shop, payment: UUID) -> bool:
    return CommandKind.TELL_CALLER.value not in shop.kinds(payment)


# --- what is told -----------------------------------------------------------------------------------------------------


def test_an_outcome_is_told_with_a_signature_that_the_public_package_verifies(shop: Shop, receiver: Receiver) -> None:
    payment = sent(shop, receiver.url)
    shop.approve(payment)

    teller(shop, SECRET).tell(tell_command(shop, payment))

    (heard,) = receiver.heard
    assert heard.type == "payment.confirmed"
    assert heard.body["data"] == payment_json(shop.row(payment))
    assert heard.body["data"]["charged"] is True
    assert heard.body["timestamp"] == heard.body["data"]["concluded_at"]
    assert is_settled(shop, payment)


def test_every_configured_secret_signs_and_the_current_one_is_first(shop: Shop) -> None:
    old = new_secret()
    with Receiver(SECRET) as current, Receiver(old) as behind:
        for receiver in (current, behind):
            payment = sent(shop, receiver.url)
            shop.approve(payment)
            teller(shop, SECRET, old).tell(tell_command(shop, payment))
    (heard,) = behind.heard
    assert len(current.heard) == 1

    first, _second = heard.headers["webhook-signature"].split(" ")
    only_first = heard.headers | {"webhook-signature": first}
    assert Webhook(SECRET).verify(heard.raw, only_first) == heard.body
    with pytest.raises(WebhookVerificationError):
        Webhook(old).verify(heard.raw, only_first)


def test_a_correction_is_told_after_what_it_corrects(shop: Shop, receiver: Receiver) -> None:
    payment = sent(shop, receiver.url)
    shop.recorder.record(payment, NotDelivered(why="connect-failed"))
    shop.approve(payment)

    teller(shop, SECRET).tell(tell_command(shop, payment))

    told = [heard.body["data"] for heard in receiver.heard]
    assert [(data["outcome"], data["late"]) for data in told] == [("not_performed", False), ("approved", True)]
    assert told[0]["sequence"] < told[1]["sequence"]


def test_a_contradiction_takes_back_what_was_told(shop: Shop, receiver: Receiver) -> None:
    payment = sent(shop, receiver.url)
    shop.approve(payment)
    shop.recorder.record(payment, failed("Refusal", digest=secrets.token_hex(32)))

    teller(shop, SECRET).tell(tell_command(shop, payment))

    assert [heard.type for heard in receiver.heard] == ["payment.confirmed", "payment.unknown"]
    assert receiver.heard[1].body["data"]["charged"] is None


def test_an_outcome_that_the_books_merely_confirm_is_not_told_again(shop: Shop, receiver: Receiver) -> None:
    payment = sent(shop, receiver.url)
    shop.approve(payment)
    row = shop.row(payment)
    shop.recorder.record(payment, authorisation(psp_reference=row["psp_reference"], amount=None))

    assert shop.row(payment)["state"] == "reconciled"
    assert [telling["type"] for telling in tellings(shop, payment)] == ["payment.confirmed"]


def test_what_is_told_is_the_payment_as_it_was_then(shop: Shop, receiver: Receiver) -> None:
    payment = sent(shop, receiver.url)
    shop.recorder.record(payment, AnswerWindowPassed())
    unknown = payment_json(shop.row(payment))
    shop.approve(payment)
    confirmed = payment_json(shop.row(payment))

    teller(shop, SECRET).tell(tell_command(shop, payment))

    assert [heard.body["data"] for heard in receiver.heard] == [unknown, confirmed]


def test_without_a_url_nothing_is_written_and_with_one_no_statement_is_added(
    shop: Shop, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent, told = shop.pay(shop.terminal()), sent(shop, receiver.url)
    shop.send(silent)
    run: list[str] = []
    for name in ("one", "all", "run", "last_of"):
        real = getattr(shop.database, name)
        monkeypatch.setattr(shop.database, name, counting(name, real, run))

    shop.approve(silent)
    without = list(run)
    run.clear()
    shop.approve(told)

    assert run == without == ["one", "all"]
    assert tellings(shop, silent) == []
    assert is_settled(shop, silent)
    assert len(tellings(shop, told)) == 1


def test_a_refused_submission_that_came_by_task_is_told(shop: Shop, receiver: Receiver) -> None:
    intake = Intake(shop.store, shop.rung.extend, "Till4", receiver.url)
    key = secrets.token_hex(8)
    shop.rung.clear()
    wrong = {"reference": key, "poi_id": "V400m-1", "amount": {"currency": "EUR", "value": -1}}

    submit_by_task(intake, shop.store, {**wrong, "merchant_account": MERCHANT, "idempotency_key": key})
    (ring,) = shop.rung
    teller(shop, SECRET).tell(ring.command_id)

    (heard,) = receiver.heard
    (row,) = shop.sql("SELECT * FROM rejections WHERE idempotency_key = %s", key)
    assert heard.type == "payment.rejected"
    assert heard.body["data"] == {**rejection_json(row), "merchant_account": MERCHANT}
    assert shop.sql("SELECT id FROM commands WHERE id = %s", ring.command_id) == []


def test_a_refusal_is_rung_by_the_sweep_when_the_first_ring_was_lost(shop: Shop, receiver: Receiver) -> None:
    intake = Intake(shop.store, lambda _rings: None, "Till4", receiver.url)
    submit_by_task(intake, shop.store, {"merchant_account": MERCHANT, "idempotency_key": secrets.token_hex(8)})
    shop.sql("UPDATE commands SET ring_at = now() WHERE telling_id IS NOT NULL")

    rings = [ring for ring in shop.store.ring_due() if ring.payment_id is None]
    for ring in rings:
        teller(shop, SECRET).tell(ring.command_id)

    assert [heard.type for heard in receiver.heard] == ["payment.rejected"]


@pytest.mark.parametrize(
    ("schemes", "says"), [((), "COUNTERFOIL_CALLBACK_SECRETS"), (("https://",), "must begin with https://")]
)
def test_a_url_that_could_never_be_told_is_refused_with_the_submission(
    shop: Shop, receiver: Receiver, schemes: tuple[str, ...], says: str
) -> None:
    intake = replace(shop.intake, callback_schemes=schemes)
    body = {"reference": secrets.token_hex(8), "poi_id": shop.terminal(), "amount": {"currency": "EUR", "value": 1}}
    envelope = {"merchant_account": MERCHANT, "idempotency_key": secrets.token_hex(8)}

    with pytest.raises(InvalidSubmission, match=says) as refused:
        intake.submit({**body, "callback_url": receiver.url}, envelope)

    assert refused.value.field == "callback_url"
    assert intake.submit(body, envelope).created


# --- when it is told --------------------------------------------------------------------------------------------------


def test_a_receiver_that_is_down_then_up_hears_everything_in_order(shop: Shop, receiver: Receiver) -> None:
    payment = lost_then_found(shop, receiver.url)
    command = tell_command(shop, payment)
    receiver.answer = lambda _heard: 503
    teller(shop, SECRET).tell(command)
    let_time_pass(shop, payment)
    teller(shop, SECRET).tell(command)
    assert {heard.type for heard in receiver.heard} == {"payment.unknown"}

    receiver.answer = lambda _heard: 200
    let_time_pass(shop, payment)
    teller(shop, SECRET).tell(command)

    assert [heard.type for heard in receiver.heard[2:]] == ["payment.unknown", "payment.confirmed"]
    assert len({heard.id for heard in receiver.heard}) == 2
    assert is_settled(shop, payment)


def test_a_failed_delivery_is_tried_again_after_the_planned_wait_and_not_before(shop: Shop, receiver: Receiver) -> None:
    payment = sent(shop, receiver.url)
    shop.approve(payment)
    receiver.answer = lambda _heard: 500

    for _ in range(3):
        teller(shop, SECRET).tell(tell_command(shop, payment))

    assert len(receiver.heard) == 1
    (row,) = shop.sql(
        "SELECT extract(epoch FROM t.next_at - now()) AS wait_s, t.last_status,"
        " c.ring_at = t.next_at AND c.due_at = t.next_at AS same, t.last_error"
        " FROM tellings t JOIN commands c USING (payment_id)"
        " WHERE payment_id = %s AND kind = 'tell_caller'",
        payment,
    )
    assert 3 < row["wait_s"] <= 5
    assert row["same"]
    assert (row["last_status"], row["last_error"]) == (500, "not_accepted")


def test_the_plan_is_the_documented_one_and_then_a_telling_is_parked_with_an_alarm_and_the_next_goes_on(
    shop: Shop, receiver: Receiver
) -> None:
    payment = lost_then_found(shop, receiver.url)
    receiver.answer = lambda heard: 500 if heard.type == "payment.unknown" else 200
    waits, patient = [], teller(shop, SECRET)
    while not tellings(shop, payment)[0]["parked_at"]:
        before = len(receiver.heard)
        patient.tell(tell_command(shop, payment))
        assert len(receiver.heard) == before + 1
        (row,) = shop.sql("SELECT round(extract(epoch FROM ring_at - now())) AS s FROM commands WHERE payment_id = %s"
                          " AND kind = 'tell_caller'", payment)  # fmt: skip
        waits.append(int(row["s"]))
        let_time_pass(shop, payment)

    assert waits == [5, 60, 300, 300, *[600] * 5, *[3600] * 5, *[21600] * 3, 0]
    teller(shop, SECRET).tell(tell_command(shop, payment))
    assert receiver.heard[-1].type == "payment.confirmed"
    assert is_settled(shop, payment)
    (alarm,) = shop.sql("SELECT name, sequence FROM alarms WHERE payment_id = %s", payment)
    assert alarm == {"name": "callback_parked", "sequence": tellings(shop, payment)[0]["sequence"]}


def test_a_parked_telling_is_told_again_on_demand_under_its_own_id_and_its_alarm_is_closed(
    shop: Shop, receiver: Receiver
) -> None:
    payment = sent(shop, receiver.url)
    shop.approve(payment)
    receiver.answer = lambda _heard: 410
    last_attempt_is_next(shop, payment)
    teller(shop, SECRET).tell(tell_command(shop, payment))
    assert tellings(shop, payment)[0]["parked_at"]
    assert is_settled(shop, payment)

    receiver.answer = lambda _heard: 200
    store = TellingStore(shop.database)
    assert store.redeliver(tellings(shop, payment)[0]["id"], "AnotherMerchant") is None
    ring = store.redeliver(tellings(shop, payment)[0]["id"], MERCHANT)
    assert ring
    teller(shop, SECRET).tell(ring.command_id)

    assert len({heard.id for heard in receiver.heard}) == 1
    assert tellings(shop, payment)[0]["delivered_at"]
    (alarm,) = shop.sql("SELECT closed_at FROM alarms WHERE payment_id = %s", payment)
    assert alarm["closed_at"] is not None


@dataclass(frozen=True, slots=True)
class DiesAfterDelivery(TellingStore):
    """A worker that is gone before it could note what it did."""

    def delivered(self, command_id: int, telling: Telling, status: int | None) -> bool:
        raise StoreUnavailable


def test_a_crash_between_delivery_and_bookkeeping_delivers_again_under_the_same_id(
    shop: Shop, receiver: Receiver
) -> None:
    payment = sent(shop, receiver.url)
    shop.approve(payment)
    command = tell_command(shop, payment)
    with pytest.raises(StoreUnavailable):
        teller(shop, SECRET, store=DiesAfterDelivery(shop.database)).tell(command)

    teller(shop, SECRET).tell(command)
    assert len(receiver.heard) == 1  # the lease still holds
    (row,) = shop.sql("SELECT extract(epoch FROM ring_at - now()) AS s FROM commands WHERE id = %s", command)
    assert 0 < row["s"] <= CALLBACK_LEASE_S
    let_time_pass(shop, payment)
    teller(shop, SECRET).tell(command)

    first, again = receiver.heard
    assert first.id == again.id
    assert first.body == again.body
    assert is_settled(shop, payment)


def test_workers_that_are_rung_for_the_same_payment_tell_each_event_once_and_in_order(
    shop: Shop, receiver: Receiver
) -> None:
    payment = lost_then_found(shop, receiver.url)
    command = tell_command(shop, payment)

    def slowly(_heard: Heard) -> int:
        time.sleep(0.2)
        return 200

    receiver.answer = slowly

    all_at_once(*[lambda: teller(shop, SECRET).tell(command)] * 6)

    assert [heard.type for heard in receiver.heard] == ["payment.unknown", "payment.confirmed"]
    assert is_settled(shop, payment)


def test_what_is_decided_while_another_telling_is_settled_is_never_stranded(shop: Shop, receiver: Receiver) -> None:
    telling = teller(shop, SECRET)

    def tell_while_there_is_something(payment: UUID, done: threading.Event) -> None:
        while not done.is_set():
            for row in shop.sql("SELECT id FROM commands WHERE payment_id = %s AND kind = 'tell_caller'", payment):
                telling.tell(row["id"])

    def history(payment: UUID, done: threading.Event) -> None:
        shop.recorder.record(payment, AnswerWindowPassed())
        shop.approve(payment)
        shop.recorder.record(payment, failed("Refusal", digest=secrets.token_hex(32)))
        done.set()

    for _ in range(8):
        payment, done = sent(shop, receiver.url), threading.Event()
        all_at_once(
            partial(tell_while_there_is_something, payment, done),
            partial(tell_while_there_is_something, payment, done),
            partial(history, payment, done),
        )
        left = [row for row in tellings(shop, payment) if not row["delivered_at"]]
        assert not left or not is_settled(shop, payment)
        if left:
            let_time_pass(shop, payment)
            telling.tell(tell_command(shop, payment))
        told = [heard.sequence for heard in receiver.heard if heard.body["data"]["id"] == str(payment)]
        assert sorted(set(told)) == [row["sequence"] for row in tellings(shop, payment)]
        assert len(told) == 3


def test_a_receiver_that_hangs_does_not_keep_another_from_being_told(shop: Shop, receiver: Receiver) -> None:
    let_go = threading.Event()
    with Receiver(SECRET) as hanging:
        hanging.answer = lambda _heard: 200 if let_go.wait(9) else 500
        url = hanging.url.replace("127.0.0.1", "localhost")
        slow = [sent(shop, url) for _ in range(3)]
        for payment in slow:
            shop.approve(payment)
        quick = sent(shop, receiver.url)
        shop.approve(quick)
        one = teller(shop, SECRET, threads=8)  # two lanes for each receiver
        threads = [
            threading.Thread(target=one.tell, args=(tell_command(shop, payment),), daemon=True) for payment in slow[:2]
        ]
        for thread in threads:
            thread.start()
        until(lambda: len(hanging.heard) == 2)

        began_s = time.monotonic()
        one.tell(tell_command(shop, slow[2]))  # no lane: it comes back at once, and is tried later
        one.tell(tell_command(shop, quick))

        assert time.monotonic() - began_s < 3
        assert [heard.type for heard in receiver.heard] == ["payment.confirmed"]
        assert (len(hanging.heard), tellings(shop, slow[2])[0]["attempts"]) == (2, 0)
        let_go.set()
        for thread in threads:
            thread.join(5)
        let_time_pass(shop, slow[2])
        one.tell(tell_command(shop, slow[2]))
        assert [row["delivered_at"] is not None for payment in slow for row in tellings(shop, payment)] == [True] * 3


def until(condition: Any, within_s: float = 5.0) -> None:
    give_up_at_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < give_up_at_s, "did not happen in time"
        time.sleep(0.01)


def test_the_retries_last_for_a_day_and_the_scale_divides_them() -> None:
    assert len(Policy().tell_again_s) == 17
    assert sum(Policy().tell_again_s) > 24 * 3600 - 2 * 3600
    assert Policy.scaled(50).tell_again_s[0] == 0.1
