"""Recording many at once is recording each: the same rows, the same words in the journal, and chains that verify."""

import secrets
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest

from orchestrator.commands import CommandKind
from orchestrator.evidence import AnswerWindowPassed, BooksEntry, Evidence, ReportSilent
from orchestrator.store.batches import Batches
from orchestrator.store.chain import verify_chain
from orchestrator.store.database import Conflict
from tests.factories import AMOUNT, LATER, OTHER_PSP, PSP, approved, authorisation, books, failed
from tests.integration.store_support import Shop, all_at_once, shop_in

pytestmark = pytest.mark.integration

#: What a row and a line say, beside what is drawn or told by the clock.
ROW = ("state", "outcome", "reason", "sequence", "authorised_minor", "psp_reference", "late", "provisional", "books")
LINE = ("sequence", "evidence", "event", "before", "after", "digest", "detail")


@pytest.fixture(scope="module")
def shop(postgres_url: str) -> Iterator[Shop]:
    with shop_in(postgres_url) as opened:
        yield opened


def sent(shop: Shop) -> UUID:
    payment = shop.pay(shop.terminal())
    shop.send(payment)
    return payment


def charged(shop: Shop) -> UUID:
    payment = sent(shop)
    shop.recorder.record(payment, approved())
    return payment


def declined(shop: Shop) -> UUID:
    payment = sent(shop)
    shop.recorder.record(payment, failed())
    return payment


def unknown(shop: Shop) -> UUID:
    payment = sent(shop)
    shop.recorder.record(payment, AnswerWindowPassed())
    return payment


def not_performed(shop: Shop) -> UUID:
    payment = sent(shop)
    shop.recorder.record(payment, failed("DeviceOut"))
    return payment


def reconciled(shop: Shop) -> UUID:
    payment = charged(shop)
    shop.recorder.record(payment, authorisation())
    return payment


CASES: dict[str, tuple[Any, Evidence]] = {
    "a charge that the books confirm": (charged, authorisation(effective_at=LATER, digest="a" * 64)),
    "one that was confirmed before": (reconciled, authorisation(effective_at=LATER, digest="a" * 64)),
    "another amount": (charged, authorisation(amount=type(AMOUNT)("EUR", 7), digest="a" * 64)),
    "another charge": (charged, authorisation(psp_reference=OTHER_PSP, digest="a" * 64)),
    "a refusal of what was charged": (charged, authorisation(success=False, digest="a" * 64)),
    "a refusal of what was declined": (declined, authorisation(success=False, digest="a" * 64)),
    "a charge of what was declined": (declined, authorisation(digest="a" * 64)),
    "a charge of an unknown": (unknown, authorisation(digest="a" * 64)),
    "a charge of what was not performed": (not_performed, authorisation(digest="a" * 64)),
    "a charge of what is under way": (sent, authorisation(digest="a" * 64)),
    "a cancellation": (charged, books(BooksEntry.CANCELLED, digest="a" * 64)),
    "silence about what was declined": (declined, ReportSilent(source="report:2025-03-14", digest="a" * 64)),
    "silence about what was not performed": (not_performed, ReportSilent(source="report:x", digest="a" * 64)),
    "silence about a charge": (charged, ReportSilent(source="report:2025-03-14", digest="a" * 64)),
    "a refusal that covers the day": (unknown, authorisation(success=False, covers_day=True, digest="a" * 64)),
}


def said(shop: Shop, payment: UUID) -> tuple[Any, ...]:
    row = shop.row(payment)
    lines = shop.sql(
        "SELECT * FROM journal JOIN journal_details USING (payment_id, sequence)"
        " WHERE payment_id = %s ORDER BY sequence",
        payment,
    )
    commands = shop.sql("SELECT kind FROM commands WHERE payment_id = %s ORDER BY kind", payment)
    alarms = shop.sql("SELECT name FROM alarms WHERE payment_id = %s ORDER BY name", payment)
    return (
        [row[name] for name in ROW],
        (row["concluded_at"] is None, row["reconciled_at"] is None),
        [[line[name] for name in LINE] for line in lines[1:]],
        commands,
        alarms,
    )


@pytest.mark.parametrize(("make", "evidence"), CASES.values(), ids=CASES)
def test_together_says_what_one_by_one_says(shop: Shop, make: Any, evidence: Evidence) -> None:
    alone, among_others = make(shop), make(shop)

    shop.recorder.record(alone, evidence)
    assert shop.recorder.record_many({among_others: evidence}) == 1

    assert said(shop, among_others) == said(shop, alone)
    assert verify_chain(shop.database, among_others) == []


def test_hundreds_of_different_kinds_go_together(shop: Shop) -> None:
    payments = {make(shop): evidence for make, evidence in CASES.values() for _ in range(3)}

    assert shop.recorder.record_many(payments) == len(payments)

    assert [verify_chain(shop.database, payment) for payment in payments] == [[]] * len(payments)


def test_the_same_evidence_again_changes_nothing(shop: Shop) -> None:
    payment = charged(shop)
    evidence = {payment: authorisation(digest=secrets.token_hex(32))}
    shop.recorder.record_many(evidence)
    before = said(shop, payment)

    assert shop.recorder.record_many(evidence) == 0
    assert said(shop, payment) == before


def test_a_caller_who_listens_is_told_of_a_correction(shop: Shop) -> None:
    payment = shop.pay(shop.terminal(), callback_url="https://shop.example/hooks")
    shop.send(payment)
    shop.recorder.record(payment, failed("DeviceOut"))

    shop.recorder.record_many({payment: authorisation()})

    told = shop.sql("SELECT type FROM tellings WHERE payment_id = %s ORDER BY sequence", payment)
    assert [each["type"] for each in told] == ["payment.confirmed", "payment.reconciled"]
    assert CommandKind.TELL_CALLER in shop.kinds(payment)


def test_a_payment_that_moved_meanwhile_is_decided_anew(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    payment, other = declined(shop), charged(shop)
    load = Batches.load

    def and_then_it_moves(self: Batches, payment_ids: Any) -> Any:
        loaded = load(self, payment_ids)
        shop.recorder.record(payment, authorisation(success=False, psp_reference=PSP))
        return loaded

    monkeypatch.setattr(Batches, "load", and_then_it_moves)
    shop.recorder.record_many({payment: ReportSilent(source="report:x"), other: authorisation()})

    assert shop.row(payment)["state"] == shop.row(other)["state"] == "reconciled"
    assert shop.row(payment)["reason"] is None
    assert [verify_chain(shop.database, each) for each in (payment, other)] == [[], []]


def test_a_batch_that_the_database_refuses_is_recorded_one_by_one(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    payments = {charged(shop): authorisation() for _ in range(3)}

    def refuse(self: Batches, writes: Any) -> Any:
        raise Conflict("journal_digest")

    monkeypatch.setattr(Batches, "record", refuse)
    shop.recorder.record_many(payments)

    assert {shop.row(payment)["state"] for payment in payments} == {"reconciled"}


def test_two_who_record_the_same_leave_one_line(shop: Shop) -> None:
    payments = [charged(shop) for _ in range(20)]
    evidence = {payment: authorisation(digest=secrets.token_hex(32)) for payment in payments}

    all_at_once(*[lambda: shop.recorder.record_many(evidence)] * 4)

    lines = shop.sql(
        "SELECT count(*) AS n FROM journal WHERE payment_id = ANY (%s) AND evidence = 'books_reported'", payments
    )
    assert lines[0]["n"] == len(payments)
    assert [verify_chain(shop.database, payment) for payment in payments] == [[]] * len(payments)
