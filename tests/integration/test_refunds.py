"""Refunds on a real database: sent at most once, never more than was charged, and ended by the books."""

import secrets
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from orchestrator.bell import message_of
from orchestrator.commands import CommandKind
from orchestrator.errors import (
    AlreadyCharged,
    IdempotencyConflict,
    InvalidSubmission,
    NotCharged,
    RefundExceedsPayment,
    SubmissionRejected,
    UnknownPayment,
    UnknownTerminal,
    UnreferencedRefundsOff,
)
from orchestrator.evidence import BooksEntry, BooksReported, SendStarted
from orchestrator.model import Money, Transport
from orchestrator.refunding.intake import RefundIntake
from orchestrator.refunds.evidence import RefundEntry
from orchestrator.store.chain import verify_chain
from orchestrator.store.refund_chain import verify_refunds
from orchestrator.store.refunds import RefundFilter
from orchestrator.store.rows import detail_parameters
from orchestrator.store.statements import CLAIM
from orchestrator.store.tellings import TellingStore
from orchestrator.store.terminals import TerminalStore
from orchestrator.terminal_api.money import from_major
from orchestrator.wire import Failure
from tests.integration.refund_support import (
    RefundDesk,
    failed,
    lost,
    paid_out,
    received,
    repeated,
    unknown,
    unreached,
)
from tests.integration.store_support import MERCHANT, Shop, all_at_once, shop_in

pytestmark = pytest.mark.integration

CHECK, EXPECT = CommandKind.CHECK_REFUND, CommandKind.EXPECT_REFUND
EARLIER, LATER = "2025-03-15T06:00:00.000000Z", "2025-03-18T06:00:00.000000Z"


@pytest.fixture(scope="module")
def shop(postgres_url: str) -> Iterator[Shop]:
    with shop_in(postgres_url) as opened:
        yield opened


@pytest.fixture
def desk(shop: Shop) -> Iterator[RefundDesk]:
    """After each test every journal still explains its row."""
    opened = RefundDesk(shop)
    yield opened
    assert {str(refund): problems for refund, problems in verify_refunds(shop.database) if problems} == {}


def body_of(desk: RefundDesk) -> dict[str, Any]:
    (message,) = desk.wire.sent
    found: dict[str, Any] = message["SaleToPOIRequest"]
    return found


def refused(kind: type[SubmissionRejected], intake: RefundIntake, payment: UUID, minor: int, **body: Any) -> str:
    wanted = {"reference": "BACK-1", "amount": {"currency": "EUR", "value": minor}} | body
    envelope = {"merchant_account": MERCHANT, "idempotency_key": secrets.token_hex(8)}
    with pytest.raises(kind) as error:
        intake.refund(payment, wanted, envelope, "key 1")
    return str(error.value)


# --- a good day -------------------------------------------------------------------------------------------------------


def test_a_refund_is_sent_received_and_ended_by_the_books(shop: Shop, desk: RefundDesk) -> None:
    payment = desk.charged()
    refund = desk.sent(payment, reference="BACK-42")

    assert desk.state(refund) == ("pending", None, "received")
    assert desk.kinds(refund) == {"expect_refund"}
    desk.book(refund, RefundEntry.REFUNDED, EARLIER, amount=Money("EUR", 450))
    assert desk.state(refund) == ("reconciled", "refunded", None)
    assert shop.row(payment)["refunded_minor"] == 450
    assert (shop.row(payment)["state"], shop.row(payment)["outcome"]) == ("confirmed", "approved"), "as it was"
    assert desk.kinds(refund) == set()


def test_the_request_names_the_payment_verbatim_and_the_refund_by_its_own_reference(desk: RefundDesk) -> None:
    payment = desk.charged()
    refund = desk.sent(payment, reference="BACK-43")

    request = body_of(desk)
    reversal = request["ReversalRequest"]
    assert reversal["OriginalPOITransaction"]["POITransactionID"] == {
        "TransactionID": "BV5k001741942800003.QXB7P4NDM6TGHZ82",
        "TimeStamp": "2025-03-14T09:00:12.000Z",
    }
    assert reversal["SaleData"]["SaleTransactionID"]["TransactionID"] == "BACK-43"
    assert from_major(str(reversal["ReversedAmount"]), "EUR") == Money("EUR", 450)
    assert request["MessageHeader"]["ServiceID"] == desk.row(refund)["service_id"]


