"""The one-way claim, raced for on real PostgreSQL: one sender among many, one payment per terminal, never re-opened."""

import threading
from collections.abc import Iterator
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from orchestrator.commands import CommandKind
from orchestrator.errors import StoreUnavailable
from orchestrator.evidence import Evidence, NotDelivered, SendByPassed
from orchestrator.perform import MaySend, since_boot_s
from orchestrator.store.chain import verify_chain
from orchestrator.store.rows import Loaded
from orchestrator.store.terminals import TerminalStore
from tests.integration.servers import shop as shop  # noqa: PLC0414  # a fixture
from tests.integration.store_support import Counter, Shop, all_at_once
from tests.services import libpq_url

pytestmark = pytest.mark.integration

PERFORMERS = 12
ROUNDS = 25


@pytest.fixture(autouse=True)
def _nothing_rung_or_sent(shop: Shop) -> Iterator[None]:
    shop.rung.clear()
    shop.counter.sent.clear()
    shop.counter.answer = Counter().answer
    yield
    assert len(shop.counter.sent) == len(set(shop.counter.sent)), "a payment was sent twice"


# -- one sender --------------------------------------------------------------------------------------------------------


def test_of_many_performers_of_one_send_one_sends(shop: Shop) -> None:
    for _ in range(ROUNDS):
        payment = shop.pay(shop.terminal())
        command = shop.command(payment)

        all_at_once(*[partial(shop.performer.perform, command, CommandKind.SEND)] * PERFORMERS)

        assert shop.counter.sent.count(payment) == 1
        assert shop.kinds(payment) == {"expect_answer"}


def test_of_many_payments_of_one_terminal_the_oldest_is_claimed_and_no_other(shop: Shop) -> None:
    for _ in range(ROUNDS):
        poi_id = shop.terminal()
        payments = [shop.pay(poi_id) for _ in range(8)]
        commands = [shop.command(payment) for payment in payments]

        claims = all_at_once(*[lambda c=command: shop.store.claim(c, uuid4(), 150.0) for command in commands])

        assert [claim.transaction.id for claim in claims if claim] == payments[:1]


def test_a_message_that_is_delivered_again_sends_nothing(shop: Shop) -> None:
    payment = shop.pay(shop.terminal())
    command = shop.command(payment)
    for _ in range(3):
        shop.performer.perform(command, CommandKind.SEND)

    shop.approve(payment)
    shop.performer.perform(command, CommandKind.SEND)

    assert shop.counter.sent == [payment]


def test_a_send_without_its_kind_is_still_sent_once(shop: Shop) -> None:
    payment = shop.pay(shop.terminal())
    command = shop.command(payment)

    all_at_once(*[lambda: shop.performer.perform(command)] * 4)

    assert shop.counter.sent == [payment]


def test_expiry_and_claim_race_for_the_row_and_one_of_them_has_it(shop: Shop) -> None:
    ended = set()
    for _ in range(ROUNDS):
        payment = shop.pay(shop.terminal())
        command, expire = shop.command(payment), shop.command(payment, CommandKind.EXPIRE)
        shop.make_due(payment, CommandKind.EXPIRE)

        all_at_once(
            partial(shop.performer.perform, command, CommandKind.SEND),
            partial(shop.performer.perform, expire),
            partial(shop.recorder.record, payment, SendByPassed()),
        )

        row, sent = shop.row(payment), payment in shop.counter.sent
        assert (row["outcome"] == "not_performed") is not sent
        assert verify_chain(shop.database, payment) == []
        ended.add(sent)
    assert ended, "no round was played"


def test_past_its_send_by_nothing_is_claimed(shop: Shop) -> None:
    payment = shop.pay(shop.terminal())
    shop.sql("UPDATE payments SET send_by = now() WHERE id = %s", payment)

    shop.send(payment)

    assert shop.counter.sent == []


