"""Runs: each way in which our rows and the platform's reports can disagree is found, and none is made up."""

import secrets
import threading
from collections.abc import Iterator
from datetime import UTC, date, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from orchestrator.errors import Defect
from orchestrator.evidence import AnswerMissing, CheckAsked, Exchange
from orchestrator.model import Money
from orchestrator.reconciliation.run import Reconciler, Wish
from orchestrator.reconciliation.sources import NoSuchReport
from orchestrator.record import Recorder
from orchestrator.store.chain import verify_chain
from orchestrator.store.database import Database
from orchestrator.store.differences import DifferenceFilter
from orchestrator.store.matching import Busy, matching
from orchestrator.store.refund_chain import verify_refunds
from orchestrator.store.words import DifferenceState
from tests.factories import approved, authorisation
from tests.integration.books_support import DAY, HERE, Office, at, line, settled
from tests.integration.refund_support import RefundDesk
from tests.integration.store_support import MERCHANT, Shop, shop_in

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def shop(postgres_url: str) -> Iterator[Shop]:
    with shop_in(postgres_url) as opened:
        yield opened


@pytest.fixture
def office(shop: Shop, tmp_path: Path) -> Office:
    """A merchant account of the test's own."""
    return Office(shop, tmp_path, f"Merchant{uuid4().hex[:12]}")


@pytest.fixture
def desk(postgres_url: str, tmp_path: Path) -> Iterator[tuple[Office, RefundDesk]]:
    """A shop of the test's own, that pays back."""
    with shop_in(postgres_url) as opened:
        yield Office(opened, tmp_path), RefundDesk(opened)


def whole(office: Office, *payments: Any) -> bool:
    return [verify_chain(office.shop.database, paid.id) for paid in payments] == [[]] * len(payments)


# -- agreement ---------------------------------------------------------------------------------------------------------


def test_a_charge_that_a_report_lists_is_reconciled(office: Office) -> None:
    paid = office.charged()
    office.accounting([line(paid, "Received"), line(paid), line(paid, "SentForSettle", when=at(minutes=30))])

    run = office.run()

    assert run["state"] == "done"
    assert office.states(paid) == [("reconciled", "approved")]
    assert office.found(run) == []
    group = run["summary"]["payments"]["EUR"]["charged_reconciled"]
    assert group == {"count": 1, "sum_minor": 1099}


def test_two_runs_of_one_period_end_alike(office: Office) -> None:
    paid = [office.charged() for _ in range(4)]
    declined, unknown = office.declined(), office.unknown()
    office.accounting([
        line(paid[0]), line(paid[1], minor=1), line(paid[2], "Refused"), line(office.stranger()), line(unknown),
    ])  # fmt: skip

    first = office.run()
    states = office.states(*paid, declined, unknown)
    sequences = [office.shop.row(each.id)["sequence"] for each in [*paid, declined, unknown]]
    second = office.run()

    assert office.states(*paid, declined, unknown) == states
    assert [office.shop.row(each.id)["sequence"] for each in [*paid, declined, unknown]] == sequences
    assert office.found(first) == office.found(second)
    assert first["summary"] == second["summary"]
    assert len(list(office.differences.every(DifferenceFilter(merchant_account=office.merchant)))) == len(
        office.found(first)
    )


def test_what_was_not_charged_is_reconciled_by_absence_from_a_report_of_its_day(office: Office) -> None:
    declined, not_performed = office.declined(), office.declined(condition="DeviceOut")
    office.accounting([line(office.stranger(), "Refused")])

    office.run()

    assert office.states(declined, not_performed) == [("reconciled", "declined"), ("reconciled", "not_performed")]
    assert office.shop.row(declined.id)["reason"] == "absent_from_report"
    assert whole(office, declined, not_performed)


def test_a_refused_line_reconciles_what_was_declined(office: Office) -> None:
    declined = office.declined()
    office.accounting([line(declined, "Refused")])

    run = office.run()

    assert office.states(declined) == [("reconciled", "declined")]
    assert office.shop.row(declined.id)["reason"] is None
    assert office.found(run) == []