def test_the_first_refund_of_everything_names_no_amount_and_a_later_one_does(desk: RefundDesk) -> None:
    desk.sent(desk.charged(), 1099)
    assert "ReversedAmount" not in body_of(desk)["ReversalRequest"]

    desk.wire.sent.clear()
    payment = desk.charged()
    desk.store.made_elsewhere(payment, "ELSEWHERE-1", 99)
    desk.sent(payment, 1000)
    assert "ReversedAmount" in body_of(desk)["ReversalRequest"]


def test_a_refund_goes_over_any_terminal_of_the_merchant(shop: Shop, desk: RefundDesk) -> None:
    other = shop.terminal()
    desk.sent(desk.charged(), poi_id=other)

    assert [route.poi_id for route in desk.wire.routes] == [other]
    assert body_of(desk)["MessageHeader"]["POIID"] == other


# --- what may be refunded ---------------------------------------------------------------------------------------------


def test_what_is_not_known_to_be_charged_is_not_paid_back(shop: Shop, desk: RefundDesk) -> None:
    payment = shop.pay(shop.terminal())
    refused(NotCharged, desk.intake, payment, 100)
    shop.claim(payment)
    refused(NotCharged, desk.intake, payment, 100)


def test_another_merchants_payment_does_not_exist(desk: RefundDesk) -> None:
    payment = desk.charged()
    envelope = {"merchant_account": "HillsideBooks", "idempotency_key": "k"}
    with pytest.raises(UnknownPayment):
        desk.intake.refund(payment, {"reference": "R", "amount": {"currency": "EUR", "value": 1}}, envelope, "key 1")
    refused(UnknownPayment, desk.intake, uuid4(), 100)


def test_another_currency_or_an_unknown_terminal_is_refused_by_its_field(desk: RefundDesk) -> None:
    payment = desk.charged()
    refused(InvalidSubmission, desk.intake, payment, 100, amount={"currency": "USD", "value": 100})
    refused(UnknownTerminal, desk.intake, payment, 100, poi_id="V400m-000000000")
    text = refused(InvalidSubmission, desk.intake, payment, 100, amount={"currency": "EUR", "value": -5})
    assert "amount.value" in text
    assert "-5" not in text


def test_several_refunds_never_sum_up_to_more_than_was_charged(desk: RefundDesk) -> None:
    payment = desk.charged()
    desk.refund(payment, 500)
    desk.refund(payment, 500)

    assert "0.99 EUR is left" in refused(RefundExceedsPayment, desk.intake, payment, 100)
    desk.refund(payment, 99)
    assert "0.00 EUR is left" in refused(RefundExceedsPayment, desk.intake, payment, 1)


def test_refunds_that_race_never_sum_up_to_more_than_was_charged(shop: Shop, desk: RefundDesk) -> None:
    payment = desk.charged()

    def one() -> bool:
        try:
            desk.refund(payment, 400)
        except RefundExceedsPayment:
            return False
        return True

    assert sum(all_at_once(*[one] * 12)) == 2
    sums = shop.sql("SELECT sum(amount_minor) AS minor FROM refunds WHERE payment_id = %s", payment)
    assert sums[0]["minor"] == 800


def test_a_refund_that_failed_leaves_its_amount_to_be_refunded(desk: RefundDesk) -> None:
    payment = desk.charged()
    desk.wire.answer = unreached
    desk.sent(payment, 1099)

    desk.wire.answer = received
    again = desk.sent(payment, 1099)
    desk.book(again, RefundEntry.REFUNDED, EARLIER)
    refused(RefundExceedsPayment, desk.intake, payment, 1)
    desk.book(again, RefundEntry.FAILED, LATER)
    desk.refund(payment, 1099)


def test_what_was_made_elsewhere_counts_once_and_no_more_when_it_fails(shop: Shop, desk: RefundDesk) -> None:
    payment = desk.charged()
    for _ in range(3):
        desk.store.made_elsewhere(payment, "ELSEWHERE-1", 1000, effective_at=EARLIER)

    refused(RefundExceedsPayment, desk.intake, payment, 100)
    desk.store.made_elsewhere(payment, "ELSEWHERE-1", 1000, paid_back=False, effective_at=LATER)
    desk.store.made_elsewhere(payment, "ELSEWHERE-1", 1000, effective_at=EARLIER)  # comes late, and is older
    assert shop.row(payment)["refunded_minor"] == 0
    desk.refund(payment, 1099)