def test_a_result_that_arrives_while_the_claim_is_made_ends_in_one_consistent_journal(shop: Shop) -> None:
    for _ in range(ROUNDS):
        payment = shop.pay(shop.terminal())
        command = shop.command(payment)

        all_at_once(
            partial(shop.performer.perform, command, CommandKind.SEND),
            partial(shop.approve, payment),
            partial(shop.recorder.record, payment, SendByPassed()),
        )

        row = shop.row(payment)
        assert (row["state"], row["outcome"], row["holds_terminal"]) == ("confirmed", "approved", None)
        assert shop.kinds(payment) <= {"check_status"}
        assert verify_chain(shop.database, payment) == []


def test_concurrent_evidence_about_one_payment_is_all_journalled(shop: Shop) -> None:
    payment = shop.pay(shop.terminal())
    shop.send(payment)

    all_at_once(*[lambda: shop.approve(payment)] * 8)

    assert shop.row(payment)["sequence"] == 2 + 8
    assert verify_chain(shop.database, payment) == []


# -- a claim whose commit is in doubt ----------------------------------------------------------------------------------


class _Severed:
    """A store whose first claim loses its connection before or after the server committed."""

    def __init__(self, shop: Shop, *, after_commit: bool) -> None:
        self._shop, self._after_commit = shop, after_commit
        self._severed = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._shop.store, name)

    def claim(self, command_id: int, token: UUID, window_s: float) -> Loaded | None:
        if self._severed:
            return self._shop.store.claim(command_id, token, window_s)
        self._severed = True
        if self._after_commit:
            assert self._shop.store.claim(command_id, token, window_s)
        with self._shop.database.connection() as connection:
            pid = connection.info.backend_pid
            self._shop.sql("SELECT pg_terminate_backend(%s)", pid)
            connection.execute("SELECT 1")
        raise AssertionError("the connection is still there")


@pytest.mark.parametrize("after_commit", [True, False], ids=["committed", "not committed"])
def test_a_claim_that_lost_its_connection_is_found_or_tried_again_and_sends_once(
    shop: Shop, *, after_commit: bool
) -> None:
    payment = shop.pay(shop.terminal())
    performer = shop.with_store(_Severed(shop, after_commit=after_commit))

    performer.perform(shop.command(payment), CommandKind.SEND)

    assert shop.counter.sent == [payment]
    assert shop.kinds(payment) == {"expect_answer"}


def test_a_claim_of_somebody_else_is_not_ours(shop: Shop) -> None:
    payment = shop.pay(shop.terminal())
    assert shop.claim(payment)

    assert shop.store.claimed_with(uuid4()) is None


def test_connections_that_are_terminated_while_many_claim_cost_no_second_send(shop: Shop) -> None:
    """Somebody restarts the database's connections again and again; each payment is sent at most once, and most are."""
    payments = [shop.pay(shop.terminal()) for _ in range(40)]
    commands = [shop.command(payment) for payment in payments]
    done = threading.Event()

    def sever() -> None:
        with psycopg.connect(libpq_url(shop.url), autocommit=True) as connection:
            while not done.wait(0.02):
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid() AND query LIKE '%%claimed%%'"
                )

    def perform() -> None:
        for command in commands:
            try:
                shop.performer.perform(command, CommandKind.SEND)
            except StoreUnavailable:
                continue

    severing = threading.Thread(target=sever)
    severing.start()
    try:
        all_at_once(*[perform] * 6)
    finally:
        done.set()
        severing.join()
        shop.database._pool.check()  # one that was cut after its last use would fail the next test

    for payment in payments:
        if payment not in shop.counter.sent:
            assert shop.kinds(payment) in ({"send", "expire"}, {"expect_answer"})
    assert len(shop.counter.sent) > len(payments) / 10, "on a busy machine most are cut off; not all"


# -- what goes wrong after the claim -----------------------------------------------------------------------------------


