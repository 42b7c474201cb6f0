"""A terminal takes one payment at a time: in order, woken by whoever goes before, or else by the sweep."""

import random
import threading
import time
from collections.abc import Iterator
from functools import partial
from uuid import UUID

import psycopg
import pytest

from orchestrator.commands import CommandKind
from orchestrator.errors import ConcurrentUpdate
from orchestrator.evidence import (
    AbortAsked,
    AnswerWindowPassed,
    Evidence,
    InProgressReported,
    NotFoundReported,
)
from orchestrator.store.chain import verify_chain
from tests.integration.servers import shop as shop  # noqa: PLC0414  # a fixture
from tests.integration.store_support import Counter, Shop, all_at_once
from tests.services import libpq_url

pytestmark = pytest.mark.integration


@pytest.fixture(autouse=True)
def _nothing_rung_or_sent(shop: Shop) -> Iterator[None]:
    shop.sql("DELETE FROM commands")
    shop.rung.clear()
    shop.counter.sent.clear()
    shop.counter.answer = Counter().answer
    yield
    assert len(shop.counter.sent) == len(set(shop.counter.sent)), "a payment was sent twice"


def pass_time(shop: Shop, seconds: float) -> None:
    """What the clock would do to every command; those parked for good stay so."""
    shop.sql(
        "UPDATE commands SET ring_at = ring_at - make_interval(secs => %(s)s::float8),"
        " due_at = due_at - make_interval(secs => %(s)s::float8)".replace("%(s)s", str(seconds))
    )


def sweep_alone(shop: Shop) -> None:
    """Whatever was rung is lost; the sweep rings what is due, and that is performed."""
    shop.rung.clear()
    shop.performer.sweep()
    shop.drain()


def playing(shop: Shop, payments: list[UUID]) -> list[UUID]:
    """Those that hold a terminal."""
    return [payment for payment in payments if shop.row(payment)["holds_terminal"]]


def test_a_queue_is_sent_in_order_each_as_the_one_before_concludes(shop: Shop) -> None:
    poi_id = shop.terminal()
    payments = [shop.pay(poi_id) for _ in range(6)]
    shop.drain()

    for played, payment in enumerate(payments):
        assert shop.counter.sent == payments[: played + 1]
        assert playing(shop, payments) == [payment]
        shop.approve(payment)
        shop.drain()

    assert shop.kinds(payments[-1]) == set()


def test_only_the_first_of_a_queue_is_rung_when_it_is_accepted(shop: Shop) -> None:
    poi_id = shop.terminal()
    payments = [shop.pay(poi_id) for _ in range(3)]

    assert [ring.payment_id for ring in shop.rung] == payments[:1]


def test_the_sweep_alone_carries_a_queue_when_every_wake_up_is_lost(shop: Shop) -> None:
    poi_id = shop.terminal()
    payments = [shop.pay(poi_id) for _ in range(4)]

    for payment in payments:
        for _ in range(3):
            pass_time(shop, 5)
            sweep_alone(shop)
        assert playing(shop, payments) == [payment]
        shop.approve(payment)

    assert shop.counter.sent == payments


def test_those_who_wait_behind_others_are_not_rung_again_and_again(shop: Shop) -> None:
    poi_id = shop.terminal()
    for _ in range(5):
        shop.pay(poi_id)
    pass_time(shop, 5)
    sweep_alone(shop)

    pass_time(shop, 30)

    assert len(shop.store.ring_due()) == 1  # the head of the queue


def test_many_performers_send_a_queue_in_order(shop: Shop) -> None:
    poi_id = shop.terminal()
    payments = [shop.pay(poi_id) for _ in range(10)]
    commands = [shop.command(payment) for payment in payments]
    end = time.monotonic() + 30

    def perform() -> None:
        draw = random.Random(threading.get_ident())
        while len(shop.counter.sent) < len(payments) and time.monotonic() < end:
            shop.performer.perform(draw.choice(commands), CommandKind.SEND)
            for payment in playing(shop, list(shop.counter.sent)):
                shop.approve(payment)

    all_at_once(*[perform] * 8)

    assert shop.counter.sent == payments


