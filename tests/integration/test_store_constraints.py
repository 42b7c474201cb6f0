"""What code might forget, the schema enforces: each constraint, tried from raw SQL on the oldest and newest server."""

import secrets
from collections.abc import Callable
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import errors, sql

from orchestrator.evidence import AnswerWindowPassed
from orchestrator.store import revisions, schema
from orchestrator.store.chain import verify_chain
from tests.factories import failed
from tests.integration.servers import shop as shop  # noqa: PLC0414  # a fixture
from tests.integration.store_support import Shop, all_at_once
from tests.services import libpq_url

pytestmark = pytest.mark.integration

#: What an insert by hand says; each test overrides what it is about.
_ROW = {
    "merchant_account": "HarbourBakery", "fingerprint": "0" * 64, "reference": "sale-1", "poi_id": "V400m-1",
    "sale_id": "Till4", "transport": "async", "currency": "EUR", "amount_minor": 100, "journal_hash": "0" * 64,
}  # fmt: skip


def insert(shop: Shop, **overrides: object) -> UUID:
    """Put a row into payments by hand."""
    drawn = {"id": uuid4(), "idempotency_key": secrets.token_hex(8), "service_id": secrets.token_hex(5)}
    values = {**_ROW, **drawn, **overrides}
    with psycopg.connect(libpq_url(shop.url), autocommit=True) as connection:
        connection.execute(
            sql.SQL("INSERT INTO payments ({}, send_by) VALUES ({}, now())").format(
                sql.SQL(", ").join(map(sql.Identifier, values)), sql.SQL(", ").join([sql.Placeholder()] * len(values))
            ),
            list(values.values()),
        )
    return UUID(str(values["id"]))


def test_a_row_that_breaks_no_rule_goes_in(shop: Shop) -> None:
    """Without this, every refusal below could be another one's."""
    assert shop.row(insert(shop))["state"] == "pending"


# -- what a row may say ------------------------------------------------------------------------------------------------

REFUSED_ROWS = {
    "a state that does not exist": ({"state": "settled"}, "payments_state"),
    "an outcome that does not exist": (
        {"state": "confirmed", "outcome": "paid", "concluded_at": "2026-01-01T00:00Z"}, "payments_outcome",
    ),
    "a reason that does not exist": ({"reason": "because"}, "payments_reason"),
    "a transport that does not exist": ({"transport": "pigeon"}, "payments_transport"),
    "an outcome while it is pending": (
        {"outcome": "declined", "concluded_at": "2026-01-01T00:00Z"}, "payments_outcome_by_state",
    ),
    "an outcome while it is unknown": (
        {"state": "unknown", "outcome": "declined", "concluded_at": "2026-01-01T00:00Z"}, "payments_outcome_by_state",
    ),
    "confirmed without an outcome": ({"state": "confirmed"}, "payments_outcome_by_state"),
    "reconciled without an outcome": (
        {"state": "reconciled", "reconciled_at": "2026-01-01T00:00Z"}, "payments_outcome_by_state",
    ),
    "an outcome without its instant": ({"state": "confirmed", "outcome": "declined"}, "payments_concluded"),
    "an instant of conclusion without an outcome": ({"concluded_at": "2026-01-01T00:00Z"}, "payments_concluded"),
    "reconciled without its instant": (
        {"state": "reconciled", "outcome": "declined", "concluded_at": "2026-01-01T00:00Z"}, "payments_reconciled",
    ),
    "an instant of reconciliation without the state": ({"reconciled_at": "2026-01-01T00:00Z"}, "payments_reconciled"),
    "approved without an amount": (
        {"state": "confirmed", "outcome": "approved", "concluded_at": "2026-01-01T00:00Z"}, "payments_authorised",
    ),
    "declined with an amount": (
        {"state": "confirmed", "outcome": "declined", "concluded_at": "2026-01-01T00:00Z", "authorised_minor": 1},
        "payments_authorised",
    ),
    "an amount while it is pending": ({"authorised_minor": 1}, "payments_authorised"),
    "sent without an answer window": ({"sent_at": "2026-01-01T00:00Z"}, "payments_answer_by"),
    "an answer window without being sent": ({"answer_by": "2026-01-01T00:00Z"}, "payments_answer_by"),
    "holding another terminal": (
        {"sent_at": "2026-01-01T00:00Z", "answer_by": "2026-01-01T00:00Z", "holds_terminal": "V400m-2"},
        "payments_holds_its_terminal",
    ),
    "holding a terminal before it is sent": ({"holds_terminal": "V400m-1"}, "payments_holds_its_terminal"),
    "holding a terminal when it is unknown": (
        {
            "sent_at": "2026-01-01T00:00Z", "answer_by": "2026-01-01T00:00Z", "holds_terminal": "V400m-1",
            "state": "unknown",
        },
        "payments_holds_its_terminal",
    ),
    "nothing to pay": ({"amount_minor": 0}, "payments_amount"),
    "a negative amount": ({"amount_minor": -1}, "payments_amount"),
    "a currency of two letters": ({"currency": "EU"}, "payments_currency"),
    "a currency in lower case": ({"currency": "eur"}, "payments_currency"),
    "a currency with a line break": ({"currency": "EU\n"}, "payments_currency"),
    "an empty reference": ({"reference": ""}, "payments_reference"),
    "a reference with a colon": ({"reference": "a:b"}, "payments_reference"),
    "a reference with a backslash": ({"reference": "a\\b"}, "payments_reference"),
    "a reference with a line break": ({"reference": "a\n"}, "payments_reference"),
    "a reference that is not ASCII": ({"reference": "café"}, "payments_reference"),
    "an override without a reason": ({"override_by": "mira"}, "payments_override"),
    "an override without a person": ({"override_reason": "seen the receipt"}, "payments_override"),
    "no journal line": ({"sequence": 0}, "payments_sequence"),
}  # fmt: skip


