"""Terminals, journals, lists and the API's own description, over HTTP."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from orchestrator.web.problems import TITLES, TYPE_BASE
from tests.integration.http_support import MERCHANT, OTHER_MERCHANT, Api, assert_problem, served

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def api(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with served(postgres_url, tmp_path_factory.mktemp("logs")) as api:
        yield api


@pytest.fixture(scope="module")
def description(api: Api) -> dict[str, Any]:
    found: dict[str, Any] = api.http.get("/openapi.json").json()
    return found


def conforms(description: dict[str, Any], value: Any, schema: str) -> None:
    """The value is what the description says, and has no member that it does not mention."""
    whole = {**description, "$ref": f"#/components/schemas/{schema}"}
    jsonschema.Draft202012Validator(whole).validate(value)
    assert set(value) <= set(description["components"]["schemas"][schema]["properties"])


def test_a_terminal_is_registered_changed_and_forgotten(api: Api, description: dict[str, Any]) -> None:
    path = "/v1/terminals/P400Plus-275000001"

    chosen = {"store": "Pier 3", "transport": "sync", "region": "us", "cloud_api": "device", "till_prints": True}
    created = api.send("PUT", path, chosen)
    changed = api.send("PUT", path, {"merchant_account": MERCHANT})

    assert (created.status_code, changed.status_code) == (201, 200)
    conforms(description, created.json(), "Terminal")
    known = {"poi_id": "P400Plus-275000001", "merchant_account": MERCHANT, "held": None, "running": None, "queued": 0}
    assert created.json() == {
        **known, **chosen, "unknown": 0, "created_at": created.json()["created_at"],
        **dict.fromkeys(("address", "address_at", "trouble", "trouble_at")),
    }  # fmt: skip
    assert {name: changed.json()[name] for name in chosen} == dict.fromkeys(chosen) | {"transport": "async"}
    assert api.send("DELETE", path).status_code == 204
    assert_problem(api.get(path), 404, "not-found")
    assert_problem(api.send("DELETE", path), 404, "not-found")
    assert api.send("PUT", path, {}).status_code in {200, 201}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"transport": "pigeon"}, "transport"),
        ({"transport": "local"}, "address"),
        ({"transport": "local", "address": "http://192.0.2.7"}, "address"),
        ({"address": "192.0.2.7:0"}, "address"),
        ({"transport": 1}, "transport"),
        ({"region": "mars"}, "region"),
        ({"cloud_api": "web"}, "cloud_api"),
        ({"till_prints": "yes"}, "till_prints"),
        ({"store": ""}, "store"),
        ({"store": "x" * 81}, "store"),
        ({"store": "a\x00"}, "store"),
        ({"merchant_account": OTHER_MERCHANT}, "merchant_account"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_wrong_registration_names_its_field_and_registers_nothing(api: Api, body: Any, field: str) -> None:
    before = api.counts()

    document = assert_problem(api.send("PUT", "/v1/terminals/V400m-700000001", body), 422, "invalid-field", field)

    assert document["detail"].startswith(f"{field}: ")
    assert api.counts() == before


def test_no_key_takes_another_merchants_terminal(api: Api) -> None:
    poi_id = api.terminal()

    assert_problem(api.send("PUT", f"/v1/terminals/{poi_id}", {}, api.other_key), 404, "not-found")

    assert api.get(f"/v1/terminals/{poi_id}").json()["merchant_account"] == MERCHANT
    assert api.send("DELETE", f"/v1/terminals/{poi_id}").status_code == 204
    assert api.send("PUT", f"/v1/terminals/{poi_id}", {}, api.other_key).json()["merchant_account"] == OTHER_MERCHANT


def test_a_terminal_with_pending_payments_is_not_forgotten(api: Api) -> None:
    payment = api.accepted()
    path = f"/v1/terminals/{payment['poi_id']}"

    assert_problem(api.send("DELETE", path), 409, "terminal-in-use", "poi_id")
    api.claim(payment)
    assert_problem(api.send("DELETE", path), 409, "terminal-in-use", "poi_id")
    api.concluded(payment)

    assert api.send("DELETE", path).status_code == 204


def test_a_terminal_shows_what_runs_and_what_waits(api: Api, description: dict[str, Any]) -> None:
    poi_id = api.terminal()
    lost = api.unknown(api.sent(poi_id=poi_id))
    api.rows.execute("UPDATE payments SET asked_since_unknown = true WHERE id = %s", [lost["id"]])
    running = api.sent(poi_id=poi_id)
    for _ in range(3):
        api.accepted(poi_id=poi_id)

    shown = api.get(f"/v1/terminals/{poi_id}").json()

    conforms(description, shown, "Terminal")
    assert (shown["queued"], shown["unknown"]) == (3, 1)
    assert (shown["running"]["id"], shown["running"]["reference"]) == (running["id"], running["reference"])


def test_a_held_terminal_starts_nothing_until_it_is_released(api: Api, description: dict[str, Any]) -> None:
    poi_id = api.terminal()
    payment = api.accepted(poi_id=poi_id)

    held = api.send("POST", f"/v1/terminals/{poi_id}/hold", {"reason": "paper roll"}).json()

    conforms(description, held, "Terminal")
    assert held["held"]["reason"] == "paper roll"
    assert held["held"]["by"].startswith("key ")
    with pytest.raises(AssertionError):
        api.claim(payment)
    command = "SELECT due_at, ring_at FROM commands WHERE payment_id = %s AND kind = 'send'"
    api.rows.execute("UPDATE commands SET ring_at = 'infinity' WHERE payment_id = %s", [payment["id"]])
    released = api.send("POST", f"/v1/terminals/{poi_id}/release")
    assert released.json()["held"] is None
    woken = api.rows.execute(f"{command} AND ring_at < 'infinity'", [payment["id"]]).fetchone()
    assert woken
    api.claim(payment)


def test_a_second_hold_keeps_since_when(api: Api) -> None:
    path = f"/v1/terminals/{api.terminal()}/hold"

    first, second = api.send("POST", path).json(), api.send("POST", path, {"reason": "still"}).json()

    assert first["held"]["at"] == second["held"]["at"]
    assert second["held"]["reason"] == "still"
    assert_problem(api.send("POST", path, {"reason": 1}), 422, "invalid-field", "reason")
    assert_problem(api.send("POST", path.replace("hold", "release"), {"reason": "x"}), 400, "malformed-body")


def test_terminals_are_paged_in_order(api: Api) -> None:
    for number in range(5):
        api.terminals.put({"poi_id": f"A-{number}", "merchant_account": "Fleet", "transport": "async"})
    key = api.make_key("Fleet", "viewer")

    first = api.get("/v1/terminals", key, limit=3).json()
    second = api.get("/v1/terminals", key, limit=3, cursor=first["next_cursor"]).json()

    assert [t["poi_id"] for t in first["data"] + second["data"]] == [f"A-{number}" for number in range(5)]
    assert second["next_cursor"] is None


def test_payments_are_filtered_and_paged_newest_first(api: Api, description: dict[str, Any]) -> None:
    poi_id = api.terminal()
    key = api.make_key(MERCHANT, "viewer")
    made = [api.accepted(poi_id=poi_id, amount={"currency": "EUR", "value": 700 + n % 2}) for n in range(5)]
    api.claim(made[0])
    charged = api.concluded(made[0])

    def found(**query: Any) -> list[str]:
        page = api.get("/v1/payments", key, poi_id=poi_id, **query).json()
        conforms(description, page, "PaymentPage")
        return [payment["id"] for payment in page["data"]]

    newest_first = [payment["id"] for payment in reversed(made)]
    assert found() == newest_first
    assert found(charged="true") == found(state="confirmed") == found(outcome="approved") == [charged["id"]]
    assert found(psp_reference=charged["psp_reference"]) == [charged["id"]]
    assert found(charged="false") == []
    assert found(amount=701) == [made[3]["id"], made[1]["id"]]
    assert found(reference=made[2]["reference"]) == [made[2]["id"]]
    assert found(created_from=made[3]["created_at"]) == newest_first[:2]
    assert found(created_to=made[3]["created_at"]) == newest_first[2:]
    first = api.get("/v1/payments", key, poi_id=poi_id, limit=4).json()
    second = api.get("/v1/payments", key, poi_id=poi_id, limit=4, cursor=first["next_cursor"]).json()
    assert [p["id"] for p in first["data"] + second["data"]] == newest_first


def test_the_journal_ascends_and_ends_where_the_payment_stands(api: Api, description: dict[str, Any]) -> None:
    payment = api.concluded(api.sent())
    path = f"/v1/payments/{payment['id']}/journal"

    first = api.get(path, limit=2).json()
    second = api.get(path, limit=2, cursor=first["next_cursor"]).json()

    conforms(description, first, "JournalPage")
    lines = first["data"] + second["data"]
    assert [line["sequence"] for line in lines] == [1, 2, 3] == list(range(1, payment["sequence"] + 1))
    assert [line["evidence"] for line in lines] == ["submission_accepted", "send_started", "result_reported"]
    assert [line["after"] for line in lines] == ["pending", "pending", "confirmed"]


def test_abort_and_status_checks_are_taken_and_change_what_they_may(api: Api, description: dict[str, Any]) -> None:
    queued, sent = api.accepted(), api.sent()

    stopped = api.send("POST", f"/v1/payments/{queued['id']}/abort", {})
    asked = api.send("POST", f"/v1/payments/{sent['id']}/abort", {})
    checked = api.send("POST", f"/v1/payments/{sent['id']}/status-checks")

    assert [answer.status_code for answer in (stopped, asked, checked)] == [202, 202, 202]
    assert (stopped.json()["outcome"], stopped.json()["reason"]) == ("aborted", "aborted_before_send")
    assert asked.json()["state"] == checked.json()["state"] == "pending"
    conforms(description, checked.json(), "Payment")
    assert_problem(api.send("POST", f"/v1/payments/{sent['id']}/abort", {"force": True}), 400, "malformed-body")


def test_a_long_poll_returns_with_the_outcome_and_not_much_later(api: Api) -> None:
    payment = api.sent()
    waiting = api.http.build_request(
        "GET", f"/v1/payments/{payment['id']}?wait=20", headers={"authorization": f"Bearer {api.key}"}
    )
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(api.http.send(waiting)))
    thread.start()
    assert api.push(api.result(payment)).status_code == 200
    thread.join(10)

    assert found
    assert found[0].json()["outcome"] == "approved"
    assert found[0].elapsed.total_seconds() < 10


def test_a_long_poll_that_waits_in_vain_answers_what_there_is(api: Api) -> None:
    answer = api.submit(api.submission(), query="?wait=0.3")

    assert (answer.status_code, answer.json()["state"]) == (201, "pending")


def test_the_description_names_security_bodies_and_problems_of_every_route(description: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator.check_schema({"$defs": description["components"]["schemas"]})
    assert description["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    problem = {"schema": {"$ref": "#/components/schemas/Problem"}}
    for path, methods in description["paths"].items():
        for operation in methods.values():
            assert operation["responses"]["default"]["content"] == {"application/problem+json": problem}
            assert ("security" in operation) == path.startswith(("/v1/", "/notifications/"))
            assert "422" not in operation["responses"]
    submit = description["paths"]["/v1/payments"]["post"]
    assert submit["requestBody"]["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/Submission"}
    assert {"200", "201"} <= set(submit["responses"])
    assert {p["name"]: p.get("required") for p in submit["parameters"]} == {"Idempotency-Key": True, "wait": None}
    types = description["components"]["schemas"]["Problem"]["properties"]["type"]["enum"]
    assert types == [TYPE_BASE + slug for slug in TITLES]
    named = json.dumps(description)
    for reference in {part.split('"')[0] for part in named.split("#/components/schemas/")[1:]}:
        assert reference in description["components"]["schemas"], reference


def test_a_payment_and_a_submission_are_as_described(api: Api, description: dict[str, Any]) -> None:
    body = api.submission(metadata={"till": "7"}, tender_options=["AskGratuity"], send_by_s=9)

    conforms(description, body, "Submission")
    conforms(description, api.accepted(), "Payment")
    conforms(description, api.concluded(api.sent()), "Payment")
    conforms(description, api.submit({}).json(), "Problem")


def test_health_needs_no_key(api: Api) -> None:
    assert api.http.get("/healthz").json() == {"status": "ok"}
    assert api.http.get("/readyz").json()["status"] == "ok"


def test_a_default_of_local_registers_nothing_that_cannot_be_reached(postgres_url: str, tmp_path: Path) -> None:
    with served(postgres_url, tmp_path, COUNTERFOIL_TRANSPORT="local") as api:
        path = "/v1/terminals/V400m-700000002"
        assert_problem(api.send("PUT", path, {}), 422, "invalid-field", "address")

        created = api.send("PUT", path, {"address": "192.0.2.7"})
        assert (created.status_code, created.json()["transport"]) == (201, "local")
        assert created.json()["address"] == "192.0.2.7:8443"


def test_an_address_changes_while_the_rest_stays(api: Api) -> None:
    path = "/v1/terminals/V400m-700000003"
    api.send("PUT", path, {"transport": "local", "address": "192.0.2.7", "store": "Harbour"})
    before = api.get(path).json()

    moved = api.send("PUT", f"{path}/address", {"address": "[2001:db8::7]:9443"})

    assert moved.status_code == 200
    changed = {"address": "[2001:db8::7]:9443", "address_at": moved.json()["address_at"]}
    assert moved.json() == before | changed
    assert changed["address_at"] > before["address_at"]
    assert_problem(api.send("PUT", "/v1/terminals/V400m-799999999/address", {"address": "h"}), 404, "not-found")