def test_an_unknown_one_holds_the_queue_until_it_was_asked_about(shop: Shop) -> None:
    poi_id = shop.terminal()
    lost, waiting = shop.pay(poi_id), shop.pay(poi_id)
    shop.drain()
    shop.recorder.record(lost, AnswerWindowPassed())
    rung = [ring for ring in shop.rung if ring.kind is CommandKind.SEND]
    shop.rung.clear()
    for ring in rung:
        shop.performer.perform(ring.command_id, ring.kind)
    shop.send(waiting)
    assert shop.counter.sent == [lost]

    shop.recorder.record(lost, InProgressReported())
    shop.send(waiting)
    assert shop.counter.sent == [lost], "the next customer would get the last one's prompt"

    shop.recorder.record(lost, NotFoundReported())
    assert [ring.payment_id for ring in shop.rung if ring.kind is CommandKind.SEND][-1:] == [waiting]
    shop.send(waiting)
    assert shop.counter.sent == [lost, waiting]


def test_an_unknown_one_that_nobody_asks_about_any_more_does_not_block_its_terminal_for_good(shop: Shop) -> None:
    """After 48 h of InProgress the asking ends with an alarm; the shop has to go on selling."""
    poi_id = shop.terminal()
    lost, waiting = shop.pay(poi_id), shop.pay(poi_id)
    shop.drain()
    shop.recorder.record(lost, AnswerWindowPassed())
    shop.recorder.record(lost, InProgressReported())
    shop.send(waiting)
    assert shop.counter.sent == [lost]

    shop.sql("DELETE FROM commands WHERE payment_id = %s AND kind = 'check_status'", lost)
    shop.send(waiting)

    assert shop.counter.sent == [lost, waiting]


@pytest.mark.parametrize("leaves", ["expires", "is aborted"])
def test_the_next_one_is_woken_when_the_head_of_the_queue_leaves(shop: Shop, leaves: str) -> None:
    poi_id = shop.terminal()
    first, head, last = (shop.pay(poi_id) for _ in range(3))
    shop.drain()
    shop.send(head)
    shop.send(last)
    shop.approve(first)
    shop.rung.clear()

    if leaves == "expires":
        shop.make_due(head, CommandKind.EXPIRE)
        shop.performer.sweep()
    else:
        shop.recorder.record(head, AbortAsked(asked_by="till"))
    shop.drain()

    assert shop.row(head)["outcome"] == ("not_performed" if leaves == "expires" else "aborted")
    assert shop.counter.sent == [first, last]


def test_one_in_the_middle_that_is_aborted_disturbs_nobody(shop: Shop) -> None:
    poi_id = shop.terminal()
    first, middle, last = (shop.pay(poi_id) for _ in range(3))
    shop.drain()

    shop.recorder.record(middle, AbortAsked(asked_by="till"))
    shop.drain()
    assert shop.counter.sent == [first]
    shop.approve(first)
    shop.drain()

    assert shop.counter.sent == [first, last]


def test_a_claim_and_an_abort_of_a_queued_one_race_and_one_of_them_has_it(shop: Shop) -> None:
    for _ in range(25):
        payment = shop.pay(shop.terminal())
        command = shop.command(payment)

        all_at_once(
            partial(shop.performer.perform, command, CommandKind.SEND),
            partial(shop.recorder.record, payment, AbortAsked(asked_by="till")),
        )

        if payment in shop.counter.sent:
            assert (shop.row(payment)["state"], "send_abort" in shop.kinds(payment)) == ("pending", True)
        else:
            assert (shop.row(payment)["outcome"], shop.kinds(payment)) == ("aborted", set())