def test_an_unknown_with_an_authorised_line_waits_for_one_status_check_and_is_then_charged(office: Office) -> None:
    unknown = office.unknown()
    office.accounting([line(unknown)])

    office.run()
    assert office.states(unknown) == [("unknown", None)]

    office.shop.sql("UPDATE payments SET asked_since_unknown = true WHERE id = %s", unknown.id)
    other = office.accounting([line(unknown, when=at(minutes=2))])
    office.run(DAY, DAY, other)
    assert office.states(unknown) == [("reconciled", "approved")]


def test_an_unknown_whose_every_line_of_a_covered_day_is_refused_is_declined(office: Office) -> None:
    unknown, tried_twice = office.unknown(), office.unknown()
    again = secrets.token_hex(8).upper()
    office.accounting([
        line(unknown, "Refused"),
        line(tried_twice, "Refused"), line(tried_twice, psp=again, when=at(minutes=2)),
    ])  # fmt: skip

    office.run()

    assert office.states(unknown, tried_twice) == [("reconciled", "declined"), ("unknown", None)]


def test_a_charge_that_only_a_report_told_is_one_line_of_the_journal_however_often_it_is_read(office: Office) -> None:
    unknown = office.unknown()
    office.shop.recorder.record(unknown.id, AnswerMissing(exchange=Exchange.STATUS, why="no answer"))
    office.accounting([line(unknown)])

    for _ in range(2):
        office.run()
        assert office.states(unknown) == [("reconciled", "approved")]
        told = "SELECT 1 FROM journal WHERE evidence = 'books_reported' AND payment_id = %s"
        assert len(office.shop.sql(told, unknown.id)) == 1


def test_a_charge_that_a_webhook_reconciled_is_confirmed_once_more_and_no_difference(office: Office) -> None:
    paid = office.charged()
    office.shop.recorder.record(
        paid.id, authorisation(psp_reference=paid.psp, effective_at=f"{HERE.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}Z")
    )
    office.accounting([line(paid)])

    run = office.run()

    assert office.states(paid) == [("reconciled", "approved")]
    assert office.found(run) == []


def test_a_refused_try_before_an_approved_one_is_no_difference(office: Office) -> None:
    paid = office.charged()
    office.accounting([
        line(paid, "Refused", psp=secrets.token_hex(8).upper(), when=at(minutes=0)), line(paid),
    ])  # fmt: skip

    run = office.run()

    assert office.states(paid) == [("reconciled", "approved")]
    assert office.found(run) == []


# -- differences -------------------------------------------------------------------------------------------------------


def test_a_charge_that_no_report_of_its_day_lists_is_missing_there_and_stays_as_it_is(office: Office) -> None:
    paid = office.charged()
    office.accounting([line(office.stranger(), "Refused")])

    run = office.run()

    assert office.states(paid) == [("confirmed", "approved")]
    assert office.found(run) == [("missing_there", paid.reference)]


def test_a_charge_that_a_later_report_has_is_missing_no_more(office: Office) -> None:
    paid = office.charged()
    office.accounting([line(office.stranger(), "Refused")])
    office.run()

    office.accounting([line(paid)], name=f"payments_accounting_report_{DAY + timedelta(1):%Y_%m_%d}.csv")
    run = office.run()

    (difference,) = office.differences.every(DifferenceFilter(run_id=run["id"]))
    assert (difference["state"], difference["changed_by"]) == ("closed", "reconciliation")
    assert office.states(paid) == [("reconciled", "approved")]


def test_a_charge_that_an_earlier_run_found_in_a_report_is_not_missing_when_that_report_is_gone(office: Office) -> None:
    paid = office.charged()
    office.accounting([line(paid)])
    office.run()

    office.accounting([line(office.stranger(), "Refused")])

    assert office.found(office.run()) == []


def test_a_charge_that_a_webhook_reconciled_is_missing_there_all_the_same(office: Office) -> None:
    paid = office.charged()
    office.shop.recorder.record(paid.id, authorisation(psp_reference=paid.psp))
    office.accounting([line(office.stranger(), "Refused")])

    assert office.found(office.run()) == [("missing_there", paid.reference)]