def test_what_was_paid_back_elsewhere_meanwhile_is_not_paid_back_again(shop: Shop, desk: RefundDesk) -> None:
    payment = desk.charged()
    refund = desk.refund(payment, 1000)
    desk.store.made_elsewhere(payment, "ELSE1", 600)
    desk.perform(refund)
    assert desk.wire.sent == []

    desk.store.made_elsewhere(payment, "ELSE1", 600, paid_back=False)
    desk.perform(refund)
    assert len(desk.wire.sent) == 1


def test_the_same_key_and_body_is_the_same_refund_and_another_body_a_conflict(desk: RefundDesk) -> None:
    payment, key = desk.charged(), secrets.token_hex(8)
    first = desk.refund(payment, 300, key, reference="BACK-7")

    assert desk.refund(payment, 300, key, reference="BACK-7") == first
    with pytest.raises(IdempotencyConflict):
        desk.refund(payment, 301, key, reference="BACK-7")
    with pytest.raises(IdempotencyConflict):
        desk.refund(desk.charged(), 300, key, reference="BACK-7")


def test_one_key_that_comes_many_times_at_once_is_one_refund(desk: RefundDesk) -> None:
    payment, key = desk.charged(), secrets.token_hex(8)

    ids = all_at_once(*[lambda: desk.refund(payment, 1099, key, reference="BACK-8")] * 8)

    assert len(set(ids)) == 1


def test_a_sale_may_be_paid_again_once_it_was_paid_back_whole(shop: Shop, desk: RefundDesk) -> None:
    poi_id, sale = shop.terminal(), secrets.token_hex(6)
    payment = desk.charged(poi_id, reference=sale)

    def pay_again() -> UUID:
        body = {"reference": sale, "poi_id": poi_id, "amount": {"currency": "EUR", "value": 1099}}
        envelope = {"merchant_account": MERCHANT, "idempotency_key": secrets.token_hex(8)}
        return UUID(str(shop.intake.submit(body, envelope).row["id"]))

    with pytest.raises(AlreadyCharged):
        pay_again()
    partly = desk.sent(payment, 1000)
    desk.book(partly, RefundEntry.REFUNDED, EARLIER)
    with pytest.raises(AlreadyCharged):
        pay_again()
    rest = desk.sent(payment, 99)
    with pytest.raises(AlreadyCharged):
        pay_again()  # received, but not yet paid out
    desk.book(rest, RefundEntry.REFUNDED, EARLIER)
    pay_again()


# --- sent at most once ------------------------------------------------------------------------------------------------


def test_many_workers_on_one_command_send_one_request(desk: RefundDesk) -> None:
    refund = desk.refund(desk.charged())
    command = desk.command(refund)

    all_at_once(*[lambda: desk.performer.perform(command)] * 10)

    assert desk.wire.sent_ids() == [desk.row(refund)["service_id"]]
    assert desk.state(refund) == ("pending", None, "received")


def test_a_worker_that_dies_after_its_claim_is_a_lost_answer_and_never_a_second_request(desk: RefundDesk) -> None:
    refund = desk.refund(desk.charged())
    assert desk.store.claim(desk.command(refund), uuid4(), 150.0)  # and here it dies

    assert desk.kinds(refund) == {"expect_refund"}
    desk.perform(refund, EXPECT)
    assert desk.state(refund) == ("unknown", None, "no_answer")
    desk.wire.status = repeated
    desk.perform(refund, CHECK)
    assert desk.wire.sent == []
    assert desk.state(refund) == ("pending", None, "received")


def test_a_lost_answer_is_asked_about_at_once(desk: RefundDesk) -> None:
    desk.wire.answer, desk.wire.status = lost, repeated
    refund = desk.sent(desk.charged())
    assert desk.state(refund) == ("pending", None, None)

    desk.perform(refund, CHECK)

    assert len(desk.wire.sent) == len(desk.wire.asked) == 1
    reference = desk.wire.asked[0]["SaleToPOIRequest"]["TransactionStatusRequest"]["MessageReference"]
    assert reference["MessageCategory"] == "Reversal"
    assert desk.state(refund) == ("pending", None, "received")


def test_a_terminal_that_never_got_it_is_believed_the_second_time(shop: Shop, desk: RefundDesk) -> None:
    desk.wire.answer, desk.wire.status = lost, unknown
    refund = desk.sent(desk.charged())
    desk.perform(refund, EXPECT)
    desk.perform(refund, CHECK)
    assert desk.state(refund) == ("unknown", None, "no_answer")

    # Half a minute passes. The journal knows when it was said, so the claim of the fence is made on the row alone.
    due = shop.sql("SELECT due_at - now() AS wait FROM commands WHERE refund_id = %s AND kind = 'check_refund'", refund)
    assert 29 < due[0]["wait"].total_seconds() < 31


