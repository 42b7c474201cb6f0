"""Refunds over HTTP, by task, and at the client: who may, what is answered, and what is kept of a refusal."""

import json
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from orchestrator.client import Counterfoil, CounterfoilError
from orchestrator.refund_record import RefundRecorder
from orchestrator.refunding.intake import RefundIntake
from orchestrator.refunds.evidence import RefundBooked, RefundEntry
from orchestrator.store.refunds import RefundStore
from orchestrator.submissions import refund_by_task
from tests.factories import approved
from tests.integration.http_support import MERCHANT, PROBLEM, Api, served

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def api(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    settings = {
        "COUNTERFOIL_UNREFERENCED_REFUNDS": "true",
        "COUNTERFOIL_UNREFERENCED_REFUND_LIMIT_MINOR": "EUR:5000",
    }
    with served(postgres_url, tmp_path_factory.mktemp("api"), **settings) as opened:
        yield opened


def charged(api: Api, **changes: Any) -> dict[str, Any]:
    payment = api.sent(**changes)
    api.recorder.record(UUID(payment["id"]), approved(digest=secrets.token_hex(32)))
    return payment


def body(value: int = 450, **changes: Any) -> dict[str, Any]:
    return {"reference": "BACK-1", "amount": {"currency": "EUR", "value": value}} | changes


def post(api: Api, path: str, content: Any, key: str | None = None, api_key: str | None = None) -> httpx.Response:
    headers = {"idempotency-key": key or secrets.token_hex(8), "authorization": f"Bearer {api_key or api.key}"}
    return api.http.post(path, content=json.dumps(content), headers=headers)


def refund(api: Api, payment: dict[str, Any], content: Any = None, **more: Any) -> httpx.Response:
    return post(api, f"/v1/payments/{payment['id']}/refunds", body() if content is None else content, **more)


def problem(answer: httpx.Response, status: int, slug: str) -> dict[str, Any]:
    assert (answer.status_code, answer.headers["content-type"]) == (status, PROBLEM), answer.text
    found: dict[str, Any] = answer.json()
    assert found["type"] == f"urn:counterfoil:problem:{slug}"
    return found


def test_a_refund_is_created_once_and_then_shown(api: Api) -> None:
    payment, key = charged(api), secrets.token_hex(8)

    first, again = refund(api, payment, key=key), refund(api, payment, key=key)

    assert (first.status_code, again.status_code) == (201, 200)
    shown = first.json()
    assert again.json() == shown
    assert first.headers["location"] == f"/v1/refunds/{shown['id']}"
    assert (shown["state"], shown["outcome"], shown["refunded"], shown["reason"]) == ("pending", None, None, None)
    assert (shown["payment_id"], shown["poi_id"]) == (payment["id"], payment["poi_id"])
    assert shown["amount"] == {"currency": "EUR", "value": 450}
    assert api.get(f"/v1/refunds/{shown['id']}").json() == shown
    assert api.get(f"/v1/payments/{payment['id']}/refunds").json() == {"data": [shown], "next_cursor": None}
    assert api.get("/v1/refunds", payment_id=payment["id"]).json()["data"] == [shown]
    assert api.get("/v1/refunds", payment_id=payment["id"], state="unknown").json()["data"] == []
    (line,) = api.get(f"/v1/refunds/{shown['id']}/journal").json()["data"]
    assert (line["evidence"], line["detail"]["amount"]) == ("refund_accepted", {"currency": "EUR", "minor": 450})


def test_what_was_paid_back_shows_in_the_payment(api: Api) -> None:
    payment = charged(api)
    assert api.get(f"/v1/payments/{payment['id']}").json()["refunded_amount"] is None
    made = refund(api, payment).json()
    store = RefundStore(api.database)
    recorder = RefundRecorder(store, api.recorder.policy, lambda _rings: None)
    recorder.record(UUID(made["id"]), RefundBooked(entry=RefundEntry.REFUNDED, source="webhook:REFUND"))

    assert api.get(f"/v1/payments/{payment['id']}").json()["refunded_amount"]["value"] == 450
    assert api.get(f"/v1/refunds/{made['id']}").json()["refunded"] is True


def test_refusals_name_what_is_wrong(api: Api) -> None:
    payment = charged(api)

    too_much = problem(refund(api, payment, body(1100)), 409, "refund-exceeds-payment")
    assert too_much["field"] == "amount"
    assert "10.99 EUR" in too_much["detail"]
    problem(refund(api, api.accepted()), 409, "not-charged")
    problem(refund(api, {"id": str(uuid4())}), 404, "not-found")
    problem(refund(api, payment, api_key=api.other_key), 404, "not-found")
    problem(refund(api, payment, body(amount={"currency": "USD", "value": 1})), 422, "invalid-field")
    problem(refund(api, payment, body(surprise=1)), 422, "invalid-field")
    problem(refund(api, payment, body(poi_id="V400m-000000000")), 422, "unknown-terminal")
    problem(refund(api, payment, []), 400, "malformed-body")
    key = secrets.token_hex(8)
    assert refund(api, payment, body(1), key=key).status_code == 201
    assert problem(refund(api, payment, body(2), key=key), 409, "idempotency-conflict")["field"] == "Idempotency-Key"
    path = f"/v1/payments/{payment['id']}/refunds"
    answer = api.http.post(path, content="{}", headers={"authorization": f"Bearer {api.key}"})
    problem(answer, 400, "missing-idempotency-key")


@pytest.mark.parametrize(
    ("role", "status"), [("viewer", 403), ("operate", 403), ("submit", 201), ("finance", 201), ("admin", 201)]
)
def test_tills_and_finance_may_refund_a_payment(api: Api, role: str, status: int) -> None:
    assert refund(api, charged(api), api_key=api.make_key(MERCHANT, role)).status_code == status


@pytest.mark.parametrize(("role", "status"), [("viewer", 403), ("submit", 403), ("operate", 403), ("finance", 201)])
def test_finance_alone_may_refund_without_a_payment(api: Api, role: str, status: int) -> None:
    content = body(poi_id=api.terminal())

    assert post(api, "/v1/refunds", content, api_key=api.make_key(MERCHANT, role)).status_code == status


def test_above_the_limit_a_second_key_agrees_by_sending_the_same(api: Api) -> None:
    one, two = api.make_key(MERCHANT, "finance"), api.make_key(MERCHANT, "finance")
    content, key = body(5001, poi_id=api.terminal()), secrets.token_hex(8)

    first = post(api, "/v1/refunds", content, key, one)
    same = post(api, "/v1/refunds", content, key, one)
    other_body = post(api, "/v1/refunds", {**content, "reference": "BACK-2"}, key, two)
    second = post(api, "/v1/refunds", content, key, two)
    after = post(api, "/v1/refunds", content, key, one)

    assert [answer.status_code for answer in (first, same, other_body, second, after)] == [202, 202, 409, 200, 200]
    assert first.json()["reason"] == "pending_approval"
    shown = second.json()
    assert (shown["reason"], shown["payment_id"]) == (None, None)
    assert shown["approved_by"] != shown["asked_by"]


def test_without_the_setting_there_is_no_refund_without_a_payment(
    postgres_url: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with served(postgres_url, tmp_path_factory.mktemp("off")) as off:
        answer = post(off, "/v1/refunds", body(poi_id=off.terminal()))
        assert "COUNTERFOIL_UNREFERENCED_REFUNDS" in problem(answer, 403, "unreferenced-refunds-off")["detail"]


def test_another_merchants_refund_does_not_exist(api: Api) -> None:
    made = refund(api, charged(api)).json()

    for path in (f"/v1/refunds/{made['id']}", f"/v1/refunds/{made['id']}/journal"):
        problem(api.get(path, api.other_key), 404, "not-found")
    problem(api.send("POST", f"/v1/refunds/{made['id']}/status-checks", {}, api.other_key), 404, "not-found")
    assert api.get("/v1/refunds", api.other_key).json()["data"] == []


def test_a_status_check_is_noted_and_changes_nothing_before_it_was_sent(api: Api) -> None:
    made = refund(api, charged(api)).json()

    answer = api.send("POST", f"/v1/refunds/{made['id']}/status-checks", {})

    assert answer.status_code == 202
    assert answer.json()["state"] == "pending"
    lines = api.get(f"/v1/refunds/{made['id']}/journal").json()["data"]
    assert [line["event"] for line in lines] == ["accepted", "check_asked"]


def test_the_client_refunds_and_reads(api: Api) -> None:
    payment = charged(api)
    with Counterfoil(api.url, api.key) as client:
        made = client.payments.refund(payment["id"], "BACK-9", (300, "EUR"))
        assert (made.state, made.refunded) == ("pending", None)
        assert client.payments.refunds(payment["id"]) == [made]
        assert client.payments.get_refund(made.id) == made
        with pytest.raises(CounterfoilError) as refused:
            client.payments.refund(payment["id"], "BACK-9", (1000, "EUR"))
        assert refused.value.type == "urn:counterfoil:problem:refund-exceeds-payment"


# --- by task ----------------------------------------------------------------------------------------------------------


def by_task(api: Api, **refund: Any) -> dict[str, Any]:
    store = RefundStore(api.database)
    recorder = RefundRecorder(store, api.recorder.policy, lambda _rings: None)
    intake = RefundIntake(store, api.store, recorder, lambda _rings: None, "counterfoil")
    return refund_by_task(intake, api.store, refund)


def test_a_task_refunds_a_payment_once(api: Api) -> None:
    payment = charged(api)
    wanted = {**body(), "payment_id": payment["id"], "merchant_account": MERCHANT, "idempotency_key": "till-1/17"}

    first = by_task(api, **wanted)

    assert first["state"] == "pending"
    assert by_task(api, **wanted) == first
    assert len(api.get(f"/v1/payments/{payment['id']}/refunds").json()["data"]) == 1


@pytest.mark.parametrize(
    ("changes", "problem_slug"),
    [
        ({"payment_id": None}, "invalid-field"),
        ({"payment_id": "no-id"}, "invalid-field"),
        ({"payment_id": str(UUID(int=5))}, "not-found"),
        ({"amount": {"currency": "EUR", "value": 99_999}}, "refund-exceeds-payment"),
        ({"poi_id": "V400m-000000000"}, "unknown-terminal"),
        ({"reference": "a:b"}, "invalid-field"),
    ],
)
def test_a_task_that_is_refused_is_kept_as_a_rejection(api: Api, changes: dict[str, Any], problem_slug: str) -> None:
    key = secrets.token_hex(8)
    wanted = {**body(), "payment_id": charged(api)["id"], "merchant_account": MERCHANT, "idempotency_key": key}

    told = by_task(api, **{**wanted, **changes})

    assert told["rejected"] == problem_slug
    kept = [row for row in api.get("/v1/rejections").json()["data"] if row["idempotency_key"] == key]
    assert [row["problem"] for row in kept] == [problem_slug]


def test_no_task_refunds_without_a_payment() -> None:
    """Access to the broker is a boundary of trust."""
    tasks = Path(__file__).parents[2] / "tasks"
    assert not [path.name for path in tasks.glob("*.py") if "pay_out" in path.read_text()]
