"""Payments are found by what people know of them: each word finds its payment, and never another merchant account's."""

import csv
import io
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote_plus

import pytest

from orchestrator.search.words import read
from orchestrator.store import search as search_store
from orchestrator.store.search import SearchStore
from orchestrator.web.console.search import PAGE_ROWS
from tests.crowd import MERCHANT, OTHER_MERCHANT
from tests.integration.plan_support import Console, asked, consoled

pytestmark = pytest.mark.integration

#: Payments of the crowd; each is what its number says (``tests.crowd``).
PAYMENTS = 3_000
NO_ID = "01890a5d-ac96-774b-bcce-b302099a8057"


@pytest.fixture(scope="module")
def console(postgres_url: str) -> Iterator[Console]:
    with consoled(postgres_url, PAYMENTS) as opened:
        yield opened


def payment(console: Console, n: int, merchant: str = MERCHANT) -> dict[str, Any]:
    return console.sql("SELECT * FROM payments WHERE merchant_account = %s AND reference = %s", merchant, f"r-{n}")[0]


def found_by(console: Console, line: str, *, merchant: str = MERCHANT, limit: int = 100) -> list[str]:
    """The references that the likeliest reading of a line finds, newest first."""
    meant = read(line, now=datetime.now(UTC))
    assert meant.trouble == ()
    return [row["reference"] for row in pages(console, meant.ways[0].search, merchant, limit)]


def pages(console: Console, search: Any, merchant: str, limit: int) -> Iterator[dict[str, Any]]:
    before: int | None = None
    while True:
        found = SearchStore(console.database).find(merchant, search, before, limit)
        assert len(found.rows) <= limit
        yield from found.rows
        before = found.next_before
        if before is None:
            return


def expected(console: Console, condition: str) -> list[str]:
    """What SQL finds that looks at every row."""
    where = f"merchant_account = %s AND ({condition})"
    return [
        r["reference"]
        for r in console.sql(f"SELECT reference FROM payments WHERE {where} ORDER BY number DESC", MERCHANT)
    ]


# -- each word ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "finds"),
    [
        ("r-1042", {"r-1042"}),
        ("r-104*", {"r-104", *(f"r-104{n}" for n in range(10))}),
        ("PSP0000000001042", {"r-1042"}),
        ("psp:psp0000000001042", {"r-1042"}),
        ("tender:BV0q000000000001042", {"r-1042"}),
        ("BV0q000000000001042", {"r-1042"}),
        ("BV0q000000000001042.PSP0000000001042", {"r-1042"}),
        ("service:0000001042", {"r-1042"}),
        ("service:0000001042 terminal:V400m-000000042", {"r-1042"}),
        ("service:0000001042 terminal:V400m-000000043", set()),
        ("sale:basket-261", {"r-1044"}),
        ("last4:1042", {"r-1042"}),
        ("1042 approved", {"r-1042"}),
        ("V400m-000000042", {"r-42", "r-542", "r-1042", "r-1542", "r-2042", "r-2542"}),
        ("terminal:v400M-000000042 last4:2042", {"r-2042"}),
        ("terminal:000000042 reference:r-42", {"r-42"}),
        ("r-1042 386.54 EUR", {"r-1042"}),
        ("r-1042 386.54", {"r-1042"}),
        ("r-1042 amount:38654", set()),
        ("r-1042 state:pending", set()),
        ("r-1000 unknown charged:unknown", {"r-1000"}),
        ("r-1001 declined charged:no", {"r-1001"}),
        ("r-1042 charged:yes reconciled", {"r-1042"}),
        ("r-1042 last:1h", set()),
        ("r-3000 last:1h", {"r-3000"}),
    ],
)
def test_a_word_finds_its_payments_and_no_others(console: Console, line: str, finds: set[str]) -> None:
    if "386.54" in line:  # what r-1042 was really taken for
        line = line.replace("386.54", f"{payment(console, 1042)['amount_minor'] / 100:.2f}")

    assert set(found_by(console, line)) == finds


def test_a_payment_is_found_by_its_id(console: Console) -> None:
    assert found_by(console, str(payment(console, 7)["id"])) == ["r-7"]


def test_a_refund_is_found_under_its_payment(console: Console) -> None:
    refund = console.sql("SELECT * FROM refunds WHERE merchant_account = %s ORDER BY number LIMIT 1", MERCHANT)[0]
    paid = console.sql("SELECT reference FROM payments WHERE id = %s", refund["payment_id"])[0]["reference"]

    assert found_by(console, refund["psp_reference"]) == found_by(console, str(refund["id"])) == [paid]
    assert found_by(console, refund["psp_reference"], merchant=OTHER_MERCHANT) == []