@pytest.mark.parametrize(("overrides", "constraint"), REFUSED_ROWS.values(), ids=REFUSED_ROWS)
def test_a_payment_cannot_say(shop: Shop, overrides: dict[str, object], constraint: str) -> None:
    with pytest.raises(errors.CheckViolation) as refusal:
        insert(shop, **overrides)

    assert refusal.value.diag.constraint_name == constraint


@pytest.mark.parametrize("reference", ["x" * 80, " ~!\"#$%&'()*+,-./0129;<=>?@AZ[]^_`az{|}"])
def test_every_reference_that_we_promise_fits(shop: Shop, reference: str) -> None:
    assert shop.row(insert(shop, reference=reference))["reference"] == reference


def test_a_reference_ends_at_eighty_characters(shop: Shop) -> None:
    with pytest.raises(errors.StringDataRightTruncation):
        insert(shop, reference="x" * 81)


def test_a_command_that_nobody_can_perform_is_refused(shop: Shop) -> None:
    payment = shop.pay(shop.terminal())

    with pytest.raises(errors.CheckViolation):
        shop.sql(
            "INSERT INTO commands (payment_id, kind, due_at, ring_at) VALUES (%s, 'refund', now(), now())", payment
        )


def test_a_terminal_has_a_transport_that_exists(shop: Shop) -> None:
    with pytest.raises(errors.CheckViolation):
        shop.sql("INSERT INTO terminals (poi_id, merchant_account, transport) VALUES ('X-1', 'M', 'pigeon')")


def test_an_api_key_has_a_role_that_exists(shop: Shop) -> None:
    with pytest.raises(errors.CheckViolation):
        shop.sql(
            "INSERT INTO api_keys (id, key_hash, merchant_account, role, created_by)"
            " VALUES (gen_random_uuid(), 'h', 'M', 'root', 'x')"
        )


# -- what two rows may not share ---------------------------------------------------------------------------------------


def test_an_idempotency_key_is_used_once_by_a_merchant(shop: Shop) -> None:
    insert(shop, idempotency_key="k1")

    with pytest.raises(errors.UniqueViolation) as refusal:
        insert(shop, idempotency_key="k1")

    assert refusal.value.diag.constraint_name == "payments_idempotency"
    insert(shop, idempotency_key="k1", merchant_account="AnotherBakery")


def test_a_service_id_is_used_once_on_a_terminal_for_ever(shop: Shop) -> None:
    """Also once the first payment was concluded: a terminal remembers a ServiceID, and would answer for that one."""
    first = insert(shop, service_id="aaaaaaaaaa")
    shop.sql(
        "UPDATE payments SET state = 'confirmed', outcome = 'not_performed', concluded_at = now() WHERE id = %s", first
    )

    with pytest.raises(errors.UniqueViolation) as refusal:
        insert(shop, service_id="aaaaaaaaaa")

    assert refusal.value.diag.constraint_name == "payments_service_id"


def test_a_terminal_has_one_holder(shop: Shop) -> None:
    poi_id = shop.terminal()
    first, second = shop.pay(poi_id), shop.pay(poi_id)
    hold = "UPDATE payments SET sent_at = now(), answer_by = now(), holds_terminal = poi_id WHERE id = %s"
    shop.sql(hold, first)

    with pytest.raises(errors.UniqueViolation) as refusal:
        shop.sql(hold, second)

    assert refusal.value.diag.constraint_name == "payments_terminal_holder"


def test_a_payment_has_one_open_command_of_a_kind(shop: Shop) -> None:
    payment = shop.pay(shop.terminal())

    with pytest.raises(errors.UniqueViolation) as refusal:
        shop.sql("INSERT INTO commands (payment_id, kind, due_at, ring_at) VALUES (%s, 'send', now(), now())", payment)

    assert refusal.value.diag.constraint_name == "commands_one_of_a_kind"


def test_a_line_number_and_a_digest_are_used_once_in_a_journal(shop: Shop) -> None:
    payment = shop.pay(shop.terminal())
    line = (
        "INSERT INTO journal (payment_id, sequence, at, evidence, event, after, digest, detail_hash, hash)"
        " VALUES (%s, %s, now(), 'check_asked', 'check_asked', 'pending', %s, '', '')"
    )
    with pytest.raises(errors.UniqueViolation):
        shop.sql(line, payment, 1, None)

    shop.sql(line, payment, 2, "d")
    with pytest.raises(errors.UniqueViolation) as refusal:
        shop.sql(line, payment, 3, "d")

    assert refusal.value.diag.constraint_name == "journal_digest"