# -- no wake-up is lost ------------------------------------------------------------------------------------------------


def test_a_wake_up_that_commits_while_the_send_is_being_parked_wins(shop: Shop) -> None:
    """Parking looked at the queue before the one ahead left, and waits for the row that the wake-up has locked."""
    poi_id = shop.terminal()
    head, waiting = shop.pay(poi_id), shop.pay(poi_id)
    command = shop.command(waiting)
    with psycopg.connect(libpq_url(shop.url)) as leaving:
        leaving.execute(
            "UPDATE payments SET state = 'confirmed', outcome = 'aborted', concluded_at = now() WHERE id = %s", (head,)
        )
        leaving.execute("UPDATE commands SET due_at = now(), ring_at = now() WHERE id = %s", (command,))
        parking = threading.Thread(target=shop.store.park_send, args=(command, 5.0))
        parking.start()
        blocked = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        end = time.monotonic() + 10
        while not shop.sql(blocked):
            assert time.monotonic() < end, "nobody waits for the row"
            time.sleep(0.01)
        leaving.commit()
        parking.join(10)

    assert [ring.command_id for ring in shop.store.ring_due()] == [command]


def test_the_one_behind_two_that_leave_at_the_same_instant_is_woken(shop: Shop) -> None:
    for _ in range(10):
        poi_id = shop.terminal()
        head, second, last = (shop.pay(poi_id) for _ in range(3))
        shop.store.park_send(shop.command(last), 5.0)
        asked = AbortAsked(asked_by="till")
        all_at_once(*[partial(shop.recorder.record, payment, asked) for payment in (head, second)])

        parked = "SELECT 1 FROM commands WHERE payment_id = %s AND kind = 'send' AND ring_at = 'infinity'"
        assert shop.sql(parked, last) == []


def test_no_interleaving_leaves_a_payment_waiting_for_nobody(shop: Shop) -> None:
    """Eight performers on three terminals do what they draw; afterwards the head of every queue will be looked at."""
    terminals = [shop.terminal() for _ in range(3)]
    payments = [shop.pay(poi_id) for _ in range(14) for poi_id in terminals]
    commands = [shop.command(payment) for payment in payments]
    stuck = (
        "SELECT q.id FROM payments q JOIN commands c ON c.payment_id = q.id AND c.kind = 'send'"
        " WHERE q.state = 'pending' AND q.sent_at IS NULL AND c.ring_at = 'infinity' AND NOT EXISTS (SELECT 1"
        " FROM payments o WHERE o.poi_id = q.poi_id AND o.number < q.number AND o.state = 'pending')"
    )

    def play(seed: int) -> None:
        draw = random.Random(seed)  # a seed, to be repeated
        for _ in range(60):
            number = draw.randrange(len(payments))
            payment = payments[number]
            evidence: Evidence | None = None
            match draw.randrange(6):
                case 0 if shop.row(payment)["sent_at"]:
                    shop.approve(payment)
                case 1:
                    evidence = AbortAsked(asked_by="till")
                case 2 if shop.row(payment)["sent_at"]:
                    evidence = AnswerWindowPassed()
                case 3 if shop.row(payment)["sent_at"]:
                    evidence = NotFoundReported()
                case _:
                    shop.performer.perform(commands[number], CommandKind.SEND)
            if evidence:
                shop.recorder.record(payment, evidence)

    for round_number in range(3):
        all_at_once(*[lambda seed=seed + 8 * round_number: play(seed) for seed in range(8)])
        assert shop.sql(stuck) == []

    assert [problem for payment in payments for problem in verify_chain(shop.database, payment)] == []


# -- the sweep ---------------------------------------------------------------------------------------------------------


