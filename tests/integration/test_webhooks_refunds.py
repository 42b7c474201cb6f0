"""What webhooks do to refunds of ours, and what they leave alone: over HTTP, from the signature to the row."""

import secrets
from collections.abc import Iterator
from uuid import UUID, uuid4

import pytest

from orchestrator.evidence import Channel
from orchestrator.policy import Policy
from orchestrator.refund_record import RefundRecorder
from orchestrator.refunding.intake import RefundIntake
from orchestrator.refunds.evidence import RefundReported
from orchestrator.store import schema
from orchestrator.store.refunds import RefundStore
from tests.integration.http_support import MERCHANT, SALE_ID, Api, Json
from tests.integration.webhook_support import (
    alarms,
    at,
    believed,
    book,
    differences,
    kept,
    kinds,
    paid,
    psp,
    webhook,
    with_keys,
)
from tests.services import fresh_database

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def api(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with fresh_database(postgres_url) as database_url:
        schema.upgrade(database_url)
        with with_keys(database_url, tmp_path_factory.mktemp("logs")) as api:
            yield api


def refund_of(api: Api, payment: Json, minor: int = 1099, *, psp_reference: str | None = None) -> Json:
    """A refund that the terminal took: received, and nothing more is known."""
    store = RefundStore(api.database)
    recorder = RefundRecorder(store, Policy(), lambda _rings: None)
    intake = RefundIntake(store, api.store, recorder, lambda _rings: None, SALE_ID)
    reference = f"REFUND-{secrets.token_hex(4)}"
    accepted = intake.refund(
        UUID(payment["id"]),
        {"reference": reference, "amount": {"currency": "EUR", "value": minor}},
        {"merchant_account": MERCHANT, "idempotency_key": reference},
        "test",
    )
    command = api.rows.execute(
        "SELECT id FROM commands WHERE refund_id = %s AND kind = 'send_refund'", [accepted.row["id"]]
    ).fetchone()
    assert command
    assert store.claim(command["id"], uuid4(), 150.0)
    received = RefundReported(channel=Channel.CONNECTION, result="Success", psp_reference=psp_reference)
    recorder.record(accepted.row["id"], received)
    return {"id": accepted.row["id"], "reference": reference, "amount": {"currency": "EUR", "value": minor}}


def state(api: Api, refund: Json) -> tuple[str, str | None]:
    row = api.rows.execute("SELECT state, outcome FROM refunds WHERE id = %s", [refund["id"]]).fetchone()
    assert row
    return row["state"], row["outcome"]


def about(refund: Json, payment: Json, code: str, **changes: object) -> Json:
    """A webhook about a refund: under its own reference, and naming the payment."""
    return webhook(refund, code, originalReference=payment["psp_reference"], **changes)


@pytest.mark.parametrize(
    ("code", "success", "action", "outcome"),
    [
        ("CANCEL_OR_REFUND", "true", "refund", "refunded"),
        ("CANCEL_OR_REFUND", "true", "cancel", "cancelled"),
        ("CANCEL_OR_REFUND", "true", None, "refunded"),
        ("CANCEL_OR_REFUND", "false", "refund", "declined"),
        ("REFUND", "true", None, "refunded"),
        ("REFUND", "false", None, "declined"),
        ("CANCELLATION", "true", None, "cancelled"),
        ("TECHNICAL_CANCEL", "true", None, "cancelled"),
        ("VOID_PENDING_REFUND", "true", None, "failed"),
    ],
)
def test_the_books_conclude_a_refund_of_ours_and_leave_its_payment_alone(
    api: Api, code: str, success: str, action: str | None, outcome: str
) -> None:
    payment = paid(api)
    refund = refund_of(api, payment)
    item = about(refund, payment, code, success=success, additionalData={"modification.action": action})

    book(api, item)

    assert state(api, refund) == ("reconciled", outcome)
    assert believed(api, payment) == ("confirmed", "approved", None)
    assert alarms(api, payment) == kinds(api, payment) == []
    row = kept(api, item)
    assert (row["became"], row["refund_id"], row["payment_id"]) == ("recorded", refund["id"], None)


@pytest.mark.parametrize(("code", "outcome"), [("REFUND_FAILED", "failed"), ("REFUNDED_REVERSED", "reversed")])
@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_refund_that_did_not_last_ends_so_in_whatever_order_it_is_told(
    api: Api, code: str, outcome: str, order: tuple[int, int]
) -> None:
    payment, own = paid(api), psp()
    refund = refund_of(api, payment, psp_reference=own)
    facts = [
        about(refund, payment, "CANCEL_OR_REFUND", pspReference=own, eventDate=at(-20)),
        about(refund, payment, code, pspReference=own, eventDate=at(-10)),
    ]

    for place in order:
        book(api, facts[place])

    assert state(api, refund) == ("reconciled", outcome)
    assert api.row(payment["id"])["refunded_minor"] == 0


def test_a_refund_is_found_by_its_own_psp_reference_whatever_it_is_called(api: Api) -> None:
    payment, own = paid(api), psp()
    first, second = refund_of(api, payment, 400, psp_reference=own), refund_of(api, payment, 400)

    book(api, about(first, payment, "REFUND", pspReference=own, merchantReference="as the shop wrote it"))

    assert state(api, first) == ("reconciled", "refunded")
    assert state(api, second)[1] is None


def test_a_refund_of_another_amount_is_a_difference(api: Api) -> None:
    payment, own = paid(api), psp()
    refund = refund_of(api, payment, 400, psp_reference=own)

    book(api, about(refund, payment, "REFUND", pspReference=own, amount={"currency": "EUR", "value": 399}))

    (found,) = differences(api, refund_id=refund["id"])
    assert (found["kind"], found["theirs"]["amount"]["value"]) == ("refund_differs", 399)
    assert state(api, refund)[1] is None


def test_a_refund_that_the_shop_made_by_hand_beside_ours_is_one_elsewhere(api: Api) -> None:
    payment = paid(api)
    refund = refund_of(api, payment, 400, psp_reference=psp())

    book(api, about(refund, payment, "REFUND", merchantReference="BY-HAND", amount={"currency": "EUR", "value": 300}))

    assert state(api, refund)[1] is None
    assert kinds(api, payment) == ["refund_elsewhere"]
    assert api.row(payment["id"])["refunded_minor"] == 300


def test_an_unreferenced_refund_on_a_terminal_of_ours_that_nobody_asked_for_is_a_difference(api: Api) -> None:
    item = webhook(code="REFUND_WITH_DATA", additionalData={"terminalId": api.terminal()})

    book(api, item)

    (found,) = differences(api, psp_reference=item["pspReference"])
    assert (found["kind"], found["payment_id"]) == ("refund_elsewhere", None)
