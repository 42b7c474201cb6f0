"""The journal's chain, verified on its own: what is whole passes, and each way of altering it shows."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID, uuid4

import psycopg
import pytest

from orchestrator.evidence import AbortAsked, AnswerWindowPassed
from orchestrator.policy import Policy
from orchestrator.store.chain import line_hash, verify_all, verify_chain
from tests.factories import failed, missing, nested
from tests.integration.servers import shop as shop  # noqa: PLC0414  # a fixture
from tests.integration.store_support import Shop
from tests.services import libpq_url

pytestmark = pytest.mark.integration


@pytest.fixture
def payment(shop: Shop) -> UUID:
    """A payment with a journal of several lines."""
    payment = shop.pay(shop.terminal())
    shop.send(payment)
    shop.recorder.record(payment, missing())
    shop.recorder.record(payment, AbortAsked(asked_by="till"))
    shop.approve(payment)
    return payment


@contextmanager
def tampering(shop: Shop) -> Iterator[psycopg.Connection]:
    """What somebody with the run of the database can do: no trigger, no foreign key stops them."""
    with psycopg.connect(libpq_url(shop.url), autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")
        yield connection


def test_a_journal_that_nobody_altered_is_whole_and_explains_its_row(shop: Shop, payment: UUID) -> None:
    assert shop.row(payment)["sequence"] == 5

    assert verify_chain(shop.database, payment) == []


def test_every_kind_of_history_verifies(shop: Shop) -> None:
    declined = shop.pay(shop.terminal())
    shop.send(declined)
    shop.recorder.record(declined, AnswerWindowPassed())
    shop.recorder.record(declined, nested(failed("Refusal", digest=secrets.token_hex(32))))
    aborted = shop.pay(shop.terminal())
    shop.recorder.record(aborted, AbortAsked(asked_by="till"))
    overridden = shop.pay(shop.terminal(), override_by="mira | till 4", override_reason="paid | twice, agreed: é")

    found = dict(verify_all(shop.database))

    assert {declined, aborted, overridden} <= found.keys()
    assert not [problems for problems in found.values() if problems]


def test_it_streams_past_what_one_batch_holds(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.store.chain._BATCH", 2)
    payments = {shop.pay(shop.terminal()) for _ in range(5)}

    assert payments <= {payment for payment, problems in verify_all(shop.database) if not problems}


def test_a_payment_that_is_not_there_is_said_to_be_missing(shop: Shop) -> None:
    assert verify_chain(shop.database, uuid4()) == ["There is no such payment."]


ALTERATIONS = {
    "another amount": "UPDATE payments SET amount_minor = amount_minor + 1 WHERE id = %s",
    "another terminal": "UPDATE payments SET poi_id = 'V400m-999999999' WHERE id = %s",
    "another sale": "UPDATE payments SET reference = 'another-sale' WHERE id = %s",
    "a word of a line": "UPDATE journal SET event = 'result_noted' WHERE payment_id = %s AND sequence = 3",
    "an instant": "UPDATE journal SET at = at + interval '1 microsecond' WHERE payment_id = %s AND sequence = 3",
    "a kind of evidence": "UPDATE journal SET evidence = 'check_asked' WHERE payment_id = %s AND sequence = 3",
    "a digest": "UPDATE journal SET digest = NULL WHERE payment_id = %s AND sequence = 5",
    "a line taken out": "DELETE FROM journal WHERE payment_id = %s AND sequence = 3",
    "the first line taken out": "DELETE FROM journal WHERE payment_id = %s AND sequence = 1",
    "the last line taken off": "DELETE FROM journal WHERE payment_id = %s AND sequence = 5",
    "a detail": 'UPDATE journal_details SET detail = \'{"asked_by": "nobody"}\' WHERE payment_id = %s AND sequence = 4',
    "a detail that is gone": "DELETE FROM journal_details WHERE payment_id = %s AND sequence = 4",
    "a salt": "UPDATE journal_details SET salt = repeat('0', 32) WHERE payment_id = %s AND sequence = 4",
    "a word moved over the joint": (
        "UPDATE journal SET evidence = evidence || '|' || event, event = before, before = after, after = ''"
        " WHERE payment_id = %s AND sequence = 3"
    ),
    "the outcome": "UPDATE payments SET outcome = 'declined', authorised_minor = NULL WHERE id = %s",
    "the charged amount": "UPDATE payments SET authorised_minor = 1 WHERE id = %s",
    "the PSP reference": "UPDATE payments SET psp_reference = 'QQQQQQQQQQQQQQQQ' WHERE id = %s",
    "the count of lines": "UPDATE payments SET sequence = 6 WHERE id = %s",
    "the hash of the last line": "UPDATE payments SET journal_hash = repeat('0', 64) WHERE id = %s",
}


@pytest.mark.parametrize("alteration", ALTERATIONS.values(), ids=ALTERATIONS)
def test_what_was_altered_shows(shop: Shop, payment: UUID, alteration: str) -> None:
    with tampering(shop) as connection:
        assert connection.execute(alteration.encode(), (payment,)).rowcount == 1

    assert verify_chain(shop.database, payment)


def test_a_line_that_was_rewritten_with_a_matching_chain_does_not_explain_the_row(shop: Shop, payment: UUID) -> None:
    """Somebody who can compute hashes rewrites one line and everything after it; the replay still notices."""
    lines = shop.sql("SELECT * FROM journal WHERE payment_id = %s ORDER BY sequence", payment)
    lines[3]["evidence"] = "check_asked"
    with tampering(shop) as connection:
        previous = lines[2]["hash"]
        for line in lines[3:]:
            previous = line_hash(previous, line)
            connection.execute(
                "UPDATE journal SET evidence = %s, hash = %s WHERE payment_id = %s AND sequence = %s",
                (line["evidence"], previous, payment, line["sequence"]),
            )
        connection.execute("UPDATE payments SET journal_hash = %s WHERE id = %s", (previous, payment))

    assert any("means" in problem for problem in verify_chain(shop.database, payment))


def test_a_time_scale_is_replayed_under_the_policy_that_decided(shop: Shop, payment: UUID) -> None:
    assert verify_chain(shop.database, payment, Policy.scaled(50)) == []