def test_a_refund_that_could_not_be_delivered_failed(desk: RefundDesk) -> None:
    desk.wire.answer = unreached
    refund = desk.sent(desk.charged())

    assert desk.state(refund) == ("confirmed", "failed", "not_delivered")


def test_whoever_is_not_the_terminal_gets_no_refund_and_somebody_hears_of_it(shop: Shop, desk: RefundDesk) -> None:
    desk.wire.answer = lambda _: Failure("certificate-name", delivered=False)
    refund = desk.sent(desk.charged())

    assert desk.state(refund) == ("confirmed", "failed", "not_delivered")
    assert [row["name"] for row in shop.sql("SELECT name FROM alarms WHERE refund_id = %s", refund)] == [
        "wrong_terminal"
    ]


@pytest.mark.parametrize(
    ("condition", "outcome", "reason"),
    [
        ("NotFound", "declined", "unknown_original"),
        ("NotAllowed", "declined", "not_allowed"),
        ("Busy", "failed", "terminal_busy"),
        ("DeviceOut", "failed", "terminal_unavailable"),
    ],
)
def test_a_failure_ends_it(desk: RefundDesk, condition: str, outcome: str, reason: str) -> None:
    desk.wire.answer = failed(condition)
    refund = desk.sent(desk.charged())

    assert desk.state(refund) == ("confirmed", outcome, reason)


def test_what_was_not_sent_in_time_failed_and_is_never_sent(shop: Shop, desk: RefundDesk) -> None:
    refund = desk.refund(desk.charged())
    shop.sql("UPDATE refunds SET send_by = now() - interval '1 second' WHERE id = %s", refund)
    desk.perform(refund)
    assert desk.wire.sent == []
    desk.perform(refund, EXPECT)

    assert desk.state(refund) == ("confirmed", "failed", "expired")
    assert desk.kinds(refund) == set()


def test_a_held_terminal_takes_no_refund_until_it_is_let_go(shop: Shop, desk: RefundDesk) -> None:
    poi_id = shop.terminal()
    refund = desk.refund(desk.charged(poi_id))
    terminals = TerminalStore(shop.database)
    terminals.hold(poi_id, "mira", "a new printer roll")
    desk.perform(refund)
    assert desk.wire.sent == []

    terminals.release(poi_id)
    desk.perform(refund)
    assert len(desk.wire.sent) == 1


def test_a_refund_waits_for_no_payment_and_no_payment_for_it(shop: Shop, desk: RefundDesk) -> None:
    poi_id = shop.terminal()
    charged = desk.charged(poi_id)
    running, queued = shop.pay(poi_id), shop.pay(poi_id)
    assert shop.claim(running)

    desk.wire.answer = lost
    refund = desk.sent(charged)

    assert len(desk.wire.sent) == 1, "while another payment runs and one waits"
    shop.approve(running)
    assert shop.claim(queued), "while nobody knows what became of the refund"
    assert desk.row(refund)["holds_terminal"] is None


# --- a payment that the terminal never named --------------------------------------------------------------------------


def charged_by_the_books(shop: Shop, desk: RefundDesk) -> UUID:
    payment = shop.pay(shop.terminal())
    assert shop.claim(payment)
    shop.make_due(payment, CommandKind.EXPECT_ANSWER)
    shop.performer.perform(shop.command(payment, CommandKind.EXPECT_ANSWER))
    shop.sql("UPDATE payments SET asked_since_unknown = true WHERE id = %s", payment)
    entry = BooksReported(
        entry=BooksEntry.AUTHORISED, source="webhook:AUTHORISATION", psp_reference="QXB7P4NDM6TGHZ82",
        amount=Money("EUR", 1099),
    )  # fmt: skip
    shop.recorder.record(payment, entry)
    assert shop.row(payment)["state"] == "reconciled"
    assert desk is not None
    return payment


def test_a_payment_without_a_name_is_asked_about_first_and_then_refunded(shop: Shop, desk: RefundDesk) -> None:
    payment = charged_by_the_books(shop, desk)
    refund = desk.refund(payment)
    desk.perform(refund)

    assert desk.wire.sent == [], "nobody knows what to call it"
    assert "check_status" in shop.kinds(payment)
    assert desk.kinds(refund) == {"send_refund", "expect_refund"}

    shop.approve(payment)  # the terminal's answer concludes nothing any more, but it names the payment
    desk.perform(refund)
    assert desk.state(refund) == ("pending", None, "received")