def test_a_client_that_breaks_after_the_claim_leads_to_a_status_check_and_never_to_a_second_send(shop: Shop) -> None:
    payment = shop.pay(shop.terminal())
    command = shop.command(payment)

    def breaks(_payment: UUID) -> Evidence:
        raise RuntimeError("a bug in the client")

    shop.counter.answer = breaks
    with pytest.raises(RuntimeError):
        shop.performer.perform(command, CommandKind.SEND)
    shop.performer.perform(command, CommandKind.SEND)

    assert shop.counter.sent == [payment]
    assert shop.kinds(payment) == {"expect_answer"}
    shop.make_due(payment, CommandKind.EXPECT_ANSWER)
    shop.performer.sweep()
    assert (shop.row(payment)["state"], shop.kinds(payment)) == ("unknown", {"check_status"})


def test_a_missing_tag_key_is_found_before_the_claim(shop: Shop) -> None:
    payment = shop.pay(shop.terminal())

    with pytest.raises(IndexError):
        shop.with_keys([]).perform(shop.command(payment), CommandKind.SEND)

    assert shop.row(payment)["sent_at"] is None
    shop.send(payment)
    assert shop.counter.sent == [payment]


class _Away:
    """A store that cannot write for a while after the send."""

    def __init__(self, shop: Shop, times: int) -> None:
        self._shop, self.times_left = shop, times

    def __getattr__(self, name: str) -> Any:
        return getattr(self._shop.store, name)

    def load(self, payment_id: UUID) -> Any:
        if self.times_left > 0:
            self.times_left -= 1
            raise StoreUnavailable
        return self._shop.store.load(payment_id)


def test_the_proof_that_nothing_was_delivered_outlives_a_short_absence_of_the_database(shop: Shop) -> None:
    """Nobody else could ever learn it: the sale would stand as unknown, and the terminal be asked for nothing."""
    payment = shop.pay(shop.terminal())
    shop.counter.answer = lambda _payment: NotDelivered(why="connect-refused")

    shop.with_store(_Away(shop, times=3)).perform(shop.command(payment), CommandKind.SEND)

    assert shop.row(payment)["reason"] == "not_delivered"


def test_a_sender_does_not_insist_for_ever(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.perform._INSIST_AFTER_S", (0.01, 0.01))
    payment = shop.pay(shop.terminal())
    shop.counter.answer = lambda _payment: NotDelivered(why="connect-refused")
    command = shop.command(payment)

    with pytest.raises(StoreUnavailable):
        shop.with_store(_Away(shop, times=100)).perform(command, CommandKind.SEND)

    assert shop.kinds(payment) == {"expect_answer"}


# -- held terminals ----------------------------------------------------------------------------------------------------


def test_a_held_terminal_starts_nothing_and_goes_on_when_it_is_released(shop: Shop) -> None:
    poi_id = shop.terminal()
    first, second = shop.pay(poi_id), shop.pay(poi_id)
    terminals = TerminalStore(shop.database)
    assert terminals.hold(poi_id, "mira", "a new printer roll")
    shop.send(first)
    shop.send(second)
    assert shop.counter.sent == []

    rings = terminals.release(poi_id)

    assert rings is not None
    assert [ring.payment_id for ring in rings] == [first]
    shop.performer.perform(rings[0].command_id, rings[0].kind)
    assert shop.counter.sent == [first]


def test_a_terminal_that_went_to_another_merchant_gets_nothing_of_the_old_one(shop: Shop) -> None:
    poi_id = shop.terminal()
    payment = shop.pay(poi_id)
    TerminalStore(shop.database).put({"poi_id": poi_id, "merchant_account": "Another", "transport": "async"})

    shop.send(payment)

    assert shop.counter.sent == []


def test_the_lease_ends_with_the_send_by_and_with_ten_seconds(shop: Shop) -> None:
    payment = shop.pay(shop.terminal(), send_by_s=5)
    loaded = shop.claim(payment)
    assert loaded is not None

    lease = MaySend.of(loaded, since_boot_s())

    assert lease()
    assert 4 < lease.valid_s <= 5
    assert not MaySend.of(loaded, since_boot_s() - 5.1)()
    assert not MaySend(since_boot_s() - 10.1, valid_s=10.0)()