def test_a_charge_beside_midnight_is_judged_only_with_the_day_beside_it(office: Office) -> None:
    paid = office.charged()
    office.moved(paid, HERE.replace(hour=23, minute=59))
    office.accounting([line(office.stranger(), "Refused")])
    assert office.found(office.run()) == []

    office.accounting([line(office.stranger(), "Refused", when=at(days=1))], DAY + timedelta(1))
    run = office.run(DAY + timedelta(1))

    assert office.found(run) == [("missing_there", paid.reference)]


def test_a_charge_without_a_report_of_its_day_is_nobodys_difference(office: Office) -> None:
    paid, declined = office.charged(), office.declined()
    office.accounting([line(office.stranger(), "Refused", when=at(days=-1))], DAY - timedelta(1))

    run = office.run(DAY - timedelta(1), DAY)

    assert office.states(paid, declined) == [("confirmed", "approved"), ("confirmed", "declined")]
    assert office.found(run) == []


def test_a_settlement_report_proves_no_absence(office: Office) -> None:
    paid, missing = office.charged(), office.charged()
    office.settlement([settled(paid, "Settled", Money("EUR", 1099), paid.psp)])

    run = office.run()

    assert office.states(paid, missing) == [("reconciled", "approved"), ("confirmed", "approved")]
    assert office.found(run) == []


@pytest.mark.parametrize("kind", ["Authorised", "Settled"])
def test_another_amount_is_found_in_whichever_line_has_it(office: Office, kind: str) -> None:
    paid = office.charged()
    lines = {"Authorised": line(paid), "Settled": line(paid, "Settled", when=at(minutes=30))}
    lines[kind] = lines[kind].replace("10.99", "10.98")
    office.accounting(lines.values())

    run = office.run()

    (difference,) = office.differences.every(DifferenceFilter(run_id=run["id"]))
    assert (difference["kind"], difference["payment_id"]) == ("amount_differs", paid.id)
    assert difference["ours"]["amount"] == {"currency": "EUR", "value": 1099}
    assert difference["theirs"]["amount"] == {"currency": "EUR", "value": 1098}
    assert difference["source"].startswith(f"report:payments_accounting_report_{DAY:%Y_%m_%d}.csv:")


def test_another_currency_is_a_difference(office: Office) -> None:
    paid = office.charged()
    office.accounting([line(paid, currency="USD")])

    run = office.run()

    assert office.found(run) == [("currency_differs", paid.reference)]
    assert office.states(paid) == [("confirmed", "approved")]


def test_a_charge_that_the_books_refused_is_a_difference_and_disputed(office: Office) -> None:
    paid = office.charged()
    office.accounting([line(paid, "Refused")])

    run = office.run()

    assert office.found(run) == [("state_differs", paid.reference)]
    assert office.states(paid) == [("unknown", None)]
    assert whole(office, paid)


def test_a_charge_in_the_books_of_what_we_have_as_declined_is_a_difference(office: Office) -> None:
    with_psp, without = office.declined(psp_reference="A" * 16), office.declined()
    office.accounting([line(with_psp, psp="A" * 16), line(without)])

    run = office.run()

    assert office.found(run) == sorted([("state_differs", with_psp.reference), ("state_differs", without.reference)])
    assert office.found(office.run()) == office.found(run)


def test_a_charge_of_nobody_is_an_orphan_and_an_online_payment_is_not(office: Office) -> None:
    orphan, online = office.stranger(), office.stranger()
    header = office.accounting([]).read_text().strip() + ",Terminal ID"
    lines = [f"{line(orphan)},V400m-324688170", f"{line(online)},"]
    office.report(f"payments_accounting_report_{DAY:%Y_%m_%d}.csv", header, lines)

    assert office.found(office.run()) == [("orphan", orphan.reference)]


def test_without_a_column_of_terminals_every_strange_charge_is_an_orphan(office: Office) -> None:
    orphan, refused = office.stranger(), office.stranger()
    office.accounting([line(orphan), line(refused, "Refused")])

    assert office.found(office.run()) == [("orphan", orphan.reference)]