# --- afterwards -------------------------------------------------------------------------------------------------------


def test_a_refund_that_fails_later_is_told_as_a_correction_and_alarms(shop: Shop, desk: RefundDesk) -> None:
    desk.intake = desk.intake_by(callback_url="https://shop.example/hooks")
    payment = desk.charged()
    refund = desk.sent(payment)
    desk.book(refund, RefundEntry.REFUNDED, EARLIER)
    desk.book(refund, RefundEntry.FAILED, LATER)

    told = shop.sql("SELECT type, data FROM tellings WHERE refund_id = %s ORDER BY sequence", refund)
    assert [(row["type"], row["data"]["outcome"], row["data"]["refunded"]) for row in told] == [
        ("refund.pending", None, None),
        ("refund.reconciled", "refunded", True),
        ("refund.reconciled", "failed", False),
    ]
    assert told[0]["data"]["payment_id"] == str(payment)
    alarms = shop.sql("SELECT name FROM alarms WHERE refund_id = %s", refund)
    assert [row["name"] for row in alarms] == ["refund_failed_later"]
    assert shop.row(payment)["refunded_minor"] == 0


def test_a_refund_is_told_in_order_and_again_when_asked(shop: Shop, desk: RefundDesk) -> None:
    desk.intake = desk.intake_by(callback_url="https://shop.example/hooks")
    refund = desk.sent(desk.charged())
    desk.book(refund, RefundEntry.REFUNDED, EARLIER)
    tellings = TellingStore(shop.database)
    command = desk.command(refund, CommandKind.TELL_CALLER)

    first = tellings.take(command, 60.0)
    assert first is not None
    assert first.type == "refund.pending"
    assert tellings.take(command, 60.0) is None, "the second waits for the first"
    tellings.failed(command, first, status=500, error="status", wait_s=None)
    assert shop.sql("SELECT name FROM alarms WHERE refund_id = %s", refund)[0]["name"] == "callback_parked"
    second = tellings.take(command, 60.0)
    assert second is not None
    assert second.type == "refund.reconciled"
    tellings.delivered(command, second, 200)
    assert desk.kinds(refund) == set()

    ring = tellings.redeliver(first.id, MERCHANT)
    assert ring is not None
    assert (ring.kind, ring.reference) == (CommandKind.TELL_CALLER, desk.row(refund)["reference"])
    again = tellings.take(ring.command_id, 60.0)
    assert again is not None
    assert again.id == first.id
    closed = shop.sql("SELECT closed_at FROM alarms WHERE refund_id = %s", refund)
    assert closed[0]["closed_at"] is not None


def test_the_sweep_rings_a_refunds_commands_for_whoever_does_them(shop: Shop, desk: RefundDesk) -> None:
    refund = desk.refund(desk.charged())
    shop.sql("UPDATE commands SET ring_at = now() WHERE refund_id = %s AND kind = 'send_refund'", refund)
    rings = [ring for ring in shop.store.ring_due() if ring.reference == desk.row(refund)["reference"]]

    assert [(ring.kind, ring.poi_id) for ring in rings] == [(CommandKind.SEND_REFUND, desk.row(refund)["poi_id"])]
    message = message_of(rings[0])
    assert (message.task, message.queue) == ("tasks.refunds.send", "payments")
    assert message_of(replace(rings[0], transport=Transport.LOCAL)).queue == "held"


def test_seven_days_without_the_books_alarm(shop: Shop, desk: RefundDesk) -> None:
    refund = desk.sent(desk.charged())
    desk.perform(refund, EXPECT)

    assert desk.state(refund) == ("pending", None, "received")
    assert shop.sql("SELECT name FROM alarms WHERE refund_id = %s", refund)[0]["name"] == "refund_overdue"
    assert desk.kinds(refund) == set()


def test_the_same_webhook_again_is_counted_and_changes_nothing(shop: Shop, desk: RefundDesk) -> None:
    payment = desk.charged()
    refund = desk.sent(payment)
    entry = {"digest": "e" * 64}
    for _ in range(3):
        desk.recorder.record(refund, _booked(**entry))

    assert shop.row(payment)["refunded_minor"] == 450
    assert shop.sql("SELECT times FROM refund_journal_repeats WHERE refund_id = %s", refund)[0]["times"] == 2