def make_commands_due(shop: Shop, number: int) -> list[UUID]:
    """This many due status checks, a millisecond apart; oldest first."""
    payment = shop.pay(shop.terminal())
    shop.sql("DELETE FROM commands")
    shop.rung.clear()
    shop.sql(
        "WITH copies AS (INSERT INTO payments (id, merchant_account, idempotency_key, fingerprint, reference, poi_id,"
        " sale_id, service_id, transport, currency, amount_minor, send_by, journal_hash, sent_at, answer_by)"
        " SELECT gen_random_uuid(), merchant_account, gen_random_uuid()::text, '', 'due', poi_id, sale_id,"
        " substr(md5(random()::text || n), 1, 10), transport, currency, 1, now(), '', now(), now()"
        f" FROM payments, generate_series(1, {int(number)}) n WHERE id = %s RETURNING id)"
        " INSERT INTO commands (payment_id, kind, due_at, ring_at)"
        " SELECT id, 'check_status', due, due FROM (SELECT id, now() - interval '1 hour'"
        " + row_number() OVER () * interval '1 millisecond' AS due FROM copies) AS dated",
        payment,
    )
    return [row["payment_id"] for row in shop.sql("SELECT payment_id FROM commands ORDER BY ring_at")]


def test_sweeps_at_the_same_time_never_ring_the_same_command(shop: Shop) -> None:
    due = make_commands_due(shop, 1500)

    taken = all_at_once(*[shop.store.ring_due] * 6)

    rung = [ring.payment_id for rings in taken for ring in rings]
    assert len(rung) == len(set(rung))
    while rings := shop.store.ring_due():
        rung += [ring.payment_id for ring in rings]
    assert sorted(rung) == sorted(due)


def test_a_backlog_is_drained_oldest_first(shop: Shop) -> None:
    due = make_commands_due(shop, 5000)

    for first in range(0, 5000, 500):
        assert {ring.payment_id for ring in shop.store.ring_due()} == set(due[first : first + 500])

    assert shop.store.ring_due() == []


def test_what_was_rung_and_not_done_is_rung_again(shop: Shop) -> None:
    make_commands_due(shop, 3)
    assert len(shop.store.ring_due()) == 3
    pass_time(shop, 29)
    assert shop.store.ring_due() == []

    pass_time(shop, 2)

    assert len(shop.store.ring_due()) == 3


def test_one_payments_trouble_does_not_keep_the_sweep_from_the_others(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    troubled, fine = shop.pay(shop.terminal()), shop.pay(shop.terminal())
    for payment in (troubled, fine):
        shop.make_due(payment, CommandKind.EXPIRE)
    load = type(shop.store).load

    def fails_for_one(store: object, payment_id: UUID) -> object:
        if payment_id == troubled:
            raise ConcurrentUpdate
        return load(shop.store, payment_id)

    monkeypatch.setattr(type(shop.store), "load", fails_for_one)
    shop.performer.sweep()
    monkeypatch.undo()

    assert shop.row(fine)["outcome"] == "not_performed"
    assert shop.row(troubled)["state"] == "pending"
    pass_time(shop, 6)
    shop.performer.sweep()
    assert shop.row(troubled)["outcome"] == "not_performed"


def test_a_command_that_keeps_failing_is_put_off_ever_longer_and_shown_to_a_person(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    payment = shop.pay(shop.terminal())
    command = shop.command(payment, CommandKind.EXPIRE)
    shop.make_due(payment, CommandKind.EXPIRE)
    waits = []

    def fails(*_: object) -> None:
        raise ConcurrentUpdate

    monkeypatch.setattr(type(shop.store), "load", fails)
    for _ in range(4):
        with pytest.raises(ConcurrentUpdate):
            shop.performer.perform(command)
        waits += shop.sql("SELECT extract(epoch FROM ring_at - now())::int AS s FROM commands WHERE id = %s", command)

    assert [wait["s"] for wait in waits] == [5, 10, 20, 40]
    assert [row["name"] for row in shop.sql("SELECT name FROM alarms WHERE payment_id = %s", payment)] == [
        "command_fails"
    ]