def test_a_second_charge_of_a_sale_is_missing_here(office: Office) -> None:
    paid = office.charged()
    office.accounting([line(paid), line(paid, psp="B" * 16, when=at(minutes=5))])

    run = office.run()

    assert [kind for kind, _ in office.found(run)] == ["missing_here"]
    assert office.states(paid) == [("reconciled", "approved")]


def test_a_line_that_is_there_twice_is_found_and_counted_once(office: Office) -> None:
    paid = office.charged()
    office.accounting([line(paid), line(paid)])

    run = office.run()

    assert office.found(run) == [("duplicate_line", paid.reference)]
    assert office.states(paid) == [("reconciled", "approved")]
    (difference,) = office.differences.every(DifferenceFilter(run_id=run["id"]))
    assert difference["source"] == f"report:payments_accounting_report_{DAY:%Y_%m_%d}.csv:3"


def test_the_same_line_in_two_reports_is_no_duplicate(office: Office) -> None:
    paid = office.charged()
    office.accounting([line(paid)])
    office.accounting([line(paid)], name=f"payments_accounting_report_{DAY + timedelta(1):%Y_%m_%d}.csv")

    assert office.found(office.run()) == []


@pytest.mark.parametrize(
    ("record_type", "kind"),
    [("Chargeback", "chargeback"), ("CaptureFailed", "capture_failed"), ("Expired", "expired")],
)
def test_what_happens_to_a_charge_later_is_a_difference_and_never_a_move(
    office: Office, record_type: str, kind: str
) -> None:
    paid = office.charged()
    office.accounting([line(paid), line(paid, record_type, when=at(minutes=20))])

    run = office.run()

    assert office.found(run) == [(kind, paid.reference)]
    assert office.states(paid) == [("reconciled", "approved")]
    assert office.found(office.run()) == [(kind, paid.reference)]


def test_a_charge_that_was_cancelled_without_us_is_disputed(office: Office) -> None:
    paid, declined = office.charged(), office.declined(psp_reference="C" * 16)
    office.accounting([
        line(paid), line(paid, "Cancelled", when=at(minutes=10)),
        line(declined, psp="C" * 16), line(declined, "Cancelled", psp="C" * 16, when=at(minutes=10)),
    ])  # fmt: skip

    run = office.run()

    assert office.states(paid, declined) == [("unknown", None), ("reconciled", "declined")]
    assert office.found(run) == [("state_differs", paid.reference)]
    assert office.found(office.run()) == office.found(run)


def test_a_refund_made_elsewhere_is_a_difference_and_lowers_what_is_left(office: Office) -> None:
    paid = office.charged()
    office.accounting([line(paid)])
    office.settlement([settled(paid, "Refunded", Money("EUR", 450), "W6BT9RRD3M2XQK41", "BY-HAND")])

    run = office.run()

    assert office.found(run) == [("refund_elsewhere", "BY-HAND")]
    assert office.shop.row(paid.id)["refunded_minor"] == 450
    assert office.found(office.run()) == [("refund_elsewhere", "BY-HAND")]
    assert office.shop.row(paid.id)["refunded_minor"] == 450


def test_a_refund_made_elsewhere_is_one_whichever_reports_tell_of_it(office: Office) -> None:
    paid = office.charged()
    lines = [line(paid), line(paid, "Refunded", minor=450, modification="BY-HAND", when=at(minutes=30))]
    office.accounting(lines)
    first = office.run()
    assert office.found(first) == [("refund_elsewhere", "BY-HAND")]

    office.settlement([settled(paid, "Refunded", Money("EUR", 450), "W6BT9RRD3M2XQK41", "BY-HAND")])
    second = office.run()

    rows = list(office.differences.every(DifferenceFilter(run_id=second["id"])))
    assert sorted((row["state"], row["psp_reference"]) for row in rows) == [
        ("closed", None),
        ("open", "W6BT9RRD3M2XQK41"),
    ]
    assert office.found(office.run()) == office.found(second)


