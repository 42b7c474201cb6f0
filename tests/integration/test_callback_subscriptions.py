"""Callbacks by subscription: each kind verifies with the public package, and what is not subscribed to is not sent."""

import json
import secrets
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID

import pytest

from orchestrator.caller import Caller
from orchestrator.evidence import AnswerWindowPassed
from orchestrator.intake import Intake
from orchestrator.policy import Policy
from orchestrator.receive import Receiver as Notifications
from orchestrator.record import Recorder
from orchestrator.refund_record import RefundRecorder
from orchestrator.store.live import LiveStore
from orchestrator.store.reconciliation import RunStore
from orchestrator.store.refunds import RefundStore
from orchestrator.store.store import Store
from orchestrator.store.tellings import TellingStore
from orchestrator.store.words import RunState
from orchestrator.submissions import submit_by_task
from orchestrator.subscription import Subscription
from orchestrator.tell import Lanes, Teller
from orchestrator.views import payment_json
from tests.factories import approved, authorisation
from tests.integration.callback_support import Receiver, new_secret, tell_command, teller, tellings
from tests.integration.live_support import display
from tests.integration.refund_support import RefundDesk, unreached
from tests.integration.store_support import MERCHANT, Shop, shop_in

pytestmark = pytest.mark.integration

SECRET = new_secret()


@pytest.fixture(scope="module")
def shop(postgres_url: str) -> Iterator[Shop]:
    with shop_in(postgres_url) as opened:
        yield opened


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver(SECRET) as listening:
        yield listening


def recorder(shop: Shop, *patterns: str) -> Recorder:
    """The one path, where callbacks are sent for these."""
    return Recorder(Store(shop.database, Subscription(patterns)), shop.policy, shop.rung.extend)


def sent(shop: Shop, url: str) -> UUID:
    payment = shop.pay(shop.terminal(), callback_url=url)
    shop.send(payment)
    return payment


def agreed(shop: Shop, payment: UUID, record: Recorder) -> None:
    """Its terminal approved it, and the books say so too."""
    record.record(payment, approved(digest=secrets.token_hex(32)))
    record.record(payment, authorisation(psp_reference=shop.row(payment)["psp_reference"], amount=None))
    assert shop.row(payment)["state"] == "reconciled"


# -- payments and refunds ----------------------------------------------------------------------------------------------


def test_agreement_of_the_books_is_told_where_it_is_named(shop: Shop, receiver: Receiver) -> None:
    payment = sent(shop, receiver.url)
    agreed(shop, payment, recorder(shop, "payment.*", "payment.reconciled"))

    teller(shop, SECRET).tell(tell_command(shop, payment))

    assert [heard.type for heard in receiver.heard] == ["payment.confirmed", "payment.reconciled"]
    assert receiver.heard[1].body["data"] == payment_json(shop.row(payment))


def test_agreement_of_many_at_once_is_told_where_it_is_named(shop: Shop, receiver: Receiver) -> None:
    named, unnamed = recorder(shop, "payment.reconciled"), recorder(shop, "payment.*")
    payments = [sent(shop, receiver.url) for _ in range(4)]
    evidence = {}
    for payment in payments:
        shop.recorder.record(payment, approved(digest=secrets.token_hex(32)))
        books = authorisation(psp_reference=shop.row(payment)["psp_reference"], amount=None)
        evidence[payment] = replace(books, digest=secrets.token_hex(32))

    named.record_many({payment: evidence[payment] for payment in payments[:2]})
    unnamed.record_many({payment: evidence[payment] for payment in payments[2:]})

    told = [[telling["type"] for telling in tellings(shop, payment)] for payment in payments]
    assert told == [["payment.confirmed", "payment.reconciled"]] * 2 + [["payment.confirmed"]] * 2
    assert {shop.row(payment)["state"] for payment in payments} == {"reconciled"}


def test_what_is_not_subscribed_to_is_neither_written_nor_in_the_way(shop: Shop, receiver: Receiver) -> None:
    payment = sent(shop, receiver.url)
    record = recorder(shop, "payment.confirmed")
    record.record(payment, AnswerWindowPassed())
    assert (tellings(shop, payment), "tell_caller" in shop.kinds(payment)) == ([], False)
    record.record(payment, approved(digest=secrets.token_hex(32)))

    teller(shop, SECRET).tell(tell_command(shop, payment))

    assert [heard.type for heard in receiver.heard] == ["payment.confirmed"]


