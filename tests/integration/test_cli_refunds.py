"""A clerk pays back at the command line: a real worker, beat, broker and database, against the simulator."""

import json
import secrets
from collections.abc import Iterator

import pytest

from tests.integration.cli_support import Desk, desk_on
from tests.services import fresh_redis

pytestmark = [pytest.mark.integration, pytest.mark.slow]


@pytest.fixture(scope="module")
def desk(postgres_url: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    folder = tmp_path_factory.mktemp("desk")
    with fresh_redis(redis_url) as broker_url, desk_on(postgres_url, broker_url, folder) as opened:
        opened.processes.start("worker", "worker")
        opened.processes.start("beat", "beat")
        yield opened


@pytest.fixture
def sale(desk: Desk) -> str:
    """A sale of 10.50 EUR that was charged."""
    reference = f"sale-{secrets.token_hex(4)}-approve"
    paid = desk.pay(desk.terminal(), reference)
    assert paid.returncode == 0, paid.stderr
    return reference


def test_a_refund_is_followed_until_it_was_received_and_can_be_looked_at(desk: Desk, sale: str) -> None:
    back = f"back-{secrets.token_hex(4)}"
    done = desk.run("refund", sale, "--amount", "4.50", "--reference", back, "--as", "Ann")

    assert done.returncode == 0, done.stderr
    assert "Received: the platform pays 4.50 EUR back; within days its books tell that it did." in done.stdout
    shown = desk.json("refunds", "show", back, "--journal")
    assert (shown["state"], shown["reason"], shown["refunded"]) == ("pending", "received", None)
    assert [line["evidence"] for line in shown["journal"]] == ["refund_accepted", "send_started", "refund_reported"]
    assert back in desk.told("refunds", "list", "--payment", sale)


def test_without_an_amount_everything_that_is_left_is_refunded_and_then_nothing(desk: Desk, sale: str) -> None:
    desk.told("refund", sale, "--amount", "4.50", "--reference", "part", "--as", "Ann")
    rest = json.loads(desk.told("refund", sale, "--reference", "rest", "--as", "Ann", "--json"))
    more = desk.run("refund", sale, "--reference", "more", "--as", "Ann")

    assert rest["amount"] == {"currency": "EUR", "value": 600}
    assert more.returncode == 1
    assert "0.00 EUR is left" in more.stderr


def test_what_was_not_charged_is_not_paid_back(desk: Desk) -> None:
    reference = f"sale-{secrets.token_hex(4)}-decline"
    desk.pay(desk.terminal(), reference)
    done = desk.run("refund", reference, "--reference", "back", "--as", "Ann")

    assert done.returncode == 1
    assert "not charged" in done.stderr


def test_the_journals_of_refunds_are_proved_with_those_of_payments(desk: Desk, sale: str) -> None:
    desk.told("refund", sale, "--amount", "1", "--reference", "back", "--as", "Ann")

    whole = {"verified": 2, "broken": {}, "expunged": 0, "expunged_lines": {}}
    assert desk.json("journal", "verify", "--payment", sale) == whole
    assert desk.json("journal", "verify", "--all")["broken"] == {}


def test_the_same_key_is_one_refund(desk: Desk, sale: str) -> None:
    again = ("refund", sale, "--amount", "2", "--reference", "once", "--as", "Ann", "--idempotency-key", sale)

    assert desk.json(*again)["id"] == desk.json(*again)["id"]
