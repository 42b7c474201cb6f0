"""Receipts, details of results and split sales over HTTP."""

from collections.abc import Iterator
from typing import Any

import pytest

from orchestrator.client import Counterfoil
from orchestrator.terminal_api import strict_json
from tests.integration.http_support import Api, assert_problem, served
from tests.protocol_vectors import message

pytestmark = pytest.mark.integration

Json = dict[str, Any]


@pytest.fixture(scope="module")
def api(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with served(postgres_url, tmp_path_factory.mktemp("logs"), COUNTERFOIL_RECEIPTS="true") as api:
        yield api


@pytest.fixture(scope="module")
def forgetful(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A server whose settings say nothing of receipts."""
    with served(postgres_url, tmp_path_factory.mktemp("logs")) as api:
        yield api


def paid(api: Api, name: str = "payment_approved_signature", **changes: Any) -> Json:
    """A payment whose result came with everything that the vector has."""
    payment = api.sent(**changes)
    whole = api.result(payment)
    response = whole["SaleToPOIResponse"]["PaymentResponse"]
    vector = message(f"responses/{name}")["SaleToPOIResponse"]["PaymentResponse"]
    tagged = response["Response"]["AdditionalResponse"]
    response |= {"PaymentReceipt": vector["PaymentReceipt"], "PaymentResult": vector["PaymentResult"]}
    response["Response"] = vector["Response"] | {"AdditionalResponse": tagged}
    assert api.push(strict_json.dumps(whole)).status_code == 200
    found: Json = api.get(f"/v1/payments/{payment['id']}").json()
    assert found["outcome"]
    return found


def path(payment: Json) -> str:
    return f"/v1/payments/{payment['id']}/receipts"


def test_receipts_are_data_with_their_text(api: Api) -> None:
    answer = api.get(path(paid(api)))

    cashier, customer = answer.json()["data"]
    assert (cashier["copy"], cashier["signature_required"], customer["copy"]) == ("cashier", True, "customer")
    assert {"label": "TOTAL", "value": "€ 10.99", "key": "totalAmount", "bold": True} in customer["lines"]
    assert "************9999" in cashier["text"]
    assert max(map(len, cashier["text"].splitlines())) == 40
    assert answer.json()["at"].endswith("Z")


def test_receipts_are_text_of_the_papers_width(api: Api) -> None:
    answer = api.get(path(paid(api)), format="text", copy="customer", width=48)

    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert max(map(len, answer.text.splitlines())) == 48
    assert "CARDHOLDER COPY" in answer.text
    assert "MERCHANT COPY" not in answer.text


def test_receipts_are_a_page_that_may_do_nothing(api: Api) -> None:
    payment = paid(api, reference="<b>&amp;")
    answer = api.get(path(payment), format="html")

    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.text.count("<article") == 2
    assert "<title>&lt;b&gt;&amp;amp;</title>" in answer.text


def test_a_refusal_has_receipts_too(api: Api) -> None:
    payment = paid(api, "payment_refused_balance")

    assert payment["charged"] is False
    assert [receipt["copy"] for receipt in api.get(path(payment)).json()["data"]] == ["cashier", "customer"]


@pytest.mark.parametrize(
    ("query", "field"), [({"format": "pdf"}, "format"), ({"copy": "all"}, "copy"), ({"width": 10}, "width")]
)
def test_a_form_that_is_not_offered_is_named(api: Api, query: Json, field: str) -> None:
    assert_problem(api.get(path(api.accepted()), **query), 422, "invalid-field", field)


def test_without_receipts_the_answer_says_why(api: Api, forgetful: Api) -> None:
    open_still = assert_problem(api.get(path(api.accepted())), 404, "no-receipts")
    nothing_sent = api.sent()
    without = api.result(nothing_sent)
    del without["SaleToPOIResponse"]["PaymentResponse"]["PaymentReceipt"]
    api.push(without)
    none_came = assert_problem(api.get(path(nothing_sent)), 404, "no-receipts")
    not_kept = assert_problem(forgetful.get(path(paid(forgetful))), 404, "no-receipts")

    assert "has not ended" in open_still["detail"]
    assert "POST" in none_came["detail"]
    assert "COUNTERFOIL_RECEIPTS" in not_kept["detail"]


def test_anothers_receipts_are_not_there(api: Api) -> None:
    payment = paid(api)

    assert_problem(api.get(path(payment), api.other_key), 404, "not-found")
    assert_problem(api.send("POST", path(payment), {}, api.other_key), 404, "not-found")


def test_a_reprint_asks_the_terminal_now(api: Api, forgetful: Api) -> None:
    payment = paid(api)

    answer = api.send("POST", path(payment), {})

    assert answer.status_code == 202
    due = api.rows.execute(
        "SELECT kind FROM commands WHERE payment_id = %s AND due_at <= now()", [payment["id"]]
    ).fetchall()
    assert [row["kind"] for row in due] == ["check_status"]
    refused = assert_problem(forgetful.send("POST", path(paid(forgetful)), {}), 404, "no-receipts")
    assert "COUNTERFOIL_RECEIPTS" in refused["detail"]


def test_the_client_reads_receipts_and_particulars(api: Api) -> None:
    payment = paid(api)
    with Counterfoil(api.url, api.key) as client:
        found = client.payments.get(payment["id"])
        receipts = client.payments.receipts(payment["id"])
        client.payments.reprint(payment["id"])

    assert found.card
    assert (found.card.last4, found.card.entry_mode, found.signature) == ("9999", "Contactless", "captured")
    assert [receipt.whose for receipt in receipts.data] == ["cashier", "customer"]
    assert "TOTAL" in receipts.data[0].text


# -- split sales -------------------------------------------------------------------------------------------------------


def test_the_parts_of_a_split_sale_are_payments_of_their_own_that_are_found_together(api: Api) -> None:
    sale = {"sale_reference_id": "BASKET-882", "tender_options": ["AllowPartialAuthorisation"]}
    first = api.concluded(api.sent(**sale), approved=700)
    second = api.concluded(api.sent(**sale, amount={"currency": "EUR", "value": 399}))
    api.accepted(sale_reference_id="BASKET-883")
    api.accepted()

    assert (first["outcome"], second["outcome"]) == ("partially_approved", "approved")
    listed = api.get("/v1/payments", sale_reference_id="BASKET-882").json()["data"]
    assert [payment["id"] for payment in listed] == [second["id"], first["id"]]
    assert {payment["sale_reference_id"] for payment in listed} == {"BASKET-882"}
    assert sum(payment["authorised_amount"]["value"] for payment in listed) == 1099


def test_the_guard_of_a_sale_holds_for_each_part_by_its_own_reference(api: Api) -> None:
    sale = {"sale_reference_id": "BASKET-900"}
    first = api.sent(reference="BASKET-900-A", **sale)

    assert api.submit(api.submission(reference="BASKET-900-B", **sale)).status_code == 201
    again = api.submit(api.submission(reference="BASKET-900-A", **sale))
    assert assert_problem(again, 409, "payment-open", "reference")["payment_id"] == first["id"]


def test_the_rest_of_a_part_may_be_paid_under_its_own_reference(api: Api) -> None:
    """Both ways to split: the rest under the same reference passes the guard as well, and no more than the rest."""
    first = api.concluded(api.sent(sale_reference_id="BASKET-901"), approved=700)
    rest = {"reference": first["reference"], "sale_reference_id": "BASKET-901"}

    too_much = api.submit(api.submission(**rest, amount={"currency": "EUR", "value": 400}))
    exactly = api.submit(api.submission(**rest, amount={"currency": "EUR", "value": 399}))

    assert_problem(too_much, 409, "already-charged", "reference")
    assert exactly.status_code == 201