def test_a_refund_of_ours_is_ended_by_the_line_that_names_it(desk: tuple[Office, RefundDesk]) -> None:
    office, pays_back = desk
    paid = office.charged()
    by_accounting, by_settlement, failing = (pays_back.sent(paid.id, minor) for minor in (100, 200, 300))
    first, second, third = (pays_back.row(each) for each in (by_accounting, by_settlement, failing))
    office.accounting([
        line(paid), line(paid, "SentForRefund", minor=100, modification=first["reference"], when=at(minutes=20)),
        line(paid, "Refunded", minor=100, modification=first["reference"], when=at(minutes=30)),
        line(paid, "RefundFailed", minor=300, modification=third["reference"], when=at(minutes=30)),
    ])  # fmt: skip
    office.settlement([settled(paid, "Refunded", Money("EUR", 200), second["psp_reference"], second["reference"])])

    run = office.run()

    assert [pays_back.state(each)[:2] for each in (by_accounting, by_settlement, failing)] == [
        ("reconciled", "refunded"), ("reconciled", "refunded"), ("reconciled", "failed"),
    ]  # fmt: skip
    assert office.found(run) == []
    assert office.states(paid) == [("reconciled", "approved")]
    assert not [problems for _, problems in verify_refunds(office.shop.database) if problems]


def test_a_refund_that_ends_as_a_cancellation_takes_nothing_from_the_payments_word(
    desk: tuple[Office, RefundDesk],
) -> None:
    office, pays_back = desk
    paid = office.charged()
    refund = pays_back.sent(paid.id, paid.minor)
    office.accounting([line(paid), line(paid, "Cancelled", when=at(minutes=30))])

    run = office.run()

    assert pays_back.state(refund)[:2] == ("reconciled", "cancelled")
    assert office.states(paid) == [("reconciled", "approved")]
    assert office.found(run) == []


def test_a_webhook_that_was_stored_and_never_processed_is_processed_by_the_run(office: Office) -> None:
    paid = office.charged()
    office.shop.sql(
        "INSERT INTO webhooks (digest, live, event_code, success, merchant_account, psp_reference, reference,"
        " currency, amount_minor, happened_at, unreadable) VALUES (%s, false, 'AUTHORISATION', true, %s, %s, %s,"
        " 'EUR', %s, now(), false)",
        secrets.token_hex(32), office.merchant, paid.psp, paid.reference, paid.minor,
    )  # fmt: skip

    run = office.run()

    assert office.states(paid) == [("reconciled", "approved")]
    assert office.found(run) == []
    assert office.shop.sql("SELECT became FROM webhooks WHERE psp_reference = %s", paid.psp) == [{"became": "recorded"}]


def test_a_difference_that_a_person_closed_is_not_opened_by_the_next_run(office: Office) -> None:
    office.charged()
    office.accounting([line(office.stranger())])
    run = office.run()
    for row in office.differences.every(DifferenceFilter(run_id=run["id"])):
        office.differences.change(row["id"], DifferenceState.CLOSED, by="Ann", note="seen")

    again = office.run()

    assert [row["state"] for row in office.differences.every(DifferenceFilter(run_id=again["id"]))] == ["closed"] * 2
    assert again["summary"]["differences"]["open"] == 0
    assert "No open difference." in again["summary"]["sentences"]


# -- what is read ------------------------------------------------------------------------------------------------------


def test_a_report_that_cannot_be_read_refuses_the_run_and_nothing_is_recorded(office: Office) -> None:
    paid = office.charged()
    good = office.accounting([line(paid)])
    bad = office.settlement([settled(paid, "Settled", Money("EUR", 1099), paid.psp), "Co,cut off"])

    run = office.run()

    assert (run["state"], run["summary"]) == ("refused", None)
    (problem,) = run["problems"]
    assert (problem["file"], problem["line"]) == (bad.name, 3)
    assert "cut off" in problem["problem"]
    assert office.states(paid) == [("confirmed", "approved")]
    assert office.shop.sql("SELECT name FROM alarms WHERE name = 'reconciliation_failed'")

    bad.unlink()
    assert office.run()["state"] == "done"
    assert office.states(paid) == [("reconciled", "approved")]
    assert good.exists()