@pytest.mark.parametrize(("patterns", "told"), [(("refund.*",), ["refund.confirmed"]), (("payment.*",), [])])
def test_refunds_are_told_where_they_are_subscribed_to(
    shop: Shop, receiver: Receiver, patterns: tuple[str, ...], told: list[str]
) -> None:
    desk = RefundDesk(shop)
    desk.store = RefundStore(shop.database, Subscription(patterns))
    desk.recorder = RefundRecorder(desk.store, shop.policy, shop.rung.extend)
    desk.performer = replace(desk.performer, store=desk.store, recorder=desk.recorder)
    desk.wire.answer = unreached
    refund = desk.sent(desk.charged(callback_url=receiver.url))

    for row in shop.sql("SELECT id FROM commands WHERE refund_id = %s AND kind = 'tell_caller'", refund):
        teller(shop, SECRET).tell(row["id"])

    assert [heard.type for heard in receiver.heard] == told
    assert [heard.body["data"]["id"] for heard in receiver.heard] == [str(refund)] * len(told)


@pytest.mark.parametrize(("patterns", "told"), [(("payment.*",), ["payment.rejected"]), (("payment.confirmed",), [])])
def test_a_refusal_is_told_where_it_is_subscribed_to_and_kept_anyway(
    shop: Shop, receiver: Receiver, patterns: tuple[str, ...], told: list[str]
) -> None:
    rung: list[Any] = []
    store = Store(shop.database, Subscription(patterns))
    intake, key = Intake(store, rung.extend, "Till4", receiver.url), secrets.token_hex(8)
    submit_by_task(intake, store, {"merchant_account": MERCHANT, "idempotency_key": key})
    for ring in rung:
        teller(shop, SECRET).tell(ring.command_id)

    assert [heard.type for heard in receiver.heard] == told
    assert len(shop.sql("SELECT 1 FROM rejections WHERE idempotency_key = %s", key)) == 1


def test_the_end_of_a_reconciliation_run_is_told(shop: Shop, receiver: Receiver) -> None:
    runs = RunStore(shop.database)
    run = runs.ask(f"Shop{secrets.token_hex(4)}", date(2026, 1, 1), date(2026, 1, 1), "test")
    (ring,) = runs.finish(run["id"], RunState.DONE, summary={}, callback_url=receiver.url, told={"id": str(run["id"])})

    teller(shop, SECRET).tell(ring.command_id)

    (heard,) = receiver.heard
    assert (heard.type, heard.body["data"]) == ("reconciliation.completed", {"id": str(run["id"])})


# -- display texts -----------------------------------------------------------------------------------------------------


def shows(poi_id: str, live: LiveStore, service_id: str | None = None, payment: UUID | None = None) -> int | None:
    """A terminal shows that a card was inserted; the command of the telling, rung."""
    row = live.keep(
        "display", "CARD_INSERTED", {}, poi_id=poi_id, sale_id=None, service_id=service_id, trouble=None,
        tells_trouble=True, alarm=None,
    )  # fmt: skip
    assert row is not None
    assert row["payment_id"] == payment
    command: int | None = row["command_id"]
    return command


def test_a_display_text_is_told_to_the_payments_caller_or_to_the_setting(shop: Shop, receiver: Receiver) -> None:
    with Receiver(SECRET) as general:
        live = LiveStore(shop.database, general.url, tells=True)
        payment, idle = sent(shop, receiver.url), shop.terminal()
        row = shop.row(payment)
        of_payment = shows(row["poi_id"], live, row["service_id"], payment)
        of_terminal = shows(idle, live)
        assert of_payment is not None
        assert of_terminal is not None
        teller(shop, SECRET).tell(of_payment)
        teller(shop, SECRET).tell(of_terminal)

        (heard,), (other,) = receiver.heard, general.heard
    assert (heard.type, other.type) == ("terminal.display", "terminal.display")
    data = heard.body["data"]
    assert (data["poi_id"], data["payment_id"], data["name"]) == (row["poi_id"], str(payment), "CARD_INSERTED")
    assert (data["merchant_account"], data["at"]) == (MERCHANT, heard.body["timestamp"])
    assert data["text"]
    assert (other.body["data"]["poi_id"], other.body["data"]["payment_id"]) == (idle, None)


