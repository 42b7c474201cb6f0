"""What a result says beside its outcome, member by member, as the vectors have it and spoiled in every way."""

import copy
import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.decide import decide
from orchestrator.evidence import ResultReported
from orchestrator.model import Money, Outcome, Transaction
from orchestrator.policy import Policy
from orchestrator.terminal_api import strict_json
from orchestrator.terminal_api.interpret import read_payment_answer, read_status_answer
from orchestrator.terminal_api.receipts import read_receipts
from tests.factories import NOW, SENT_AT
from tests.protocol_vectors import body, message, transaction, transaction_of

RESULT = "PaymentResponse.PaymentResult"
CARD = f"{RESULT}.PaymentInstrumentData.CardData"
ADDITIONAL = "PaymentResponse.Response.AdditionalResponse"


def read(name: str, tx: Transaction | None = None) -> ResultReported:
    found = read_payment_answer(200, body(f"responses/{name}"), tx or transaction(), expects_result=True)
    assert isinstance(found, ResultReported)
    return found


def changed(changes: Mapping[str, Any], name: str = "payment_approved") -> ResultReported:
    """The vector with members set, or removed where the value is None; a path's parts are divided by dots."""
    answer = copy.deepcopy(message(f"responses/{name}"))
    for path, value in changes.items():
        *parents, last = path.split(".")
        place = answer["SaleToPOIResponse"]
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = value
        if value is None:
            del place[last]
    found = read_payment_answer(200, strict_json.dumps(answer), transaction(), expects_result=True)
    assert isinstance(found, ResultReported)
    return found


# -- the vectors -------------------------------------------------------------------------------------------------------


def test_a_tip_is_named_in_minor_units() -> None:
    found = read("payment_approved_tip")

    assert (found.authorised, found.extra_minor, found.tip_minor) == (Money("EUR", 1319), 220, 220)
    assert (found.cashback_minor, found.surcharge_minor) == (None, None)


def test_a_partial_approval_is_the_part_alone() -> None:
    partly = transaction_of("requests/payment_partial_tip_form")

    found = read("payment_partial", partly)
    asked = read_status_answer(200, body("responses/status_success_partial"), partly, status_service_id="sta0000001")

    assert isinstance(asked, ResultReported)
    assert (found.result, found.authorised) == (asked.result, asked.authorised) == ("Partial", Money("USD", 2500))


def test_the_merchant_is_paid_as_asked_whatever_the_shopper_pays_in() -> None:
    found = read("payment_approved_dcc")

    assert found.authorised == Money("EUR", 1099)
    assert (found.dcc_amount, found.dcc_rate, found.dcc_markup, found.dcc_accepted) == (
        Money("GBP", 961), "0.874431", "3.5", True,
    )  # fmt: skip
    after = decide(transaction().evolve(sent_at=SENT_AT), found, NOW, Policy()).after
    assert (after.outcome, after.authorised_minor) == (Outcome.APPROVED, 1099)


def test_a_signature_on_the_screen_is_kept_as_a_fact_and_never_as_strokes() -> None:
    found = read("payment_approved_signature")

    assert found.signature == "captured"
    assert "001A" not in repr(found)


@pytest.mark.parametrize("name", ["payment_approved_base64", "payment_approved_base64_flat"])
def test_every_encoding_says_the_same_of_the_card(name: str) -> None:
    header = message(f"responses/{name}")["SaleToPOIResponse"]["MessageHeader"]
    found, plain = read(name, transaction(service_id=header["ServiceID"])), read("payment_approved")

    for member in ("auth_code", "card_brand", "card_last4", "card_entry_mode", "psp_reference"):
        assert getattr(found, member) == getattr(plain, member) is not None


def test_a_refusal_names_the_card_that_was_refused() -> None:
    found = read("payment_refused_balance")

    assert (found.card_brand, found.card_last4, found.card_entry_mode) == ("mc", "9999", "Contactless")
    assert (found.auth_code, found.tip_minor, found.dcc_amount, found.signature) == (None, None, None, None)


def test_a_payment_that_no_card_was_read_for_names_none() -> None:
    found = read("payment_busy_bare")

    assert (found.card_brand, found.card_last4, found.card_entry_mode, found.signature) == (None, None, None, None)


def test_receipts_come_with_an_answer_and_with_one_that_is_repeated() -> None:
    answered = read("payment_approved")
    repeated = read_status_answer(
        200, body("responses/status_success_approved"), transaction(), status_service_id="sta0000001"
    )

    assert isinstance(repeated, ResultReported)
    for found in (answered, repeated):
        assert [receipt["copy"] for receipt in read_receipts(found.receipts)] == ["cashier", "customer"]


# -- each member by itself ---------------------------------------------------------------------------------------------


