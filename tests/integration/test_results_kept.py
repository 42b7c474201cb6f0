"""What is kept of a terminal's result: by an allow-list, once, and receipts only where they are wanted."""

import json
import secrets
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl
from uuid import UUID

import pytest

from orchestrator.commands import CommandKind
from orchestrator.errors import ConcurrentUpdate
from orchestrator.evidence import AnswerWindowPassed, ResultReported
from orchestrator.model import Money
from orchestrator.store.receipts import ReceiptStore
from orchestrator.store.terminals import TerminalStore
from orchestrator.terminal import TerminalRoute
from orchestrator.views import payment_json
from tests.factories import approved, authorisation, failed, nested, pushed
from tests.integration.store_support import MERCHANT, Counter, Shop, shop_in
from tests.protocol_vectors import message

pytestmark = pytest.mark.integration

PRINTED = message("responses/payment_approved")["SaleToPOIResponse"]["PaymentResponse"]["PaymentReceipt"]


@pytest.fixture(scope="module")
def shop(postgres_url: str) -> Iterator[Shop]:
    with shop_in(postgres_url) as opened:
        opened.recorder = replace(opened.recorder, keep_receipts=True)
        yield opened


def told(said: ResultReported, **changes: Any) -> ResultReported:
    """As it comes from a terminal: with a digest of its own, and with receipts."""
    return replace(said, **{"digest": secrets.token_hex(32), "receipts": PRINTED, **changes})


def sent(shop: Shop) -> UUID:
    payment = shop.pay(shop.terminal())
    assert shop.claim(payment)
    return payment


def kept(shop: Shop, payment: UUID) -> Any:
    found = ReceiptStore(shop.database).of(payment)
    return found and found["receipts"]


def test_a_result_is_kept_and_shown_member_by_member(shop: Shop) -> None:
    payment = sent(shop)
    extras = {"extra_minor": 60, "tip_minor": 30, "cashback_minor": 20, "surcharge_minor": 10}
    converted = {"dcc_amount": Money("GBP", 961), "dcc_rate": "0.874431", "dcc_markup": "3.5", "dcc_accepted": True}
    card = {"card_entry_mode": "Contactless", "card_funding": "CREDIT", "auth_code": "123456", "signature": "required"}

    shop.recorder.record(payment, told(approved(1159, **extras, **converted, **card)))

    row = shop.row(payment)
    assert row["result"]["poi_transaction_id"].startswith("BV5k")
    assert row["result"]["poi_transaction_at"] == "2025-03-14T09:00:12.000Z"
    shown = payment_json(row)
    assert [shown[name] for name in ("tip", "cashback", "surcharge")] == [
        {"currency": "EUR", "value": minor} for minor in (30, 20, 10)
    ]
    assert shown["authorised_amount"] == {"currency": "EUR", "value": 1159}
    assert shown["card"] == {"brand": "mc", "last4": "9999", "entry_mode": "Contactless", "funding": "CREDIT"}
    assert shown["dcc"] == {
        "amount": {"currency": "GBP", "value": 961}, "rate": "0.874431", "markup": "3.5", "accepted": True,
    }  # fmt: skip
    assert (shown["signature"], shown["auth_code"], shown["refusal_reason"]) == ("required", "123456", None)


def test_a_refusal_says_why_and_shows_no_money(shop: Shop) -> None:
    payment = sent(shop)

    shop.recorder.record(payment, told(failed(refusal_reason="210 Not enough balance", card_brand="mc")))

    shown = payment_json(shop.row(payment))
    assert (shown["refusal_reason"], shown["card"]["brand"]) == ("210 Not enough balance", "mc")
    assert [shown[name] for name in ("tip", "cashback", "surcharge", "dcc", "signature")] == [None] * 5


def test_what_is_not_known_is_null(shop: Shop) -> None:
    shown = payment_json(shop.row(sent(shop)))

    unknown = ("tip", "cashback", "surcharge", "card", "dcc", "signature", "auth_code", "sale_reference_id")
    assert [shown[name] for name in unknown] == [None] * len(unknown)


def test_a_later_answer_brings_what_the_books_could_not_know(shop: Shop) -> None:
    payment = sent(shop)
    shop.recorder.record(payment, AnswerWindowPassed())
    shop.recorder.record(payment, authorisation(digest=secrets.token_hex(32)))
    shop.recorder.record(payment, told(nested(failed("UnreachableHost"))))
    assert shop.row(payment)["reason"] == "books"
    assert shop.row(payment)["result"] is None

    shop.recorder.record(payment, told(nested(approved())))

    assert shop.row(payment)["result"]["poi_transaction_id"]
    assert shop.row(payment)["state"] == "reconciled"
    assert kept(shop, payment)


def test_the_result_that_concluded_stays_and_a_later_one_only_fills_its_gaps(shop: Shop) -> None:
    payment = sent(shop)
    shop.recorder.record(payment, told(approved(poi_transaction_id=None, poi_transaction_at=None)))
    shop.recorder.record(payment, told(nested(approved(card_last4="0000"))))

    result = shop.row(payment)["result"]
    assert result["poi_transaction_id"]
    assert result["card_last4"] == "9999"