def test_another_merchants_lines_are_named_and_left_out(office: Office) -> None:
    paid, theirs = office.charged(), office.stranger()
    office.accounting([line(paid), line(theirs, merchant="HillsideBooks")])

    run = office.run()

    assert run["state"] == "done"
    (report,) = run["reports"]
    assert (report["lines"], report["other_merchant_lines"], report["other_merchant_line_numbers"]) == (1, 1, [3])
    assert office.found(run) == []


def test_lines_of_other_days_are_left_to_the_runs_of_those_days(office: Office) -> None:
    orphan = office.stranger()
    office.accounting([line(orphan, when=at(days=1)), line(office.stranger(), "Refused")])

    assert office.found(office.run()) == []
    assert office.found(office.run(DAY + timedelta(1))) == [("orphan", orphan.reference)]


def test_types_that_are_not_known_are_counted_and_not_guessed(office: Office) -> None:
    paid = office.charged()
    office.accounting([line(paid, "Teleported"), line(office.stranger(), "Refused")])

    run = office.run()

    assert run["summary"]["unknown_line_types"] == {"Teleported": 1}
    assert office.found(run) == [("missing_there", paid.reference)]


def test_the_folder_is_searched_for_reports_of_the_period_alone(office: Office) -> None:
    paid = office.charged()
    office.accounting([line(paid)])
    office.accounting(["nonsense"], date(2025, 1, 1))
    (office.folder / "notes.csv").write_text("buy milk")
    (office.folder / f"payments_accounting_report_{DAY:%Y_%m_%d}.csv.part").write_text("half")

    run = office.run()

    assert (run["state"], [report["name"] for report in run["reports"]]) == (
        "done",
        [f"payments_accounting_report_{DAY:%Y_%m_%d}.csv"],
    )


def test_a_run_without_reports_says_that_nothing_was_compared(office: Office) -> None:
    office.charged()

    run = office.run()

    assert run["state"] == "done"
    assert any("Without a report" in sentence for sentence in run["summary"]["sentences"])


def test_named_reports_say_which_days_are_meant(office: Office, tmp_path: Path) -> None:
    paid = office.charged()
    report = office.accounting([line(paid)], name="whatever it is called.csv")
    wish = Wish(merchant_account=office.merchant, reports=(report,), ask=False)

    run = office.reconciler.ask(wish, "Ann")

    assert (run["first_day"], run["last_day"]) == (DAY, DAY)
    with pytest.raises(NoSuchReport):
        office.reconciler.ask(Wish(merchant_account=office.merchant, reports=(tmp_path / "none.csv",)), "Ann")
    with pytest.raises(NoSuchReport):
        office.reconciler.ask(Wish(merchant_account=office.merchant), "Ann")


# -- terminals, and the run itself -------------------------------------------------------------------------------------


def test_open_and_unknown_payments_are_asked_about_before_anything_is_compared(office: Office) -> None:
    unknown, pending = office.unknown(), office.sent()
    office.accounting([line(unknown)])

    def answer() -> None:
        """A worker: the terminal tells that it charged."""
        office.shop.recorder.record(unknown.id, approved(psp_reference=unknown.psp))

    worker = threading.Timer(0.3, answer)
    worker.start()
    office.run(ask=True)
    worker.join()

    asked = "SELECT payment_id FROM journal WHERE evidence = %s"
    assert {row["payment_id"] for row in office.shop.sql(asked, "check_asked")} == {unknown.id, pending.id}
    assert "check_status" in office.shop.kinds(pending.id)


def test_a_run_that_is_asked_for_twice_before_it_begins_is_one(office: Office) -> None:
    wish = Wish(merchant_account=office.merchant, first_day=DAY, last_day=DAY)

    first, second = office.reconciler.ask(wish, "Ann"), office.reconciler.ask(wish, "Ben")

    assert (first["id"], first["created"]) == (second["id"], True)
    assert (second["created"], second["started_by"]) == (False, "Ann")


