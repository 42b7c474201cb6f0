"""What the platform signed once and somebody repeats, shifts or re-orders; and books that say one thing many times."""

from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from orchestrator.booking import BookEntry
from orchestrator.evidence import AnswerMissing, AnswerWindowPassed, Exchange, SendStarted
from orchestrator.model import Money
from orchestrator.reconciliation.run import Reconciler
from orchestrator.reports.reading import Line, read_report
from orchestrator.store import schema
from orchestrator.store.differences import DifferenceFilter
from orchestrator.store.matching import matching
from orchestrator.store.words import DifferenceState
from orchestrator.webhooks.effects import EFFECTS
from tests.integration.books_support import Office, line, settled
from tests.integration.books_support import at as at_the_till
from tests.integration.http_support import MERCHANT, Api
from tests.integration.store_support import Shop, shop_in
from tests.integration.webhook_support import (
    alarms,
    asked,
    at,
    believed,
    body,
    book,
    declined,
    differences,
    kept,
    paid,
    post,
    psp,
    record,
    signed,
    webhook,
    with_keys,
)
from tests.services import fresh_database

pytestmark = pytest.mark.integration

DISPUTED = ("unknown", None, "contradiction")
UNANSWERED = AnswerMissing(exchange=Exchange.STATUS, why="read-timeout")