def _booked(**changes: Any) -> Any:
    from orchestrator.refunds.evidence import RefundBooked

    return RefundBooked(entry=RefundEntry.REFUNDED, source="webhook:REFUND", **changes)


def test_the_books_find_the_refund_that_they_mean(shop: Shop, desk: RefundDesk) -> None:
    payment = desk.charged()
    original = shop.row(payment)["psp_reference"]
    one, two = desk.sent(payment, 100, reference="BACK-A"), desk.sent(payment, 200, reference="BACK-A")
    modification = desk.row(one)["psp_reference"]
    find = desk.store.find

    assert find(MERCHANT, psp_reference=modification, reference="anything") == [one]
    assert set(find(MERCHANT, reference="BACK-A", original_psp=original)) == {one, two}, "a difference, never a guess"
    assert find(MERCHANT, reference="BACK-A", amount=Money("EUR", 200)) == [two]
    assert find(MERCHANT, reference="BACK-A", amount=Money("EUR", 300)) == []
    assert find(MERCHANT, reference="BACK-A", original_psp="ANOTHER") == []
    assert find("HillsideBooks", psp_reference=modification) == []
    assert find(MERCHANT, psp_reference="NEW", reference="BACK-B", original_psp=original) == []


# --- without a payment ------------------------------------------------------------------------------------------------


def test_a_payout_is_paid_by_the_terminals_own_word(desk: RefundDesk) -> None:
    desk.wire.answer = paid_out
    refund = desk.pay_out(desk.shop.terminal())
    desk.perform(refund)

    assert desk.state(refund) == ("confirmed", "refunded", None)
    assert body_of(desk)["PaymentRequest"]["PaymentData"] == {"PaymentType": "Refund"}
    assert desk.row(refund)["holds_terminal"] is None


def test_payouts_are_off_unless_a_setting_allows_them(shop: Shop, desk: RefundDesk) -> None:
    off = RefundIntake(desk.store, shop.store, desk.recorder, shop.rung.extend, "Till4")
    with pytest.raises(UnreferencedRefundsOff):
        off.pay_out({}, {}, "key 1")


def test_above_the_limit_a_second_person_has_to_agree(shop: Shop, desk: RefundDesk) -> None:
    intake = desk.intake_by({"EUR": 5000})
    poi_id = shop.terminal()
    body = {"reference": "OUT-1", "poi_id": poi_id, "amount": {"currency": "EUR", "value": 5001}}
    envelope = {"merchant_account": MERCHANT, "idempotency_key": secrets.token_hex(8)}

    first = intake.pay_out(body, envelope, "key 1")
    same = intake.pay_out(body, envelope, "key 1")
    refund = UUID(str(first.row["id"]))
    assert first.awaits_approval
    assert same.awaits_approval, "one person is not two"
    assert desk.kinds(refund) == {"expect_refund"}
    second = intake.pay_out(body, envelope, "key 2")

    assert not second.awaits_approval
    assert desk.row(refund)["approved_by"] == "key 2"
    desk.wire.answer = paid_out
    desk.perform(refund)
    assert desk.state(refund) == ("confirmed", "refunded", None)


def test_without_a_second_person_it_is_never_sent(shop: Shop, desk: RefundDesk) -> None:
    intake = desk.intake_by()
    body = {"reference": "OUT-2", "poi_id": shop.terminal(), "amount": {"currency": "EUR", "value": 1}}
    row = intake.pay_out(body, {"merchant_account": MERCHANT, "idempotency_key": secrets.token_hex(8)}, "key 1").row
    refund = UUID(str(row["id"]))
    desk.perform(refund, EXPECT)

    assert desk.state(refund) == ("confirmed", "failed", "expired")
    assert desk.wire.sent == []


@pytest.mark.parametrize(
    ("limits", "minor", "needed"),
    [
        ({}, 1, True),
        ({"EUR": 5000}, 5000, False),
        ({"EUR": 5000}, 5001, True),
        ({"*": 5000}, 5000, False),
        ({"EUR": 100, f"{MERCHANT}/EUR": 5000}, 5000, False),
        ({"EUR": 5000, f"{MERCHANT}/*": 100}, 101, True),
        ({"USD": 5000}, 1, True),
    ],
)
def test_the_limit_that_counts_is_the_most_particular_one(
    desk: RefundDesk, limits: dict[str, int], minor: int, needed: bool
) -> None:
    rule = desk.intake_by(limits).unreferenced

    assert rule.needs_approval(MERCHANT, Money("EUR", minor)) is needed