@pytest.mark.parametrize("said", [failed(), approved(700), approved(psp_reference="AAAAAAAAAAAAAAAA")])
def test_a_result_that_contradicts_brings_nothing(shop: Shop, said: ResultReported) -> None:
    payment = sent(shop)
    shop.recorder.record(payment, told(approved(), receipts=None))
    before = shop.row(payment)["result"]

    shop.recorder.record(payment, told(nested(said)))

    assert shop.row(payment)["state"] == "unknown"
    assert shop.row(payment)["result"] == before
    assert kept(shop, payment) is None


def test_an_approval_after_not_performed_takes_the_place_of_what_was_said_before(shop: Shop) -> None:
    payment = sent(shop)
    shop.recorder.record(payment, told(failed("Busy", refusal_reason="in use")))
    shop.recorder.record(payment, told(nested(approved())))

    assert shop.row(payment)["late"]
    assert "refusal_reason" not in shop.row(payment)["result"]


# -- receipts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("said", [approved(), failed(), nested(approved()), pushed(approved(), tagged=True)])
def test_receipts_come_with_every_authentic_result(shop: Shop, said: ResultReported) -> None:
    payment = sent(shop)

    shop.recorder.record(payment, told(said))

    assert [receipt["copy"] for receipt in kept(shop, payment)] == ["cashier", "customer"]


def test_hearsay_brings_no_receipts(shop: Shop) -> None:
    payment = sent(shop)

    shop.recorder.record(payment, told(pushed(approved(), tagged=False)))

    assert kept(shop, payment) is None


def test_receipts_are_in_no_journal_line_no_payment_that_is_shown_or_told_and_no_log(shop: Shop) -> None:
    payment = sent(shop)

    shop.recorder.record(payment, told(approved()))

    details = shop.sql("SELECT detail FROM journal_details WHERE payment_id = %s", payment)
    row = shop.row(payment)
    for text in (json.dumps(details), json.dumps(row["result"]), json.dumps(payment_json(row)), shop.log.getvalue()):
        assert "MERCHANT COPY" not in text
        assert "OutputText" not in text


def test_receipts_are_kept_only_where_the_settings_say_so(shop: Shop) -> None:
    payment = sent(shop)

    replace(shop.recorder, keep_receipts=False).record(payment, told(approved()))

    assert kept(shop, payment) is None
    assert shop.row(payment)["outcome"] == "approved"


def test_receipts_cost_no_database_transaction_of_their_own(shop: Shop) -> None:
    payment = sent(shop)

    shop.recorder.record(payment, told(approved()))

    xids = shop.sql(
        "SELECT p.xmin::text AS row, r.xmin::text AS receipts FROM payments p JOIN receipts r ON r.payment_id = p.id"
        " WHERE p.id = %s",
        payment,
    )
    assert xids[0]["row"] == xids[0]["receipts"]


def test_a_lost_race_writes_no_receipts(shop: Shop) -> None:
    payment = sent(shop)
    stale = shop.store.load(payment)
    assert stale
    shop.recorder.record(payment, AnswerWindowPassed())
    lost = shop.recorder._once  # the one try that the loop repeats

    with pytest.raises(ConcurrentUpdate):
        lost(stale, told(approved()), None, None)

    assert kept(shop, payment) is None


def test_a_reprint_takes_the_place_of_the_first_print(shop: Shop) -> None:
    payment = sent(shop)
    shop.recorder.record(payment, told(approved()))

    shop.recorder.record(payment, told(nested(approved()), receipts=PRINTED[:1]))

    assert [receipt["copy"] for receipt in kept(shop, payment)] == ["cashier"]


def test_a_result_that_comes_again_is_counted_and_keeps_what_there_is(shop: Shop) -> None:
    payment = sent(shop)
    said = told(approved())
    shop.recorder.record(payment, said)

    assert shop.recorder.record(payment, replace(said, receipts=None)) is None

    assert len(kept(shop, payment)) == 2


# -- who prints --------------------------------------------------------------------------------------------------------


class Wire(Counter):
    """Keeps the request as it would have gone out."""

    def pay(self, tx: Any, route: TerminalRoute, body: bytes, may_send: Callable[[], bool]) -> None:
        self.body = body


@pytest.mark.parametrize(
    ("setting", "terminal", "told"),
    [
        (True, None, True),
        (False, None, False),
        (True, False, False),
        (False, True, True),
    ],
)
def test_a_terminal_is_told_that_the_till_prints_as_it_is_registered_or_else_as_the_setting_says(
    shop: Shop, setting: bool, terminal: bool | None, told: bool
) -> None:
    poi_id = shop.terminal()
    known = {"poi_id": poi_id, "merchant_account": MERCHANT, "transport": "async"}
    TerminalStore(shop.database).put({**known, "till_prints": terminal})
    wire: Any = Wire()
    performer = replace(shop.performer, terminal=wire, till_prints=setting)

    performer.perform(shop.command(shop.pay(poi_id)), CommandKind.SEND)

    sale = json.loads(wire.body)["SaleToPOIRequest"]["PaymentRequest"]["SaleData"]
    said = dict(parse_qsl(sale["SaleToAcquirerData"]))
    assert ("ReceiptHandler" in said.get("tenderOption", "")) is told
    assert said["applicationInfo.merchantApplication.name"] == "counterfoil"
