"""Retention: what is left of payloads goes, the proof stays, and nothing that somebody may still need is touched.

Nobody can age a journal, so the runs here expunge what is older than tomorrow.
"""

import json
import secrets
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.types.json import Json

from orchestrator.commands import CommandKind
from orchestrator.evidence import AnswerWindowPassed, BooksEntry, BooksReported, CheckAsked, Ruled
from orchestrator.model import Money, Outcome
from orchestrator.refunds.evidence import RefundEntry
from orchestrator.store.chain import verify_all, verify_chain
from orchestrator.store.differences import DifferenceStore
from orchestrator.store.receipts import ReceiptStore
from orchestrator.store.refund_chain import verify_refunds
from orchestrator.store.retention import Expunged, RetentionBusy, RetentionStore
from orchestrator.store.tellings import TellingStore
from orchestrator.store.words import DifferenceKind, DifferenceState
from tests.factories import PSP, approved, missing
from tests.integration.books_support import Office, line
from tests.integration.refund_support import RefundDesk
from tests.integration.store_support import MERCHANT, Shop, shop_in
from tests.services import libpq_url

pytestmark = pytest.mark.integration

TOMORROW = -1
LONG_AGO = 3650


@pytest.fixture(scope="module")
def one_shop(postgres_url: str) -> Iterator[Shop]:
    with shop_in(postgres_url) as opened:
        yield opened