def test_extras_come_from_either_place_each_for_itself() -> None:
    found = changed(
        {
            f"{RESULT}.AmountsResp.TipAmount": "1",
            f"{RESULT}.AmountsResp.CashBackAmount": "nonsense",
            ADDITIONAL: "posAmountGratuityValue=999&posAmountCashbackValue=20&posAmountSurchargeValue=3",
        }
    )

    assert (found.tip_minor, found.cashback_minor, found.surcharge_minor, found.extra_minor) == (100, 20, 3, 123)


@pytest.mark.parametrize(
    ("named", "said", "mode"),
    [
        (["ICC"], "CLESS_CHIP", "ICC"),
        ("Tapped", None, "Tapped"),
        (None, "ICC", "ICC"),
        (None, "MSR", "MagStripe"),
        (None, "MKE", "Keyed"),
        (None, "CLESS_SWIPE", "Contactless"),
        ([], "BAR", "Scanned"),
        ([{}], "NEW_ONE", "NEW_ONE"),
        (7, None, "7"),
        ({}, None, None),
    ],
)
def test_how_a_card_was_read_is_told_in_one_vocabulary(named: object, said: str | None, mode: str | None) -> None:
    assert changed({f"{CARD}.EntryMode": named, ADDITIONAL: said and f"posEntryMode={said}"}).card_entry_mode == mode


@pytest.mark.parametrize(
    ("captured", "methods", "flag", "signature"),
    [
        ({"SignaturePoint": [{"X": "001A", "Y": "0033"}]}, [], True, "captured"),
        (None, ["SignatureCapture"], True, "captured"),
        (None, ["PaperSignature"], False, "required"),
        (None, ["OnlinePIN"], True, "required"),
        (None, "OnlinePIN", "true", "required"),
        ({}, ["OnlinePIN"], "false", None),
        (None, [{}, None], None, None),
    ],
)
def test_a_signature_is_captured_or_required_or_neither(
    captured: object, methods: object, flag: object, signature: str | None
) -> None:
    printed = [{"DocumentQualifier": "CashierReceipt", "RequiredSignatureFlag": flag}]

    found = changed(
        {
            f"{RESULT}.CapturedSignature": captured,
            f"{RESULT}.AuthenticationMethod": methods,
            "PaymentResponse.PaymentReceipt": printed,
        }
    )

    assert found.signature == signature


@pytest.mark.parametrize(
    "offer",
    [
        None,
        [],
        {},
        [None],
        [{"ConvertedAmount": {"AmountValue": 1}}],
        [{"ConvertedAmount": {"AmountValue": "x", "Currency": "GBP"}}],
        [{"ConvertedAmount": {"AmountValue": 1, "Currency": "XXX"}}],
    ],
)
def test_a_conversion_without_a_readable_amount_is_none(offer: object) -> None:
    found = changed({f"{RESULT}.CurrencyConversion": offer})

    assert (found.dcc_amount, found.dcc_rate, found.dcc_accepted) == (None, None, None)


def test_a_conversion_may_be_a_single_object_and_declined() -> None:
    offer = {"ConvertedAmount": {"AmountValue": 1200, "Currency": "JPY"}, "CustomerApprovedFlag": "false", "Rate": "x"}

    found = changed({f"{RESULT}.CurrencyConversion": offer})

    assert (found.dcc_amount, found.dcc_rate, found.dcc_accepted) == (Money("JPY", 1200), None, False)


@given(
    st.sampled_from(["CurrencyConversion", "AuthenticationMethod", "CapturedSignature", "PaymentInstrumentData"]),
    st.recursive(
        st.none() | st.booleans() | st.integers(-9, 10**20) | st.text(),
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2),
    ),
)
def test_no_content_of_a_member_changes_what_became_of_the_money(member: str, content: object) -> None:
    found, plain = changed({f"{RESULT}.{member}": content}), read("payment_approved")

    assert (found.result, found.authorised, found.psp_reference) == (
        plain.result,
        plain.authorised,
        plain.psp_reference,
    )


@given(st.sampled_from(["4111111111112222", "4111 1111 1111 2222"]))
def test_no_card_number_gets_into_any_particular(number: str) -> None:
    places = "authCode fundingSource posEntryMode paymentMethod cardSummary".split()
    found = changed(
        {
            f"{CARD}.PaymentBrand": number,
            f"{CARD}.EntryMode": [number],
            f"{RESULT}.PaymentAcquirerData.ApprovalCode": number,
            f"{RESULT}.CurrencyConversion": [
                {"ConvertedAmount": {"AmountValue": 1, "Currency": "GBP"}, "Rate": number, "Markup": number}
            ],
            ADDITIONAL: "&".join(f"{place}={number}" for place in places),
        }
    )

    assert "4111" not in repr(found)
    assert "4111" not in json.dumps(found.dcc_rate)