@pytest.mark.parametrize(
    "orphan",
    [
        "INSERT INTO commands (payment_id, kind, due_at, ring_at) VALUES (%s, 'send', now(), now())",
        (
            "INSERT INTO journal (payment_id, sequence, at, evidence, event, after, detail_hash, hash)"
            " VALUES (%s, 1, now(), 'x', 'x', 'x', '', '')"
        ),
        "INSERT INTO journal_repeats (payment_id, digest) VALUES (%s, 'd')",
        "INSERT INTO alarms (payment_id, name) VALUES (%s, 'contradiction')",
    ],
)
def test_nothing_speaks_of_a_payment_that_is_not_there(shop: Shop, orphan: str) -> None:
    with pytest.raises(errors.ForeignKeyViolation):
        shop.sql(orphan, uuid4())


# -- what cannot be undone ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE journal SET event = 'x'",
        "UPDATE journal SET event = 'x' WHERE false",
        "DELETE FROM journal",
        "TRUNCATE journal",
        "TRUNCATE payments CASCADE",
        "INSERT INTO journal SELECT * FROM journal ON CONFLICT (payment_id, sequence) DO UPDATE SET event = 'x'",
    ],
)
def test_the_journal_only_grows(shop: Shop, statement: str) -> None:
    payment = shop.pay(shop.terminal())

    with pytest.raises(errors.RaiseException):
        shop.sql(statement)

    assert verify_chain(shop.database, payment) == []


@pytest.mark.parametrize("statement", ["DELETE FROM payments", "TRUNCATE payments CASCADE"])
def test_no_payment_is_ever_deleted(shop: Shop, statement: str) -> None:
    payment = insert(shop)

    with pytest.raises(errors.RaiseException):
        shop.sql(statement)

    assert shop.row(payment)["id"] == payment


@pytest.mark.parametrize("change", ["sent_at = NULL, answer_by = NULL, holds_terminal = NULL", "sent_at = now()"])
def test_what_was_sent_once_stays_sent(shop: Shop, change: str) -> None:
    payment = shop.pay(shop.terminal())
    assert shop.claim(payment)
    sent_at = shop.row(payment)["sent_at"]

    with pytest.raises(errors.RaiseException):
        shop.sql(f"UPDATE payments SET {change} WHERE id = %s", payment)

    assert shop.row(payment)["sent_at"] == sent_at


@pytest.mark.parametrize(
    "conclude",
    [
        lambda shop, payment: shop.recorder.record(payment, AnswerWindowPassed()),
        lambda shop, payment: shop.recorder.record(payment, failed()),
        lambda shop, payment: shop.approve(payment),
    ],
    ids=["unknown", "declined", "approved"],
)
def test_nothing_leads_back_to_pending(shop: Shop, conclude: Callable[[Shop, UUID], object]) -> None:
    payment = shop.pay(shop.terminal())
    assert shop.claim(payment)
    conclude(shop, payment)

    with pytest.raises(errors.RaiseException):
        shop.sql(
            "UPDATE payments SET state = 'pending', outcome = NULL, concluded_at = NULL, authorised_minor = NULL"
            " WHERE id = %s", payment,
        )  # fmt: skip


# -- migrations --------------------------------------------------------------------------------------------------------


def test_the_schema_is_what_the_tables_say(shop: Shop) -> None:
    assert schema.differences(shop.url) is None


def test_a_schema_that_was_altered_is_noticed(shop: Shop) -> None:
    shop.sql("ALTER TABLE strays ADD COLUMN extra text")
    try:
        assert "extra" in (schema.differences(shop.url) or "")
    finally:
        shop.sql("ALTER TABLE strays DROP COLUMN extra")


def test_upgrading_again_changes_nothing(shop: Shop) -> None:
    keys = shop.store.tag_keys()

    assert schema.upgrade(shop.url) == revisions.newest()
    assert shop.store.tag_keys() == keys


def test_a_new_tag_key_signs_and_older_ones_verify_for_as_long_as_terminals_answer(shop: Shop) -> None:
    first = shop.store.tag_keys()
    assert schema.rotate_tag_key(shop.url) == len(first)
    second = shop.store.tag_keys()
    assert second[1:] == first
    assert second[0] not in first

    shop.sql("UPDATE tag_keys SET created_at = created_at - interval '4 days'")
    assert schema.rotate_tag_key(shop.url) == 1
    third = shop.store.tag_keys()
    assert third[1:] == second[:1]


def test_migrators_that_start_together_are_harmless(empty_database_url: str) -> None:
    reached = all_at_once(*[lambda: schema.upgrade(empty_database_url)] * 4)

    assert set(reached) == {revisions.newest()}
    assert schema.differences(empty_database_url) is None
    with psycopg.connect(libpq_url(empty_database_url)) as connection:
        assert connection.execute("SELECT count(*) FROM tag_keys").fetchone() == (1,)