def test_one_run_of_a_merchant_account_goes_at_a_time(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.store.matching.LOCK_WITHIN_S", 0.1)
    wish = Wish(merchant_account=office.merchant, first_day=DAY, last_day=DAY, ask=False)
    run = office.reconciler.ask(wish, "Ann")
    with matching(office.shop.database, office.merchant), pytest.raises(Busy):
        office.reconciler.go(run["id"], wish)
    with matching(office.shop.database, "Another"):
        ended = office.reconciler.go(run["id"], wish)

    assert ended
    assert ended["state"] == "done"
    assert office.reconciler.go(run["id"], wish) is None


def test_the_connection_is_given_back_as_it_was(office: Office) -> None:
    database = Database(office.shop.url, connections=1)
    with matching(database, MERCHANT):
        pass
    setting = database.one("SHOW enable_seqscan", {})
    left = database.one("SELECT count(*) AS n FROM pg_class WHERE relnamespace = pg_my_temp_schema()", {})
    with matching(database, MERCHANT):
        pass
    database.close()

    assert setting == {"enable_seqscan": "off"}
    assert left
    assert left["n"] == 0


def test_a_run_that_dies_in_the_middle_is_repeated_and_ends_as_if_it_had_not(office: Office) -> None:
    payments = [office.charged() for _ in range(12)]
    lost = office.charged()
    office.accounting([line(paid) for paid in payments])
    wish = Wish(merchant_account=office.merchant, first_day=DAY, last_day=DAY, ask=False)
    run = office.reconciler.ask(wish, "Ann")

    class Dying(Recorder):
        def record_many(self, evidence: Any) -> int:
            half = dict(list(evidence.items())[: len(evidence) // 2])
            super().record_many(half)
            message = "killed here"
            raise Defect(message)

    recorder = Dying(office.shop.store, office.shop.policy, office.shop.rung.extend)
    reconciler = office.reconciler
    again = office.webhooks.process_again
    dying = Reconciler(reconciler.runs, recorder, reconciler.booker, reconciler.policy, office.folder, again)
    with pytest.raises(Defect):
        dying.go(run["id"], wish)
    failed = office.runs.one(run["id"], None)
    assert failed
    assert failed["state"] == "failed"
    assert {state for state, _ in office.states(*payments)} == {"confirmed", "reconciled"}

    ended = reconciler.go(run["id"], wish)

    assert ended
    assert ended["state"] == "done"
    assert set(office.states(*payments)) == {("reconciled", "approved")}
    assert office.found(dict(ended)) == [("missing_there", lost.reference)]
    assert whole(office, *payments)


def test_a_payment_that_moves_while_the_run_goes_on_is_decided_anew(office: Office) -> None:
    payments = [office.charged() for _ in range(30)]
    office.accounting([line(paid) for paid in payments])

    def meanwhile() -> None:
        for paid in payments:
            office.shop.recorder.record(paid.id, CheckAsked(asked_by="somebody"))

    thread = threading.Thread(target=meanwhile)
    thread.start()
    office.run()
    thread.join()

    assert set(office.states(*payments)) == {("reconciled", "approved")}
    assert whole(office, *payments)


def test_who_listens_is_told_that_a_run_has_ended(office: Office) -> None:
    reconciler = office.reconciler
    telling = Reconciler(
        reconciler.runs, reconciler.recorder, reconciler.booker, reconciler.policy, office.folder,
        office.webhooks.process_again, "https://shop.example/hooks",
    )  # fmt: skip
    wish = Wish(merchant_account=office.merchant, first_day=DAY, last_day=DAY, ask=False)
    run = telling.ask(wish, "Ann")
    telling.go(run["id"], wish)

    (told,) = office.shop.sql("SELECT * FROM tellings WHERE merchant_account = %s", office.merchant)
    assert told["type"] == "reconciliation.completed"
    assert (told["data"]["id"], told["data"]["state"]) == (str(run["id"]), "done")
    assert [ring.kind for ring in office.shop.rung if ring.payment_id is None][-1:] == ["tell_caller"]


def test_nothing_of_a_report_is_kept_but_what_is_a_difference(office: Office) -> None:
    paid = office.charged()
    office.accounting(
        [line(paid), line(office.stranger(), reference="card 4111111111111111", psp=uuid4().hex[:16].upper())]
    )

    office.run()

    for table in ("differences", "reconciliation_runs", "journal_details"):
        assert "4111111111111111" not in str(office.shop.sql(f"SELECT * FROM {table}"))
