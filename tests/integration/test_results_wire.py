"""Results in full over the real wire: what a terminal does is what the payment shows, and what its receipts are."""

import secrets
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from orchestrator.commands import CommandKind
from orchestrator.evidence import CheckAsked
from orchestrator.policy import Policy
from orchestrator.simulator.process import SimulatorProcess
from orchestrator.store.receipts import ReceiptStore
from orchestrator.store.terminals import TerminalStore
from orchestrator.terminal import CloudAccess, Terminals
from orchestrator.views import payment_json
from tests.integration.store_support import MERCHANT, Shop, shop_in

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def shop(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    ledger = tmp_path_factory.mktemp("simulator") / "ledger"
    arguments = ["--any-terminal", "--api-key", "K", "--time-scale", "50", "--seed", "1"]
    with SimulatorProcess(ledger, arguments) as simulator, shop_in(postgres_url, Policy.scaled(50)) as opened:
        access = CloudAccess(environment="test", api_key="K", family="terminal", cloud_url=simulator.url)
        terminals = Terminals(access)
        opened.recorder = replace(opened.recorder, keep_receipts=True)
        opened.performer = replace(opened.performer, recorder=opened.recorder, terminal=terminals, till_prints=True)
        yield opened
        terminals.close()


def paid(shop: Shop, scenario: str, **body: Any) -> UUID:
    """Pay at a terminal that plays the scenario, and answers on the connection."""
    poi_id = f"V400m-{secrets.randbelow(10**9):09d}"
    TerminalStore(shop.database).put({"poi_id": poi_id, "merchant_account": MERCHANT, "transport": "sync"})
    amount = {"currency": "EUR", "value": 1000}
    payment = shop.pay(poi_id, reference=f"{secrets.token_hex(4)}-{scenario}", amount=amount, **body)
    shop.send(payment)
    return payment


def eur(minor: int) -> dict[str, Any]:
    return {"currency": "EUR", "value": minor}


@pytest.mark.parametrize(
    ("scenario", "outcome", "authorised", "shown"),
    [
        ("approve", "approved", 1000, {"provisional": False, "signature": None}),
        ("tip", "approved", 1200, {"tip": eur(200)}),
        ("cashback", "approved", 1500, {"cashback": eur(500)}),
        ("surcharge", "approved", 1020, {"surcharge": eur(20)}),
        ("partial", "partially_approved", 600, {}),
        ("signature-paper", "approved", 1000, {"signature": "required"}),
        ("signature-screen", "approved", 1000, {"signature": "captured"}),
        ("offline", "approved", 1000, {"provisional": True}),
    ],
)
def test_a_payment_shows_what_its_terminal_did(
    shop: Shop, scenario: str, outcome: str, authorised: int, shown: dict[str, Any]
) -> None:
    payment = payment_json(shop.row(paid(shop, scenario)))

    nothing = dict.fromkeys(("tip", "cashback", "surcharge", "dcc", "refusal_reason"))
    assert {name: payment[name] for name in nothing | shown} == nothing | shown
    assert (payment["outcome"], payment["authorised_amount"]) == (outcome, eur(authorised))
    assert payment["card"]["last4"] == "9999"
    assert payment["auth_code"]


def test_a_shopper_who_pays_in_another_currency_pays_the_merchant_as_asked(shop: Shop) -> None:
    payment = payment_json(shop.row(paid(shop, "dcc")))

    assert payment["authorised_amount"] == eur(1000)
    assert (payment["dcc"]["amount"]["currency"], payment["dcc"]["accepted"]) == ("GBP", True)


def test_a_refusal_says_why(shop: Shop) -> None:
    payment = payment_json(shop.row(paid(shop, "decline")))

    assert (payment["outcome"], payment["authorised_amount"]) == ("declined", None)
    assert payment["refusal_reason"]


def test_what_the_request_takes_along_is_taken_by_the_terminal(shop: Shop) -> None:
    payment = paid(
        shop,
        "approve",
        operator_id="cashier-12",
        operator_language="nl",
        shift_number="2",
        sale_reference_id="BASKET-882",
        shopper_reference="cust-991",
        recurring_processing_model="CardOnFile",
        tender_options=["AskGratuity"],
        metadata={"correlation": "a=b&c"},
    )

    assert shop.row(payment)["outcome"] == "approved"


@pytest.mark.parametrize(("scenario", "word"), [("approve", "APPROVED"), ("decline", None)])
def test_the_status_answer_brings_the_receipts_once_more(shop: Shop, scenario: str, word: str | None) -> None:
    payment = paid(shop, scenario)
    first = ReceiptStore(shop.database).of(payment)
    shop.sql("DELETE FROM receipts WHERE payment_id = %s", payment)

    shop.recorder.record(payment, CheckAsked(asked_by="Ann"))
    shop.performer.perform(shop.command(payment, CommandKind.CHECK_STATUS))

    again = ReceiptStore(shop.database).of(payment)
    assert first
    assert again
    assert [receipt["copy"] for receipt in again["receipts"]] == ["cashier", "customer"]
    assert again["receipts"] == first["receipts"]
    labels = {line["label"] for line in again["receipts"][0]["lines"]}
    assert word is None or word in labels