@pytest.fixture
def shop(one_shop: Shop) -> Shop:
    """A shop in which nothing has happened yet."""
    tables = "payments, refunds, tellings, differences, journal_details, refund_journal_details, retention_runs"
    others = "strays, rejections, webhooks, webhook_quarantine, terminal_events"
    with psycopg.connect(libpq_url(one_shop.url), autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")  # nothing else may forget a payment
        connection.execute(f"TRUNCATE {tables}, {others} CASCADE".encode())
    return one_shop


def run(shop: Shop, days: int | None = TOMORROW, *, dry_run: bool = False) -> Expunged:
    return RetentionStore(shop.database).run(days, "test", dry_run=dry_run)


def charged(shop: Shop, **body: Any) -> UUID:
    """A payment with a card, a shopper and receipts, of which the caller was told."""
    body = {"shopper_reference": "shopper-7", "metadata": {"table": "4"}, "sale_reference_id": "sale-1"} | body
    payment = shop.pay(shop.terminal(), **body)
    assert shop.claim(payment)
    said = approved(digest=secrets.token_hex(32), auth_code="123456", tip_minor=None)
    shop.recorder.record(payment, said)
    shop.sql(
        "INSERT INTO receipts (payment_id, receipts) VALUES (%s, %s)", payment, Json([{"lines": ["MASTERCARD 9999"]}])
    )
    tell(shop, payment, delivered=True)
    return payment


def tell(shop: Shop, payment: UUID | None, *, delivered: bool, data: Any = None) -> UUID:
    """A callback of a payment, or of none."""
    rows = shop.sql(
        "INSERT INTO tellings (payment_id, merchant_account, sequence, type, at, url, data, delivered_at, parked_at)"
        " VALUES (%s, %s, %s, 'payment.confirmed', now(), 'https://shop.example/', %s,"
        " CASE WHEN %s THEN now() END, CASE WHEN %s THEN now() END) RETURNING id",
        payment, MERCHANT, payment and secrets.randbelow(1000), Json(data or {"card": {"last4": "9999"}}),
        delivered, not delivered,
    )  # fmt: skip
    return UUID(str(rows[0]["id"]))


def details(shop: Shop, payment: UUID) -> list[str]:
    """The kinds of evidence that still have their detail."""
    rows = shop.sql(
        "SELECT evidence FROM journal JOIN journal_details USING (payment_id, sequence) WHERE payment_id = %s"
        " ORDER BY sequence", payment,
    )  # fmt: skip
    return [row["evidence"] for row in rows]


def all_of(shop: Shop, payment: UUID) -> list[list[dict[str, Any]]]:
    """Everything that is stored about a payment."""
    tables = ("journal_details", "journal", "receipts", "tellings")
    return [
        shop.sql("SELECT * FROM payments WHERE id = %s", payment),
        *(shop.sql(f"SELECT * FROM {table} WHERE payment_id = %s ORDER BY 2, 3", payment) for table in tables),
    ]


# -- what goes, what stays ---------------------------------------------------------------------------------------------


def test_payload_goes_and_the_proof_stays(shop: Shop) -> None:
    payment = charged(shop)
    before, lines = shop.row(payment), shop.sql("SELECT * FROM journal WHERE payment_id = %s", payment)

    expunged = run(shop)

    found = {name: count for name, count in expunged.counts.items() if count}
    assert found == {"payments": 1, "journal_details": 3, "callbacks": 1, "receipts": 1}
    assert details(shop, payment) == []
    assert shop.sql("SELECT * FROM journal WHERE payment_id = %s", payment) == lines
    assert verify_chain(shop.database, payment) == []
    after = shop.row(payment)
    assert {name for name in after if after[name] != before[name]} == {"options", "result", "read_at"}
    assert after["options"] == {"sale_reference_id": "sale-1"}
    assert not [name for name in after["result"] if name.startswith(("card", "auth"))]
    assert ReceiptStore(shop.database).of(payment) is None
    assert "9999" not in json.dumps(all_of(shop, payment), default=str)


def test_what_is_young_stays_as_it_is(shop: Shop) -> None:
    payment = charged(shop)
    tell(shop, None, delivered=True)
    shop.sql("INSERT INTO strays (digest, why) VALUES ('d', 'unknown terminal')")
    before = all_of(shop, payment)

    assert not any(run(shop, days=LONG_AGO).counts.values())

    assert all_of(shop, payment) == before


def test_what_came_long_after_the_conclusion_stays_for_its_own_time(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.store.retention._CLOCKS_DIFFER", timedelta(days=365))
    payment = charged(shop)
    shop.sql("UPDATE payments SET concluded_at = now() - interval '90 days' WHERE id = %s", payment)
    before = all_of(shop, payment)[1:]

    run(shop, days=30)

    assert all_of(shop, payment)[1:] == before
    assert shop.row(payment)["options"] == {"sale_reference_id": "sale-1"}


def test_a_dry_run_counts_the_same_and_changes_nothing(shop: Shop) -> None:
    payment = charged(shop)
    tell(shop, None, delivered=True)
    shop.sql("INSERT INTO strays (digest, why) VALUES ('d', 'unknown terminal')")
    before = all_of(shop, payment)

    would = run(shop, dry_run=True)

    assert (all_of(shop, payment), shop.sql("SELECT * FROM retention_runs")) == (before, [])
    assert run(shop).counts == would.counts
    assert would.counts["callbacks"] == 2


def test_a_second_run_finds_nothing(shop: Shop) -> None:
    charged(shop)
    run(shop)

    assert not any(run(shop).counts.values())


def test_it_goes_on_past_what_one_batch_holds(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.store.retention._BATCH", 2)
    monkeypatch.setattr("orchestrator.store.retention._DELETED_AT_ONCE", 2)
    waiting = [shop.pay(shop.terminal()) for _ in range(3)]
    payments = [charged(shop) for _ in range(5)]
    shop.sql("INSERT INTO strays (digest, why) SELECT n::text, 'unknown terminal' FROM generate_series(1, 5) AS n")

    counts = run(shop).counts

    assert (counts["payments"], counts["strays"]) == (5, 5)
    assert [details(shop, payment) for payment in payments] == [[]] * 5
    assert [details(shop, payment) for payment in waiting] == [["submission_accepted"]] * 3


def test_a_run_says_what_it_did(shop: Shop) -> None:
    charged(shop)

    expunged = run(shop)

    (row,) = shop.sql("SELECT * FROM retention_runs")
    assert (row["cutoff"], row["started_by"], row["expunged"]) == (expunged.cutoff, "test", expunged.counts)
    assert row["finished_at"] is not None


def test_without_the_setting_only_what_has_a_term_of_its_own_goes(shop: Shop) -> None:
    payment = charged(shop)
    shop.sql("INSERT INTO strays (digest, why, last_at) VALUES ('d', 'x', now() - interval '10 years')")
    for age in ("29 days", "31 days"):
        shop.sql(
            "INSERT INTO rejections (merchant_account, idempotency_key, reference, problem, detail, at)"
            f" VALUES ('M', 'k', 'r', 'payment-open', 'd', now() - interval '{age}')"
        )
        shop.sql(
            "INSERT INTO webhook_quarantine (digest, size_bytes, last_at)"
            f" VALUES ('{age}', 0, now() - interval '{age}')"
        )
    for hours in (47, 49):
        shop.sql(
            "INSERT INTO terminal_events (poi_id, kind, name, at)"
            f" VALUES ('AMS1-1', 'display', 'TENDER_CREATED', now() - interval '{hours} hours')"
        )
    before = all_of(shop, payment)

    expunged = run(shop, days=None)

    assert expunged.cutoff is None
    assert expunged.counts == {"rejections": 1, "quarantine": 1, "terminal_events": 1}
    assert all_of(shop, payment) == before
    assert len(shop.sql("SELECT 1 FROM strays")) == 1


# -- what somebody may still need --------------------------------------------------------------------------------------


def open_unknown(shop: Shop) -> UUID:
    payment = shop.pay(shop.terminal())
    assert shop.claim(payment)
    shop.recorder.record(payment, missing())
    shop.recorder.record(payment, AnswerWindowPassed())
    return payment


def watched(shop: Shop) -> UUID:
    """Ruled as not charged: the sentinel goes on looking."""
    payment = open_unknown(shop)
    shop.recorder.record(payment, Ruled(outcome=Outcome.NOT_PERFORMED, ruled_by="Mira", reason="the shopper paid cash"))
    assert shop.row(payment)["outcome"] == "not_performed"
    assert CommandKind.CHECK_STATUS in shop.kinds(payment)
    return payment


def disputed(shop: Shop) -> UUID:
    """The books have another amount."""
    payment = charged(shop)
    differ(shop, payment)
    return payment


def differ(shop: Shop, payment: UUID | None, psp_reference: str | None = None) -> UUID:
    DifferenceStore(shop.database).open(
        merchant_account=MERCHANT, kind=DifferenceKind.CHARGEBACK, source="webhook:CHARGEBACK", payment_id=payment,
        psp_reference=psp_reference,
    )  # fmt: skip
    (row,) = shop.sql("SELECT id FROM differences ORDER BY number DESC LIMIT 1")
    return UUID(str(row["id"]))


def being_refunded(shop: Shop) -> UUID:
    payment = charged(shop)
    RefundDesk(shop).sent(payment)
    return payment


def being_told(shop: Shop) -> UUID:
    payment = charged(shop)
    shop.sql(
        "INSERT INTO commands (payment_id, kind, due_at, ring_at) VALUES (%s, 'tell_caller', now(), now())", payment
    )
    return payment


def concluded_lately(shop: Shop) -> UUID:
    """Its first lines are old enough, its conclusion is not."""
    payment = charged(shop)
    shop.sql("UPDATE payments SET concluded_at = now() + interval '2 days' WHERE id = %s", payment)
    return payment


def reconciled_lately(shop: Shop) -> UUID:
    payment = charged(shop)
    shop.sql(
        "UPDATE payments SET state = 'reconciled', reconciled_at = now() + interval '2 days' WHERE id = %s", payment
    )
    return payment


NEEDED = [open_unknown, watched, disputed, being_refunded, being_told, concluded_lately, reconciled_lately]


@pytest.mark.parametrize("needed", NEEDED)
def test_what_is_still_needed_is_left_alone(shop: Shop, needed: Any) -> None:
    payment = needed(shop)
    before = all_of(shop, payment)

    assert run(shop).counts["payments"] == 0

    assert all_of(shop, payment) == before


def test_a_difference_that_was_closed_needs_nothing_any_more(shop: Shop) -> None:
    payment = charged(shop)
    found = differ(shop, payment)
    differences = DifferenceStore(shop.database)
    differences.change(found, DifferenceState.EXPLAINED, by="Mira", note="asked the bank", merchant_account=None)
    assert run(shop).counts["payments"] == 0

    differences.change(found, DifferenceState.CLOSED, by="Mira", note="paid back", merchant_account=None)

    assert run(shop).counts["payments"] == 1


def test_who_ruled_and_why_stays(shop: Shop) -> None:
    payment = watched(shop)
    shop.sql("DELETE FROM commands WHERE payment_id = %s", payment)  # the sentinel has looked for the last time

    run(shop)

    assert details(shop, payment) == ["ruled"]
    assert verify_chain(shop.database, payment) == []


def test_a_payment_that_somebody_moves_meanwhile_is_passed_over(shop: Shop) -> None:
    moved, other = charged(shop), charged(shop)
    with psycopg.connect(libpq_url(shop.url)) as connection:
        connection.execute("SELECT 1 FROM payments WHERE id = %s FOR UPDATE", [moved])

        assert run(shop).counts["payments"] == 1

    assert (details(shop, moved) != [], details(shop, other)) == (True, [])
    assert run(shop).counts["payments"] == 1


def test_only_one_run_goes_at_a_time(shop: Shop) -> None:
    with psycopg.connect(libpq_url(shop.url), autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(hashtextextended('retention', 0))")
        with pytest.raises(RetentionBusy):
            run(shop)
        connection.execute("SELECT pg_advisory_unlock_all()")

        run(shop)


# -- what works afterwards ---------------------------------------------------------------------------------------------


def test_evidence_that_comes_later_is_recorded_and_goes_with_the_next_run(shop: Shop) -> None:
    payment = charged(shop)
    run(shop)

    books = BooksReported(
        entry=BooksEntry.AUTHORISED, source="webhook:AUTHORISATION", psp_reference=PSP, amount=Money("EUR", 1099),
        effective_at="2025-03-14T09:00:12.000000Z", digest=secrets.token_hex(32),
    )  # fmt: skip
    shop.recorder.record(payment, books)

    assert (shop.row(payment)["state"], details(shop, payment)) == ("reconciled", ["books_reported"])
    assert verify_chain(shop.database, payment) == []
    assert run(shop).counts["journal_details"] == 1
    assert verify_chain(shop.database, payment) == []
    shop.recorder.record(payment, books)
    assert shop.row(payment)["sequence"] == 4  # it is known by its digest all the same


def test_the_same_submission_still_finds_its_payment(shop: Shop) -> None:
    poi_id, body = shop.terminal(), {"metadata": {"table": "4"}, "amount": {"currency": "EUR", "value": 1099}}
    envelope = {"merchant_account": MERCHANT, "idempotency_key": "once"}
    first = shop.intake.submit({**body, "reference": "once", "poi_id": poi_id}, envelope)
    payment = UUID(str(first.row["id"]))
    assert shop.claim(payment)
    shop.approve(payment)
    assert run(shop).counts["payments"] == 1

    again = shop.intake.submit({**body, "reference": "once", "poi_id": poi_id}, envelope)

    assert again.row["id"] == payment


@pytest.mark.parametrize("kept_in", ["the result", "the journal"])
def test_a_payment_can_still_be_refunded(shop: Shop, kept_in: str) -> None:
    payment = charged(shop)
    if kept_in == "the journal":  # as where the books had concluded
        shop.sql("UPDATE payments SET result = NULL WHERE id = %s", payment)
    run(shop)
    desk = RefundDesk(shop)

    desk.sent(payment)

    (message,) = desk.wire.sent
    original = message["SaleToPOIRequest"]["ReversalRequest"]["OriginalPOITransaction"]["POITransactionID"]
    assert original == {"TransactionID": f"BV5k001741942800003.{PSP}", "TimeStamp": "2025-03-14T09:00:12.000Z"}


def test_refunds_lose_what_their_journals_rest_on_too(shop: Shop) -> None:
    payment, refund = paid_back(shop)
    lines = shop.sql("SELECT sequence FROM refund_journal ORDER BY sequence")

    counts = run(shop).counts

    assert (counts["refunds"], counts["payments"]) == (1, 1)
    assert shop.sql("SELECT 1 FROM refund_journal_details") == []
    assert dict(verify_refunds(shop.database)) == {refund: []}
    assert RetentionStore(shop.database).emptied_lines_of(payment) == {
        payment: [1, 2, 3],
        refund: [row["sequence"] for row in lines],
    }
    assert RetentionStore(shop.database).emptied_lines() == counts["journal_details"]


def test_a_report_that_is_read_again_misses_nothing_that_an_earlier_one_had(shop: Shop, tmp_path: Path) -> None:
    office = Office(shop, tmp_path)
    paid = office.charged()
    first = office.accounting([line(paid)])
    office.run()
    assert office.states(paid) == [("reconciled", "approved")]
    assert run(shop).counts["payments"] == 1
    first.unlink()
    office.accounting([line(office.stranger())])

    assert "missing_there" not in [kind for kind, _ in office.found(office.run())]


def paid_back(shop: Shop) -> tuple[UUID, UUID]:
    """A payment, and a refund of it that the books have confirmed."""
    desk = RefundDesk(shop)
    payment = desk.charged()
    refund = desk.sent(payment)
    desk.book(refund, RefundEntry.REFUNDED)
    shop.sql("DELETE FROM commands WHERE refund_id = %s", refund)
    return payment, refund


def refund_being_told(shop: Shop, _payment: UUID, refund: UUID) -> None:
    shop.sql("INSERT INTO commands (refund_id, kind, due_at, ring_at) VALUES (%s, 'tell_caller', now(), now())", refund)


def refund_that_differs(shop: Shop, _payment: UUID, refund: UUID) -> None:
    found = differ(shop, None)
    shop.sql("UPDATE differences SET refund_id = %s WHERE id = %s", refund, found)


def payment_that_differs(shop: Shop, payment: UUID, _refund: UUID) -> None:
    differ(shop, payment)


def concluded_lately_too(shop: Shop, _payment: UUID, refund: UUID) -> None:
    shop.sql("UPDATE refunds SET concluded_at = now() + interval '2 days' WHERE id = %s", refund)


@pytest.mark.parametrize("need", [refund_being_told, refund_that_differs, payment_that_differs, concluded_lately_too])
def test_a_refund_that_is_still_needed_is_left_alone(shop: Shop, need: Any) -> None:
    payment, refund = paid_back(shop)
    need(shop, payment, refund)
    kept = "SELECT * FROM refund_journal_details ORDER BY sequence"
    before = shop.sql(kept)

    assert run(shop).counts["refunds"] == 0

    assert shop.sql(kept) == before


def test_a_callback_that_was_emptied_cannot_be_told_again(shop: Shop) -> None:
    payment = charged(shop)
    run(shop)
    (row,) = shop.sql("SELECT id, delivered_at FROM tellings WHERE payment_id = %s", payment)

    assert TellingStore(shop.database).redeliver(row["id"], None) is None

    assert row["delivered_at"] is not None  # that the caller heard stays on record


def test_a_callback_that_never_arrived_is_kept(shop: Shop) -> None:
    payment = charged(shop)
    parked, rejected = tell(shop, payment, delivered=False), tell(shop, None, delivered=False)

    run(shop)

    assert TellingStore(shop.database).redeliver(parked, None)
    assert TellingStore(shop.database).redeliver(rejected, None)


# -- the proof ---------------------------------------------------------------------------------------------------------


def test_a_detail_that_retention_did_not_take_shows(shop: Shop) -> None:
    run(shop, days=LONG_AGO)
    payment = charged(shop)
    shop.sql("DELETE FROM journal_details WHERE payment_id = %s AND sequence = 3", payment)

    assert any("Line 3 has lost its detail" in problem for problem in verify_chain(shop.database, payment))


def test_a_row_that_was_changed_after_its_details_went_shows(shop: Shop) -> None:
    payment = charged(shop)
    run(shop)
    shop.sql("UPDATE payments SET state = 'reconciled', reconciled_at = now() WHERE id = %s", payment)

    assert verify_chain(shop.database, payment) == ["The payment is reconciled, and its last line says confirmed."]


def test_a_broken_journal_keeps_everything(shop: Shop) -> None:
    broken, whole = charged(shop), charged(shop)
    shop.sql("UPDATE journal_details SET detail = '{}' WHERE payment_id = %s AND sequence = 3", broken)
    before = all_of(shop, broken)

    expunged = run(shop)

    assert (expunged.broken, expunged.counts["payments"]) == ([broken], 1)
    assert all_of(shop, broken) == before
    assert [each for each, problems in verify_all(shop.database) if problems] == [broken]
    assert details(shop, whole) == []


# -- webhooks ----------------------------------------------------------------------------------------------------------


def webhook(shop: Shop, became: str | None = "recorded", payment: UUID | None = None, **members: Any) -> int:
    """A webhook that was stored."""
    values = {"psp_reference": uuid4().hex[:16], "original_reference": None, "refund_id": None, **members}
    (row,) = shop.sql(
        "INSERT INTO webhooks (digest, event_code, unreadable, merchant_account, psp_reference, original_reference,"
        " became, processed_at, payment_id, refund_id) VALUES (%s, 'AUTHORISATION', false, %s, %s, %s, %s,"
        " CASE WHEN %s::text IS NOT NULL THEN now() END, %s, %s) RETURNING number",
        secrets.token_hex(32), MERCHANT, values["psp_reference"], values["original_reference"], became, became, payment,
        values["refund_id"],
    )  # fmt: skip
    return int(row["number"])


def test_webhooks_go_unless_somebody_may_still_look_at_them(shop: Shop) -> None:
    differ(shop, None, "AAAA0000BBBB1111")
    differed = charged(shop)
    differ(shop, differed)
    desk = RefundDesk(shop)
    kept = {
        webhook(shop, None),
        webhook(shop, payment=open_unknown(shop)),
        webhook(shop, refund_id=desk.sent(desk.charged())),
        webhook(shop, "difference", payment=differed),
        webhook(shop, "difference", psp_reference="AAAA0000BBBB1111"),
        webhook(shop, "difference", original_reference="AAAA0000BBBB1111"),
    }
    webhook(shop, payment=charged(shop))
    webhook(shop, "ignored")
    webhook(shop, "difference")

    assert run(shop, days=LONG_AGO).counts["webhooks"] == 0
    assert run(shop).counts["webhooks"] == 3

    assert {row["number"] for row in shop.sql("SELECT number FROM webhooks")} == kept


def test_a_payment_that_is_only_asked_about_again_is_needed(shop: Shop) -> None:
    payment = open_unknown(shop)
    shop.recorder.record(payment, CheckAsked(asked_by="Mira"))

    assert run(shop).counts["payments"] == 0