def test_an_amount_is_also_found_as_it_was_authorised(console: Console) -> None:
    row = payment(console, 77)
    console.sql("UPDATE payments SET authorised_minor = 777777 WHERE id = %s", row["id"])

    assert found_by(console, "7777.77 EUR") == found_by(console, "amount:777777") == ["r-77"]
    console.sql("UPDATE payments SET authorised_minor = amount_minor WHERE id = %s", row["id"])


@pytest.mark.parametrize(
    "line",
    [
        "r-1050", "PSP0000000001050", "BV0q000000000001050", "service:0000001050", "last4:1050", "r-105*",
        "V400m-000000500", "unknown", "",
    ],
)  # fmt: skip
def test_another_merchant_accounts_payments_are_not_found(console: Console, line: str) -> None:
    """Both merchant accounts have payments with the same names."""
    meant = read(line, now=datetime.now(UTC)).ways[0].search
    ours = {row["merchant_account"] for row in pages(console, meant, MERCHANT, 100)}
    theirs = {row["merchant_account"] for row in pages(console, meant, OTHER_MERCHANT, 100)}

    assert ours <= {MERCHANT}
    assert theirs == {OTHER_MERCHANT}


def test_an_id_of_another_merchant_account_is_not_found(console: Console) -> None:
    assert found_by(console, str(payment(console, 1050, OTHER_MERCHANT)["id"])) == []


# -- lists -------------------------------------------------------------------------------------------------------------

WIDE = {
    "": "true",
    "unknown": "state = 'unknown'",
    "declined": "outcome = 'declined'",
    "charged:no": "outcome NOT IN ('approved', 'partially_approved')",
    "charged:unknown": "outcome IS NULL",
    "r-2*": "reference LIKE 'r-2%%'",
    "V400m-000000007 charged": "poi_id = 'V400m-000000007' AND outcome = 'approved'",
    "10.30": "amount_minor = 1030",
    "EUR 10.30 reconciled": "amount_minor = 1030 AND currency = 'EUR' AND state = 'reconciled'",
    "last:2h": "created_at >= now() - interval '2 hours'",
    "last:2h r-29* charged": "created_at >= now() - interval '2 hours' AND reference LIKE 'r-29%%'"
    " AND outcome = 'approved'",
}


@pytest.mark.parametrize("line", WIDE)
@pytest.mark.parametrize("limit", [7, 500])
def test_the_pages_of_a_list_are_complete_and_repeat_nothing(console: Console, line: str, limit: int) -> None:
    assert found_by(console, line, limit=limit) == expected(console, WIDE[line])


@pytest.mark.parametrize("line", WIDE)
def test_a_list_goes_on_where_its_bound_ended_it(console: Console, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_store, "LOOKED_MAX", 50)
    monkeypatch.setattr(search_store, "SCATTERED_MAX", 3)
    monkeypatch.setattr(search_store, "_NAMED_MAX", 20)

    assert found_by(console, line, limit=7) == expected(console, WIDE[line])


