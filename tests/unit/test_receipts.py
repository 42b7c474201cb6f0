"""Receipts are read from whatever a terminal sends, and come out of a printer as the terminal wanted them."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.terminal_api import strict_json
from orchestrator.terminal_api.receipts import MAX_LINES, MAX_RECEIPTS, as_html, as_text, read_receipts
from tests.protocol_vectors import VECTORS, message

ENCODINGS = json.loads((VECTORS / "text-encodings.json").read_text())
LINES = ENCODINGS["receipt_lines"]


def sent(*texts: str, **members: Any) -> list[dict[str, Any]]:
    """A receipt as a terminal sends it."""
    content = {"OutputFormat": "Text", "OutputText": [{"Text": text, "EndOfLineFlag": True} for text in texts]}
    return [{"DocumentQualifier": "CustomerReceipt", "OutputContent": content, **members}]


def of_vector(name: str) -> list[dict[str, Any]]:
    return read_receipts(message(f"responses/{name}")["SaleToPOIResponse"]["PaymentResponse"]["PaymentReceipt"])


@pytest.mark.parametrize("case", LINES, ids=[case["key"] for case in LINES])
def test_a_line_reads_as_the_vectors_say(case: dict[str, Any]) -> None:
    [receipt] = read_receipts(sent(case["raw"]))

    [line] = receipt["lines"]
    assert (line["label"], line["value"], line["key"]) == (case["name"], case["value"], case["key"])


def test_both_copies_are_read_in_the_order_in_which_they_are_printed() -> None:
    cashier, customer = of_vector("payment_approved_signature")

    assert (cashier["copy"], cashier["signature_required"]) == ("cashier", True)
    assert (customer["copy"], customer["signature_required"]) == ("customer", False)
    assert [line["key"] for line in customer["lines"]][:6] == [
        "header1", "header2", "cardholderHeader", "filler", "txdate", "txtime",
    ]  # fmt: skip
    assert customer["lines"][1] == {"label": "Example Store Amsterdam", "value": None, "key": "header2", "bold": True}
    assert {"label": "Card", "value": "************9999", "key": "pan", "bold": False} in customer["lines"]


def test_flags_may_be_text() -> None:
    sloppy = of_vector("payment_approved_sloppy_types")

    assert sloppy == of_vector("payment_approved")
    [wanted] = read_receipts(sent("key=filler", RequiredSignatureFlag="true"))
    assert wanted["signature_required"] is True


def test_a_refusal_has_receipts_too() -> None:
    assert [receipt["copy"] for receipt in of_vector("payment_refused_balance")] == ["cashier", "customer"]


@pytest.mark.parametrize("raw", [None, [], {}, "text", 7, [None], [{}], [{"OutputContent": []}]])
def test_what_is_no_receipt_is_none(raw: object) -> None:
    assert read_receipts(raw) == []


@given(st.recursive(st.none() | st.booleans() | st.text() | st.integers(), lambda inner: st.lists(inner, max_size=3)))
def test_no_content_breaks_the_reader_or_a_printer(content: object) -> None:
    raw = [{"OutputContent": {"OutputText": content}, "DocumentQualifier": content, "RequiredSignatureFlag": content}]

    for receipt in read_receipts(raw):
        as_text(receipt)
        as_html([receipt], "T")


def test_a_text_that_does_not_end_its_line_is_continued() -> None:
    texts = [
        {"Text": "name=TOTAL&key=totalAmount", "EndOfLineFlag": False},
        {"Text": "value=10.99", "EndOfLineFlag": "false"},
        {"Text": "name=EUR", "EndOfLineFlag": True},
        {"Text": "key=filler"},
    ]

    [receipt] = read_receipts({"OutputContent": {"OutputText": texts}})

    total, blank = receipt["lines"]
    assert (total["label"], total["value"], blank["key"]) == ("TOTAL", "10.99 EUR", "filler")


def test_a_text_of_no_form_is_a_line_as_it_stands() -> None:
    [receipt] = read_receipts(sent("Thank you", "1 + 1 = 2"))

    assert [line["label"] for line in receipt["lines"]] == ["Thank you", "1 + 1 = 2"]


def test_a_flood_is_cut() -> None:
    receipts = read_receipts(sent(*["key=filler"] * (MAX_LINES + 1)) * (MAX_RECEIPTS + 1))

    assert len(receipts) == MAX_RECEIPTS
    assert {len(receipt["lines"]) for receipt in receipts} == {MAX_LINES}


@pytest.mark.parametrize("key", ["pan", "thanks", "unheard-of"])
def test_a_card_number_is_masked_wherever_it_is_printed(key: str) -> None:
    stored = read_receipts(sent(f"name=Card&value=5555555555554444&key={key}", "value=5555+5555+5555+4444&key=pan"))

    assert "5555555" not in json.dumps(stored)
    assert "5555 55" not in json.dumps(stored)


def test_references_are_printed_whole_though_their_digits_could_be_a_cards() -> None:
    [receipt] = read_receipts(sent("value=5555555555554444&key=mref"))

    assert receipt["lines"][0]["value"] == "5555555555554444"


def test_nothing_that_no_database_takes_is_kept() -> None:
    stored = read_receipts(sent("name=%00%1b[2J&value=x\ud800"))

    assert strict_json.dumps(stored)
    assert "\\u0000" not in json.dumps(stored)
    assert "\\ud800" not in json.dumps(stored)


# -- as text -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [32, 40, 48])
def test_text_is_as_wide_as_the_paper(width: int) -> None:
    text = as_text(of_vector("payment_approved_signature")[0], width)

    lines = text.splitlines()
    assert max(map(len, lines)) == width
    assert f"Card{' ' * (width - 20)}************9999" in lines
    assert f"*TOTAL{' ' * (width - 14)}€ 10.99*" in lines
    assert any(line.startswith("Signature") and line.endswith("____") for line in lines)


def test_a_signature_that_is_wanted_has_its_line_though_the_terminal_gave_none() -> None:
    [wanted] = read_receipts(sent("name=TOTAL", RequiredSignatureFlag=True))
    [unwanted] = read_receipts(sent("name=TOTAL"))

    assert "Signature" in as_text(wanted)
    assert "Signature" in as_html([wanted], "T")
    assert "Signature" not in as_text(unwanted)


@given(st.text(), st.text(), st.booleans(), st.integers(8, 60))
def test_no_line_is_wider_than_the_paper_and_no_word_is_lost(label: str, value: str, bold: bool, width: int) -> None:
    line = {"label": label, "value": value, "key": None, "bold": bold}
    receipt = {"copy": "customer", "signature_required": False, "lines": [line]}

    printed = as_text(receipt, width)

    letters = [letter for letter in label + value if not letter.isspace() and letter.isascii() and letter.isalnum()]
    assert [letter for letter in printed if letter.isascii() and letter.isalnum()] == letters
    if (label + value).isascii() and (label + value).isprintable():
        assert max(map(len, printed.split("\n"))) <= width


def test_wide_letters_take_two_columns() -> None:
    [receipt] = read_receipts(sent("name=合計&value=10"))

    assert as_text(receipt, 10) == "合計    10\n"


# -- as a page ---------------------------------------------------------------------------------------------------------


def test_a_page_holds_nothing_that_runs_or_loads() -> None:
    page = as_html(of_vector("payment_approved"), "ORDER-1")

    assert page.count("<article") == 2
    assert "@media print" in page
    assert '<p class="bold"><span>TOTAL</span><span>€ 10.99</span></p>' in page
    assert not any(word in page for word in ("<script", "src=", "href=", "url(", "@import"))


def test_a_terminal_cannot_write_markup() -> None:
    hostile = "<script>alert(1)</script>"
    page = as_html(read_receipts(sent(f"name={hostile}&value={hostile}&key={hostile}")), hostile)

    assert "<script" not in page
    assert page.count("&lt;script&gt;") == 3