@pytest.fixture(scope="module")
def api(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with fresh_database(postgres_url) as database_url:
        schema.upgrade(database_url)
        with with_keys(database_url, tmp_path_factory.mktemp("hostile")) as served:
            yield served


@pytest.fixture(scope="module")
def shop(postgres_url: str) -> Iterator[Shop]:
    with shop_in(postgres_url) as opened:
        yield opened


@pytest.fixture
def office(shop: Shop, tmp_path: Path) -> Office:
    """A merchant account of the test's own."""
    return Office(shop, tmp_path, f"Merchant{uuid4().hex[:12]}")


def shown(office: Office) -> list[dict[str, Any]]:
    return [dict(row) for row in office.differences.every(DifferenceFilter(merchant_account=office.merchant))]


# -- signed once ---------------------------------------------------------------------------------------------------


def test_an_authorisation_that_is_replayed_under_later_dates_does_not_undo_a_cancellation(api: Api) -> None:
    payment = paid(api)
    own = payment["psp_reference"]
    captured = signed(webhook(payment, pspReference=own, eventDate=at(-30)))
    assert post(api, body(captured)).status_code == 200
    book(api, webhook(payment, "CANCELLATION", originalReference=own, eventDate=at(-20)))
    assert believed(api, payment) == DISPUTED

    for seconds in (-10, -5, 0):
        assert post(api, body({**captured, "eventDate": at(seconds)})).status_code == 200

    assert believed(api, payment) == DISPUTED


def test_a_dispute_is_not_settled_by_the_webhook_that_began_it(api: Api) -> None:
    payment = declined(api)
    captured = signed(webhook(payment, pspReference=payment["psp_reference"], eventDate=at(-30)))
    assert post(api, body(captured)).status_code == 200
    assert believed(api, payment) == DISPUTED

    assert post(api, body({**captured, "eventDate": at()})).status_code == 200

    assert believed(api, payment) == DISPUTED
    assert kept(api, captured)["times"] == 2


def test_a_replay_for_the_other_environment_does_not_take_a_webhooks_place(api: Api) -> None:
    payment = paid(api)
    item = signed(webhook(payment, pspReference=payment["psp_reference"]))

    assert post(api, body(item, live="true")).status_code == 200
    assert post(api, body(item)).status_code == 200

    assert believed(api, payment)[0] == "reconciled"


def test_members_that_were_shifted_under_a_signature_have_no_effect(api: Api) -> None:
    """Somebody else's sale is called like an account of ours and a sale of it: the same text, read in another way."""
    payment = asked(api, api.unknown(api.sent()))
    theirs = webhook(payment, merchantAccountCode="Stranger", merchantReference=f"{MERCHANT}:{payment['reference']}")
    shifted = {
        **signed(theirs),
        "pspReference": f"{theirs['pspReference']}:",
        "originalReference": "Stranger",
        "merchantAccountCode": MERCHANT,
        "merchantReference": payment["reference"],
    }

    assert post(api, body(shifted)).status_code == 200

    assert kept(api, shifted)["became"] == "unknown"
    assert believed(api, payment)[0] == "unknown"


def test_a_cancellation_that_came_before_anything_was_sent_declines_nothing(api: Api) -> None:
    payment = api.accepted()
    book(api, signed(webhook(payment, "CANCELLATION", originalReference=psp()), terminalId=payment["poi_id"]))

    record(api, payment, SendStarted(), AnswerWindowPassed(), UNANSWERED)

    assert believed(api, payment)[0] == "unknown"


@pytest.mark.parametrize("code", ["AUTHORISATION", "TECHNICAL_CANCEL"])
def test_what_happened_days_before_a_payment_was_sent_concludes_nothing_of_it(api: Api, code: str) -> None:
    """Another sale of the same name, on the same terminal, that none of our payments is."""
    payment = asked(api, api.unknown(api.sent()))
    days_ago = webhook(payment, code, originalReference=psp(), eventDate=at(-2 * 86_400))

    book(api, signed(days_ago, terminalId=payment["poi_id"]))

    assert believed(api, payment)[0] == "unknown"
    assert len(differences(api, reference=payment["reference"])) == 1


@pytest.mark.parametrize(
    ("minor", "outcome", "alarm"),
    [(999_900, "approved", "amount_above_request"), (1, "partially_approved", "amount_below_request")],
)
def test_an_amount_that_nobody_asked_for_concludes_with_an_alarm(
    api: Api, minor: int, outcome: str, alarm: str
) -> None:
    payment = asked(api, api.unknown(api.sent()))

    other = webhook(payment, amount={"currency": "EUR", "value": minor})
    book(api, signed(other, terminalId=payment["poi_id"]))

    assert believed(api, payment)[1] == outcome
    assert alarms(api, payment) == [alarm]


# -- said many times -----------------------------------------------------------------------------------------------


def test_the_steps_of_a_chargeback_that_was_closed_do_not_open_it_again(office: Office) -> None:
    payment = office.charged()
    steps = [
        line(payment, word, when=at_the_till(minutes=minutes))
        for minutes, word in enumerate(("Authorised", "Chargeback", "ChargebackReversed"), 1)
    ]
    office.accounting(steps)
    office.run()
    (found,) = shown(office)
    office.differences.change(found["id"], DifferenceState.CLOSED, by="Ann", note="settled with the bank")

    office.run()

    assert [(row["kind"], row["state"]) for row in shown(office)] == [("chargeback", "closed")]

    office.accounting([*steps, line(payment, "SecondChargeback", when=at_the_till(minutes=9))])
    office.run()

    assert [(row["kind"], row["state"]) for row in shown(office)] == [("chargeback", "open")]


def test_a_refund_made_elsewhere_is_one_difference_under_whichever_reference_it_is_told(office: Office) -> None:
    payment = office.charged()
    own = psp()
    refund = BookEntry(
        effect=EFFECTS["REFUND", True],
        source="webhook:REFUND",
        digest=uuid4().hex,
        merchant_account=office.merchant,
        psp_reference=payment.psp,
        own_psp_reference=own,
        reference="BACK-OFFICE-7",
        amount=Money("EUR", 300),
    )
    office.reconciler.booker.apply(refund)
    office.accounting([line(payment)])
    office.settlement([settled(payment, "Refunded", Money("EUR", 300), own)])

    office.run()

    assert [(row["kind"], row["psp_reference"]) for row in shown(office)] == [("refund_elsewhere", own)]


def test_refunds_that_accounting_alone_knows_do_not_hide_each_other(office: Office) -> None:
    payment = office.charged()
    refunds = [line(payment, "Refunded", minor=minor, when=at_the_till(minutes=minor / 100)) for minor in (300, 400)]
    office.accounting([line(payment), *refunds])
    office.run()
    before = shown(office)

    office.run()

    assert [row["theirs"]["amount"]["value"] for row in before] == [300, 400]
    assert shown(office) == before


# -- days, and accounts --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize(
    ("day", "zones", "begins_at", "ends_at"),
    [
        (
            date(2025, 10, 26),
            ("CEST", "CET"),
            datetime(2025, 10, 25, 22, tzinfo=UTC),
            datetime(2025, 10, 26, 23, tzinfo=UTC),
        ),
        (
            date(2025, 3, 30),
            ("CET", "CEST"),
            datetime(2025, 3, 29, 23, tzinfo=UTC),
            datetime(2025, 3, 30, 22, tzinfo=UTC),
        ),
    ],
)
def test_a_day_on_which_the_clocks_change_is_the_whole_day(
    office: Office, day: date, zones: tuple[str, str], begins_at: datetime, ends_at: datetime, order: int
) -> None:
    lines = [
        f"Co,{office.merchant},{psp()},SALE,mc,{day} {time},{zone},EUR,1.00,Authorised,"
        for time, zone in zip(("00:30:00", "12:30:00"), zones, strict=True)
    ]
    report = office.accounting(lines[::order], day)

    with matching(office.shop.database, office.merchant) as sets:
        with report.open("rb") as stream:
            sets.stage(0, [each for each in read_report(stream) if isinstance(each, Line)])
        period = sets.begin(day, day)
        covered = sets.connection.execute("SELECT * FROM coverage").fetchall()

    assert (period.begins_at, period.ends_at) == (begins_at, ends_at)
    assert [tuple(row.values()) for row in covered] == [(begins_at, ends_at)]


def test_a_run_that_fails_keeps_no_other_account_from_its_own(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (Office(shop, tmp_path, f"{letter}{uuid4().hex}") for letter in "AB")
    first.charged()
    second.charged()
    go = Reconciler.go

    def goes(reconciler: Reconciler, run_id: Any, wish: Any, on_progress: Any = None) -> Any:
        if wish.merchant_account == first.merchant:
            raise ArithmeticError
        return go(reconciler, run_id, wish, on_progress)

    monkeypatch.setattr(Reconciler, "go", goes)
    with pytest.raises(ArithmeticError):
        first.reconciler.by_task()

    assert [run["state"] for run in second.runs.many(second.merchant, None, 9)] == ["done"]