def test_no_page_looks_at_more_rows_than_its_bound(console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    bound = 100
    monkeypatch.setattr(search_store, "LOOKED_MAX", bound)
    monkeypatch.setattr(search_store, "SCATTERED_MAX", bound)
    monkeypatch.setattr(search_store, "_NAMED_MAX", bound)
    for line in WIDE:
        with asked() as found:
            console.get(f"/console?q={quote_plus(line)}")
        for statement, parameters in found.sent:
            if "FROM payments p" in statement:
                plan = console.planner.plan(statement, parameters, analyze=True)
                assert looked_at(plan) <= bound * 1.1, (line, statement, plan)


def looked_at(node: dict[str, Any]) -> float:
    """The most rows of payments that any node of a plan looked at."""
    here = 0.0
    if node.get("Relation Name") == "payments":
        here = node["Actual Loops"] * (node["Actual Rows"] + node.get("Rows Removed by Filter", 0))
    return max([here, *(looked_at(inner) for inner in node.get("Plans", []))])


@pytest.mark.parametrize(
    "line", [*WIDE, "r-1", "1042", "service:0000001042", "sale:basket-1", "tender:x", "terminal:7", "psp:X", NO_ID]
)
def test_no_search_reads_a_growing_table_from_end_to_end(console: Console, line: str) -> None:
    assert console.trouble_of(f"/console?q={quote_plus(line)}") == []


def test_days_are_found_where_numbers_and_times_do_not_rise_together(console: Console) -> None:
    """One that waited for a lock has a later number than its time says."""
    row = payment(console, 1500)
    console.sql("UPDATE payments SET created_at = created_at - interval '5 minutes' WHERE id = %s", row["id"])
    line = f"r-1500 at:{(row['created_at']).astimezone(UTC):%Y-%m-%dT%H:%M}"

    assert found_by(console, line) == ["r-1500"]


# -- the page ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("line", ["r-1042", "PSP0000000001042", "BV0q000000000001042", "service:0000001042"])
def test_who_names_one_payment_is_shown_it(console: Console, line: str) -> None:
    assert console.get(f"/console?q={line}", 303) == f"/console/payments/{payment(console, 1042)['id']}"


def test_a_word_that_is_no_reference_is_tried_as_a_beginning(console: Console) -> None:
    page = console.get("/console?q=r-")

    assert "Nothing has reference r-. Shown: a reference that begins with r-." in page
    assert len(references(page)) == PAGE_ROWS
    assert "No payment matches" in console.get("/console?q=r-29999")


def test_the_page_says_how_it_read_the_words_and_what_it_could_not(console: Console) -> None:
    page = console.get("/console?q=last4:1042+foo:bar")

    assert "Read as: a card that ends in 1042" in page
    assert "“foo:bar”" in page
    assert "r-1042" in page


def test_a_whole_card_number_is_not_kept_in_the_address(console: Console) -> None:
    address = console.get("/console?q=4111+1111+1111+1111&terminal=5500000000000004", 303)

    assert address == "/console?q=last4%3A1111&terminal=last4%3A0004"
    assert "4111" not in console.get("/console/payments.csv?q=4111111111111111", 303)


def test_a_bound_that_ends_a_page_is_said_with_a_way_on(console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_store, "LOOKED_MAX", 100)
    page = console.get("/console?q=10.30")

    assert "100 payments were looked through" in page
    way_on = re.search(r'href="([^"]*before=\d+)">look further back', page)
    assert way_on
    assert "payments were looked through" in console.get(way_on[1].replace("&amp;", "&"))


def test_the_fields_of_the_form_narrow_as_words_do(console: Console) -> None:
    page = console.get("/console?terminal=V400m-000000042&last4=2042")

    assert references(page) == ["r-2042"]


def references(page: str) -> list[str]:
    return re.findall(r'href="/console/payments/[0-9a-f-]{36}">(r-\d+)<', page)


def test_the_page_has_some_rows_and_leads_to_the_next(console: Console) -> None:
    first = console.get("/console?q=declined")
    older = re.search(r'href="([^"]+)" rel="next"', first)
    assert older
    second = console.get(older[1].replace("&amp;", "&"))

    assert references(first) + references(second) == expected(console, WIDE["declined"])[: 2 * PAGE_ROWS]


# -- the file ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("line", ["declined", "V400m-000000007", "last:2h", "r-29*", "r-1042"])
def test_the_file_has_what_the_list_has(console: Console, line: str) -> None:
    text = console.get(f"/console/payments.csv?q={quote_plus(line)}")

    assert [row["reference"] for row in csv.DictReader(io.StringIO(text))] == found_by(console, line)


def test_a_file_that_was_cut_says_so(console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.web.console.search.FILE_ROWS_MAX", 120)
    rows = list(csv.DictReader(io.StringIO(console.get("/console/payments.csv"))))

    assert len(rows) == 121
    assert [row["reference"] for row in rows[:120]] == [f"r-{n}" for n in range(3000, 2880, -1)]
    assert rows[-1]["id"].startswith("There may be more payments")


def test_no_cell_of_the_file_is_a_formula(console: Console) -> None:
    row = payment(console, 2222)
    console.sql("UPDATE payments SET reference = '=1+2', tender_reference = '@x' WHERE id = %s", row["id"])
    rows = list(csv.DictReader(io.StringIO(console.get(f"/console/payments.csv?q=id:{row['id']}"))))
    console.sql("UPDATE payments SET reference = 'r-2222' WHERE id = %s", row["id"])

    assert [(each["reference"], each["tender_reference"]) for each in rows] == [("'=1+2", "'@x")]