def test_a_payout_waits_until_no_payment_runs_or_waits(shop: Shop, desk: RefundDesk) -> None:
    desk.wire.answer = paid_out
    poi_id = shop.terminal()
    running, queued = shop.pay(poi_id), shop.pay(poi_id)
    assert shop.claim(running)
    refund = desk.pay_out(poi_id)
    desk.perform(refund)
    shop.approve(running)
    desk.perform(refund)
    assert desk.wire.sent == []
    assert shop.claim(queued), "nothing was taken from it"
    shop.approve(queued)

    desk.perform(refund)
    assert len(desk.wire.sent) == 1


def test_while_a_payout_runs_payments_wait_and_then_go_at_once(shop: Shop, desk: RefundDesk) -> None:
    poi_id = shop.terminal()
    refund = desk.pay_out(poi_id)
    command = desk.command(refund)
    assert desk.store.take_terminal(command)
    assert desk.store.claim(command, uuid4(), 150.0)
    payment = shop.pay(poi_id)
    shop.send(payment)
    assert payment not in shop.counter.sent

    shop.rung.clear()
    desk.perform(refund, EXPECT)  # nobody answered, and the window passed
    assert [ring.payment_id for ring in shop.rung if ring.kind is CommandKind.SEND] == [payment]
    assert shop.claim(payment)


def test_a_payment_that_came_in_between_goes_first(shop: Shop, desk: RefundDesk) -> None:
    """The terminal was taken while nobody waited; before the claim somebody does."""
    poi_id = shop.terminal()
    refund = desk.pay_out(poi_id)
    command = desk.command(refund)
    assert desk.store.take_terminal(command)
    payment = shop.pay(poi_id)

    assert desk.store.claim(command, uuid4(), 150.0) is None
    (ring,) = desk.store.give_terminal_back(command)
    assert ring.payment_id == payment
    assert shop.claim(payment)


def test_a_payout_whose_worker_died_before_its_claim_keeps_no_payment_waiting(shop: Shop, desk: RefundDesk) -> None:
    """It had the terminal; by the time that another worker looks, a payment waits for it."""
    poi_id = shop.terminal()
    refund = desk.pay_out(poi_id, send_by_s=3600)
    assert desk.store.take_terminal(desk.command(refund))
    payment = shop.pay(poi_id)

    shop.rung.clear()
    desk.perform(refund)
    assert [ring.payment_id for ring in shop.rung if ring.kind is CommandKind.SEND] == [payment]
    assert shop.claim(payment)


def test_a_claim_that_has_not_yet_committed_is_seen(shop: Shop, desk: RefundDesk) -> None:
    """A payment's claim that began before the terminal was taken, and commits after the refund looked."""
    poi_id = shop.terminal()
    payment = shop.pay(poi_id)
    claim = {"command_id": shop.command(payment), "token": uuid4(), "window_s": 150.0}
    with shop.database.connection() as connection, connection.transaction():
        assert connection.execute(CLAIM, claim | detail_parameters(SendStarted())).fetchone()
        refund = desk.pay_out(poi_id)
        shop.sql("UPDATE refunds SET holds_terminal = poi_id WHERE id = %s", refund)

        assert desk.store.claim(desk.command(refund), uuid4(), 150.0) is None
    assert shop.row(payment)["holds_terminal"] == poi_id


def test_a_payment_and_a_payout_that_race_never_share_a_terminal(shop: Shop, desk: RefundDesk) -> None:
    """Each claims at the same instant, many times over: one prompt at a time."""
    desk.wire.answer = lost
    for _ in range(25):
        poi_id = shop.terminal()
        refund, payment = desk.pay_out(poi_id), shop.pay(poi_id)
        command, send = desk.command(refund), shop.command(payment)

        def pay_out(command: int = command) -> None:
            desk.performer.perform(command)

        def pay(send: int = send) -> None:
            shop.performer.perform(send, CommandKind.SEND)

        all_at_once(pay_out, pay, pay_out, pay)

        holders = shop.sql(
            "SELECT id FROM payments WHERE holds_terminal = %s"
            " UNION ALL SELECT id FROM refunds WHERE holds_terminal = %s AND sent_at IS NOT NULL",
            poi_id, poi_id,
        )  # fmt: skip
        assert len(holders) <= 1
        sent = (payment in shop.counter.sent) + (desk.row(refund)["sent_at"] is not None)
        assert sent <= 1