def test_a_display_text_is_told_to_nobody_by_default_nor_where_nobody_has_a_url(shop: Shop, receiver: Receiver) -> None:
    payment = sent(shop, receiver.url)
    row = shop.row(payment)
    assert shows(row["poi_id"], LiveStore(shop.database, receiver.url), row["service_id"], payment) is None
    assert shows(shop.terminal(), LiveStore(shop.database, tells=True)) is None


def test_a_display_text_that_does_not_arrive_is_given_up_soon_without_an_alarm_and_delays_no_outcome(
    shop: Shop, receiver: Receiver
) -> None:
    payment = sent(shop, receiver.url)
    row = shop.row(payment)
    command = shows(row["poi_id"], LiveStore(shop.database, tells=True), row["service_id"], payment)
    assert command is not None
    receiver.answer = lambda _heard: 500
    alarms = len(shop.sql("SELECT 1 FROM alarms"))
    teller(shop, SECRET).tell(command)
    (telling,) = shop.sql("SELECT * FROM tellings WHERE id = (SELECT telling_id FROM commands WHERE id = %s)", command)
    assert 0 < (telling["next_at"] - datetime.now(UTC)).total_seconds() <= 5

    receiver.answer = lambda heard: 200 if heard.type != "terminal.display" else 500
    shop.approve(payment)
    teller(shop, SECRET).tell(tell_command(shop, payment))
    shop.sql("UPDATE tellings SET next_at = now() WHERE id = %s", telling["id"])
    teller(shop, SECRET).tell(command)

    assert [heard.type for heard in receiver.heard] == ["terminal.display", "payment.confirmed", "terminal.display"]
    (parked,) = shop.sql("SELECT parked_at FROM tellings WHERE id = %s", telling["id"])
    assert parked["parked_at"]
    assert len(shop.sql("SELECT 1 FROM alarms")) == alarms
    assert shop.sql("SELECT 1 FROM commands WHERE id = %s", command) == []


def test_a_pushed_display_text_is_rung_and_announced(shop: Shop, receiver: Receiver) -> None:
    announced: list[tuple[str, Any]] = []
    record = replace(shop.recorder, announce=lambda type_, _at, data: announced.append((type_, data())))
    notifications = Notifications(shop.store, record, list, LiveStore(shop.database, receiver.url, tells=True))
    poi_id = shop.terminal()
    shop.rung.clear()

    notifications.receive(json.dumps(display(poi_id, "CARD_INSERTED")).encode())
    (ring,) = shop.rung
    teller(shop, SECRET).tell(ring.command_id)

    (heard,) = receiver.heard
    assert announced == [("terminal.display", heard.body["data"])]


# -- an hour -----------------------------------------------------------------------------------------------------------

SCALE = 1200.0  # an hour is three seconds
HOUR_S = 3600 / SCALE


@pytest.mark.slow
def test_a_receiver_that_is_down_for_an_hour_gets_everything_in_order_when_it_is_back(
    shop: Shop, receiver: Receiver
) -> None:
    """With an hour's payments; one telling is tried at least once an hour by then."""
    caller = Caller([SECRET], allow_private=True, https_only=False)
    telling = Teller(TellingStore(shop.database), caller.post, Policy.scaled(SCALE), Lanes(32))
    down, over = threading.Event(), threading.Event()
    down.set()
    receiver.answer = lambda _heard: 503 if down.is_set() else 200

    def work() -> None:
        while not over.is_set():
            for ring in shop.store.ring_due():
                telling.tell(ring.command_id)
            time.sleep(0.02)

    workers = [threading.Thread(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    try:
        began_s = time.monotonic()
        payments = [sent(shop, receiver.url) for _ in range(25)]
        for payment in payments:
            shop.recorder.record(payment, AnswerWindowPassed())
            shop.approve(payment)
        time.sleep(max(0.0, HOUR_S - (time.monotonic() - began_s)))
        down.clear()
        give_up_at_s = time.monotonic() + 30
        while any(not row["delivered_at"] for payment in payments for row in tellings(shop, payment)):
            assert time.monotonic() < give_up_at_s
            time.sleep(0.1)
    finally:
        over.set()
        for worker in workers:
            worker.join(20)

    delivered: dict[str, list[str]] = {}
    for heard in receiver.heard:
        told = delivered.setdefault(heard.body["data"]["id"], [])
        if not told or told[-1] != heard.type:
            told.append(heard.type)
    assert delivered == {str(payment): ["payment.unknown", "payment.confirmed"] for payment in payments}
    assert not any(row["parked_at"] for payment in payments for row in tellings(shop, payment))
