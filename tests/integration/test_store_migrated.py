"""A process that was running while a migration added a column goes on, and loses nothing."""

from collections.abc import Iterator

import pytest

from orchestrator.commands import CommandKind
from orchestrator.errors import Defect
from tests.integration.store_support import Shop, all_at_once, shop_in

pytestmark = pytest.mark.integration

#: psycopg has the server keep the plan of a statement after this many uses; the answer's columns are a part of it.
PLANNED_AFTER = 6


@pytest.fixture
def shop(postgres_url: str) -> Iterator[Shop]:
    with shop_in(postgres_url) as opened:
        yield opened


def test_every_step_of_a_payment_works_on_after_a_column_was_added(shop: Shop) -> None:
    for _ in range(PLANNED_AFTER):
        payment = shop.pay(shop.terminal())
        shop.send(payment)
        shop.approve(payment)

    shop.sql("ALTER TABLE payments ADD COLUMN added_later text")
    payment = shop.pay(shop.terminal())
    shop.send(payment)
    shop.approve(payment)

    assert shop.row(payment)["outcome"] == "approved"
    assert shop.counter.sent.count(payment) == 1


def test_each_of_many_connections_goes_on(shop: Shop) -> None:
    payments = [shop.pay(shop.terminal()) for _ in range(PLANNED_AFTER)]
    for _ in range(3):
        all_at_once(*[lambda: [shop.store.load(payment) for payment in payments]] * PLANNED_AFTER)

    for number in range(4):  # a process that lives long meets several
        shop.sql(f"ALTER TABLE payments ADD COLUMN added_later_{number} text")
        for _ in range(2):
            found = all_at_once(*[lambda: [shop.store.load(payment) for payment in payments]] * PLANNED_AFTER)
            assert all(None not in each for each in found)


def test_a_sweep_goes_on(shop: Shop) -> None:
    payment = shop.pay(shop.terminal())
    shop.send(payment)
    for _ in range(PLANNED_AFTER):
        shop.performer.sweep()

    shop.sql("ALTER TABLE payments ADD COLUMN added_later text")
    shop.make_due(payment, CommandKind.EXPECT_ANSWER)
    shop.performer.sweep()

    assert shop.row(payment)["state"] == "unknown"


def test_another_feature_that_the_server_lacks_is_still_a_defect(shop: Shop) -> None:
    with pytest.raises(Defect, match="FeatureNotSupported"):
        shop.database.run("SELECT count(*) FROM payments FOR UPDATE", {})