# --- what the schema refuses ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE refunds SET sent_at = now() + interval '1 second' WHERE id = %s",
        "UPDATE refunds SET sent_at = NULL, answer_by = NULL WHERE id = %s",
        "UPDATE refunds SET outcome = 'refunded' WHERE id = %s",
        "UPDATE refunds SET state = 'confirmed' WHERE id = %s",
        "UPDATE refunds SET state = 'settled' WHERE id = %s",
        "UPDATE refunds SET reason = 'because' WHERE id = %s",
        "UPDATE refunds SET reason = 'pending_approval' WHERE id = %s",
        "UPDATE refunds SET approved_by = asked_by WHERE id = %s",
        "UPDATE refunds SET needs_approval = true WHERE id = %s",
        "UPDATE refunds SET holds_terminal = poi_id WHERE id = %s",
        "UPDATE refunds SET amount_minor = 0 WHERE id = %s",
        "DELETE FROM refunds WHERE id = %s",
        "UPDATE refund_journal SET event = 'x' WHERE refund_id = %s",
        "DELETE FROM refund_journal WHERE refund_id = %s",
        (
            "INSERT INTO commands (refund_id, payment_id, kind, due_at, ring_at)"
            " SELECT id, payment_id, 'tell_caller', now(), now() FROM refunds WHERE id = %s"
        ),
        (
            "INSERT INTO tellings (refund_id, merchant_account, type, at, url, data)"
            " SELECT id, 'M', 'refund.pending', now(), 'https://x.example', '{}' FROM refunds WHERE id = %s"
        ),
    ],
)
def test_the_schema_refuses(shop: Shop, desk: RefundDesk, statement: str) -> None:
    refund = desk.sent(desk.charged())

    with pytest.raises(psycopg.Error):
        shop.sql(statement, refund)


def test_one_service_id_is_one_refund_for_ever(shop: Shop, desk: RefundDesk) -> None:
    one, two = desk.refund(desk.charged()), desk.refund(desk.charged())

    with pytest.raises(psycopg.errors.UniqueViolation):
        shop.sql(
            "UPDATE refunds SET (poi_id, service_id) = (SELECT poi_id, service_id FROM refunds WHERE id = %s)"
            " WHERE id = %s",
            one, two,
        )  # fmt: skip


def test_a_changed_row_or_detail_shows(shop: Shop) -> None:
    desk = RefundDesk(shop)
    payment = desk.charged()
    refund = desk.sent(payment)
    assert dict(verify_refunds(shop.database, payment_id=payment)) == {refund: []}
    shop.sql("CREATE TABLE kept AS SELECT * FROM refund_journal_details WHERE refund_id = %s", refund)

    shop.sql("UPDATE refunds SET amount_minor = 999 WHERE id = %s", refund)
    assert dict(verify_refunds(shop.database, payment_id=payment))[refund] == [
        "The refund's amount is not what its journal explains."
    ]
    shop.sql("UPDATE refunds SET amount_minor = 450 WHERE id = %s", refund)
    shop.sql("UPDATE refund_journal_details SET detail = '{}' WHERE refund_id = %s AND sequence = 3", refund)
    assert any("another detail" in text for text in dict(verify_refunds(shop.database, payment_id=payment))[refund])
    shop.sql("DELETE FROM refund_journal_details WHERE refund_id = %s", refund)
    assert any("has lost" in text for text in dict(verify_refunds(shop.database, payment_id=payment))[refund])
    assert verify_chain(shop.database, payment) == []

    shop.sql("INSERT INTO refund_journal_details SELECT * FROM kept")  # the other tests' desk verifies every refund
    assert dict(verify_refunds(shop.database, payment_id=payment)) == {refund: []}
    shop.sql("DROP TABLE kept")


def test_lists_are_narrowed(desk: RefundDesk) -> None:
    payment = desk.charged()
    one, two = desk.refund(payment, 100), desk.sent(payment, 200)

    def ids(**narrowed: Any) -> list[UUID]:
        rows = desk.store.many(RefundFilter(merchant_account=MERCHANT, payment_id=payment, **narrowed), None, 10)
        return [row["id"] for row in rows]

    assert ids() == [two, one]
    assert ids(psp_reference=desk.row(two)["psp_reference"]) == [two]
    assert ids(state="confirmed") == []
    assert [row["id"] for row in desk.store.of_payment(payment)] == [one, two]
