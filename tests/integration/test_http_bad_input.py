"""Bad input over HTTP: a status, a problem document that names the field and the remedy, and no half-written row."""

import json
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from tests.integration.http_support import OTHER_MERCHANT, Api, assert_problem, basic, served

pytestmark = pytest.mark.integration

SECRET = "4111111111111111"  # whatever is wrong, no answer may quote it


@pytest.fixture(scope="module")
def api(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with served(postgres_url, tmp_path_factory.mktemp("logs")) as api:
        yield api


@pytest.fixture
def nothing_written(api: Api) -> Iterator[None]:
    api.terminal()
    before = api.counts()
    yield
    assert api.counts() == before


WRONG_FIELDS: list[tuple[str, Any, str]] = [
    # member, wrong value, the field that is named
    ("amount", {"currency": "EUR", "value": 0}, "amount.value"),
    ("amount", {"currency": "EUR", "value": -1}, "amount.value"),
    ("amount", {"currency": "EUR", "value": 10**10}, "amount.value"),
    ("amount", {"currency": "EUR", "value": 10**29}, "amount.value"),
    ("amount", {"currency": "EUR", "value": 10.5}, "amount.value"),
    ("amount", {"currency": "EUR", "value": 1050.0}, "amount.value"),
    ("amount", {"currency": "EUR", "value": "1050"}, "amount.value"),
    ("amount", {"currency": "EUR", "value": True}, "amount.value"),
    ("amount", {"currency": "EUR", "value": None}, "amount.value"),
    ("amount", {"currency": "EUR", "value": [1]}, "amount.value"),
    ("amount", {"currency": "EUR"}, "amount.value"),
    ("amount", {"currency": "eur", "value": 1}, "amount.currency"),
    ("amount", {"currency": "XXX", "value": 1}, "amount.currency"),
    ("amount", {"currency": SECRET, "value": 1}, "amount.currency"),
    ("amount", {"currency": 978, "value": 1}, "amount.currency"),
    ("amount", {"value": 1}, "amount.currency"),
    ("amount", {"currency": "EUR", "value": 1, "minor": 1}, "amount.minor"),
    ("amount", {"currency": "JPY", "value": 100_000_000}, "amount"),
    ("amount", 1050, "amount"),
    ("amount", [1050, "EUR"], "amount"),
    ("reference", "", "reference"),
    ("reference", "x" * 81, "reference"),
    ("reference", "a:b", "reference"),
    ("reference", "a\\b", "reference"),
    ("reference", "café", "reference"),
    ("reference", "a\nb", "reference"),
    ("reference", "a\n", "reference"),
    ("reference", "a\x00b", "reference"),
    ("reference", "\ud800", "reference"),
    ("reference", 7, "reference"),
    ("reference", None, "reference"),
    ("poi_id", "V400m", "poi_id"),
    ("poi_id", "V400m-324 000", "poi_id"),
    ("poi_id", "V400m-" + "1" * 33, "poi_id"),
    ("poi_id", {"serial": 1}, "poi_id"),
    ("send_by_s", 4, "send_by_s"),
    ("send_by_s", 3601, "send_by_s"),
    ("send_by_s", 60.5, "send_by_s"),
    ("send_by_s", "60", "send_by_s"),
    ("metadata", {"a b": "x"}, "metadata.?"),
    ("metadata", {SECRET * 3: "x"}, "metadata.?"),
    ("metadata", {"till": 7}, "metadata.till"),
    ("metadata", {"till": "é"}, "metadata.till"),
    ("metadata", {"till": "x" * 201}, "metadata.till"),
    ("metadata", {f"n{i}": "x" for i in range(21)}, "metadata"),
    ("metadata", {"counterfoil_tag": "x"}, "metadata"),
    ("metadata", [["till", "7"]], "metadata"),
    ("tender_options", ["Everything"], "tender_options.0"),
    ("tender_options", "AskGratuity", "tender_options"),
    ("tender_options", ["MOTO"] * 9, "tender_options"),
    ("callback_url", "file:///etc/passwd", "callback_url"),
    ("callback_url", "https://", "callback_url"),
    ("callback_url", "https://x/" + "y" * 500, "callback_url"),
    ("override_reason", "because", "override_by"),
    ("override_by", "Ann", "override_reason"),
    ("override_by", "\x00", "override_by"),
    ("amounts", {"currency": "EUR", "value": 1}, "amounts"),
    ("merchant_account", OTHER_MERCHANT, "merchant_account"),
    ("idempotency_key", "k", "idempotency_key"),
    ("submitted_at", "2026-01-01T00:00:00Z", "submitted_at"),
    (SECRET, "x", "?"),
    ("x" * 200, "x", "?"),
    ("\u202e", "x", "?"),
]  # fmt: skip


@pytest.mark.usefixtures("nothing_written")
@pytest.mark.parametrize(("member", "value", "field"), WRONG_FIELDS)
def test_a_wrong_field_is_named_with_its_remedy(api: Api, member: str, value: Any, field: str) -> None:
    body = {"reference": "R", "poi_id": "V400m-1", "amount": {"currency": "EUR", "value": 1}, member: value}

    document = assert_problem(api.submit(body), 422, "invalid-field", field)

    assert document["detail"].startswith(f"{field}: ")
    assert SECRET not in document["detail"]


@pytest.mark.parametrize("member", ["reference", "poi_id", "amount"])
@pytest.mark.usefixtures("nothing_written")
def test_a_missing_member_is_named(api: Api, member: str) -> None:
    body = {"reference": "R", "poi_id": "V400m-1", "amount": {"currency": "EUR", "value": 1}}
    del body[member]

    assert_problem(api.submit(body), 422, "invalid-field", member)


@pytest.mark.usefixtures("nothing_written")
def test_text_for_people_may_be_in_any_language_but_holds_no_control_characters(api: Api) -> None:
    body = {"reference": "R", "poi_id": "V400m-1", "amount": {"currency": "EUR", "value": 1}, "override_by": "Zoë"}

    assert_problem(api.submit({**body, "override_reason": "l1\nl2"}), 422, "invalid-field", "override_reason")
    assert_problem(api.submit({**body, "override_reason": "a\x00b"}), 422, "invalid-field", "override_reason")
    assert_problem(api.submit({**body, "override_reason": "Gerät war weg"}), 422, "unknown-terminal", "poi_id")


@pytest.mark.usefixtures("nothing_written")
def test_an_unknown_terminal_another_merchants_and_a_removed_one_are_the_same(api: Api) -> None:
    theirs, removed = api.terminal(OTHER_MERCHANT), api.terminal()
    api.terminals.remove(removed)

    answers = [api.submit(api.submission(poi_id=poi_id)) for poi_id in ("V400m-999999999", theirs, removed)]

    for answer in answers:
        assert_problem(answer, 422, "unknown-terminal", "poi_id")
    assert len({answer.text for answer in answers}) == 1
    api.rows.execute("DELETE FROM terminals WHERE poi_id = ANY (%s)", [[theirs, removed]])


BROKEN: list[tuple[bytes, int, str]] = [
    (b"", 400, "malformed-body"),
    (b"{", 400, "malformed-body"),
    (b"[]", 400, "malformed-body"),
    (b'"text"', 400, "malformed-body"),
    (b"null", 400, "malformed-body"),
    (b'{"reference": NaN}', 400, "malformed-body"),
    (b'{"amount": {"value": Infinity}}', 400, "malformed-body"),
    (b'{"reference": "a", "reference": "b"}', 400, "malformed-body"),
    (b'{"amount": {"value": 1, "value": 2}}', 400, "malformed-body"),
    (b'{"reference": "\xff"}', 400, "malformed-body"),
    ('{"reference": "é"}'.encode("latin-1"), 400, "malformed-body"),
    ('{"reference": "a"}'.encode("utf-16"), 400, "malformed-body"),
    (b'{"amount": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", 400, "malformed-body"),
    (b'{"a":' * 40_000, 400, "malformed-body"),
    (b'{"amount": {"value": ' + b"9" * 31 + b"}}", 400, "malformed-body"),
    (b'{"amount": {"value": 1e99999999999999999999}}', 400, "malformed-body"),
    (b'{"reference": "' + b"x" * 262_144 + b'"}', 413, "body-too-large"),
    (b" " * 10_000_000, 413, "body-too-large"),
]


@pytest.mark.usefixtures("nothing_written")
@pytest.mark.parametrize(("body", "status", "slug"), BROKEN, ids=lambda value: str(value)[:30])
def test_a_broken_body_is_refused_before_anything_believes_it(api: Api, body: bytes, status: int, slug: str) -> None:
    headers = {"idempotency-key": "k", "authorization": f"Bearer {api.key}"}

    with httpx.Client(base_url=api.url, trust_env=False) as client:
        answer = client.post("/v1/payments", content=body, headers=headers)

    assert answer.status_code == status
    document = answer.json()
    assert document["type"].endswith(slug)


@pytest.mark.usefixtures("nothing_written")
def test_a_duplicate_member_is_named(api: Api) -> None:
    headers = {"idempotency-key": "k", "authorization": f"Bearer {api.key}"}

    answer = api.http.post("/v1/payments", content=b'{"reference": "a", "reference": "b"}', headers=headers)

    assert_problem(answer, 400, "malformed-body", "reference")


@pytest.mark.usefixtures("nothing_written")
def test_a_body_that_grows_without_a_length_is_cut_off(api: Api) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(100):
            yield b" " * 65_536

    headers = {"idempotency-key": "k", "authorization": f"Bearer {api.key}"}
    with httpx.Client(base_url=api.url, trust_env=False) as client:
        answer = client.post("/v1/payments", content=chunks(), headers=headers)

    assert_problem(answer, 413, "body-too-large")


@pytest.mark.slow
@pytest.mark.usefixtures("nothing_written")
def test_a_body_that_dribbles_is_given_up_after_ten_seconds(api: Api) -> None:
    head = f"POST /v1/payments HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {api.key}\r\nidempotency-key: k\r\n"
    address = httpx.URL(api.url)
    started = time.monotonic()
    with socket.create_connection((address.host, address.port or 0), timeout=30) as slow:
        slow.sendall(f"{head}content-length: 1000\r\n\r\n{{".encode())

        answer = b"".join(iter(lambda: slow.recv(65_536), b"")).decode()  # head and body may come apart

    assert answer.startswith("HTTP/1.1 408 ")
    assert "body-too-slow" in answer
    assert 9 < time.monotonic() - started < 20


@pytest.mark.usefixtures("nothing_written")
def test_an_idempotency_key_is_required_and_printable(api: Api) -> None:
    headers = {"authorization": f"Bearer {api.key}"}
    body = json.dumps(api.submission(poi_id="V400m-1"))

    missing = api.http.post("/v1/payments", content=body, headers=headers)
    assert_problem(missing, 400, "missing-idempotency-key", "Idempotency-Key")

    for key in [b"x" * 256, "é".encode(), b"a\tb"]:
        with_key: Any = {**headers, "idempotency-key": key}
        wrong = api.http.post("/v1/payments", content=body, headers=with_key)
        assert_problem(wrong, 422, "invalid-field", "Idempotency-Key")


@pytest.mark.usefixtures("nothing_written")
@pytest.mark.parametrize("wait", ["-1", "61", "nan", "inf", "soon", "1e99"])
def test_a_wait_out_of_bounds_is_named_on_both_routes(api: Api, wait: str) -> None:
    assert_problem(api.submit({}, query=f"?wait={wait}"), 422, "invalid-field", "wait")
    assert_problem(api.get(f"/v1/payments/{secrets.token_hex(16)}", wait=wait), 422, "invalid-field", "wait")


QUERIES: list[tuple[str, str, str]] = [
    ("/v1/payments", "limit", "0"),
    ("/v1/payments", "limit", "201"),
    ("/v1/payments", "limit", "many"),
    ("/v1/payments", "cursor", "%%%"),
    ("/v1/payments", "cursor", "wrI"),  # a superscript two is a digit for some
    ("/v1/payments", "cursor", "x" * 201),
    ("/v1/payments", "state", "paid"),
    ("/v1/payments", "outcome", "maybe"),
    ("/v1/payments", "charged", "perhaps"),
    ("/v1/payments", "amount", "-1"),
    ("/v1/payments", "amount", str(2**63)),
    ("/v1/payments", "reference", "a\x00b"),
    ("/v1/payments", "psp_reference", "\x00"),
    ("/v1/payments", "poi_id", "x" * 81),
    ("/v1/payments", "created_from", "yesterday"),
    ("/v1/payments", "created_to", "2026-01-01T00:00:00"),
    ("/v1/terminals", "cursor", "AAAA"),
    ("/v1/rejections", "cursor", "AAAA"),
]


@pytest.mark.usefixtures("nothing_written")
@pytest.mark.parametrize(("path", "name", "value"), QUERIES)
def test_a_wrong_query_is_named(api: Api, path: str, name: str, value: str) -> None:
    assert_problem(api.get(path, **{name: value}), 422, "invalid-field", name)


@pytest.mark.usefixtures("nothing_written")
def test_a_path_that_is_no_identifier_is_named_without_its_value(api: Api) -> None:
    document = assert_problem(api.get(f"/v1/payments/{SECRET}Z"), 422, "invalid-field", "payment_id")
    assert SECRET not in document["detail"]
    assert "`" not in document["detail"]
    assert_problem(api.get("/v1/terminals/V400m"), 422, "invalid-field", "poi_id")


@pytest.mark.usefixtures("nothing_written")
def test_what_is_not_there_and_what_is_not_offered_are_problems_too(api: Api) -> None:
    assert_problem(api.get("/v1/nothing"), 404, "not-found")
    assert_problem(api.send("DELETE", "/v1/payments"), 405, "method-not-allowed")
    assert_problem(api.send("PATCH", "/v1/terminals/V400m-1"), 405, "method-not-allowed")
    assert "POST" in api.send("GET", "/notifications/terminal").headers["allow"]


@pytest.mark.usefixtures("nothing_written")
@pytest.mark.parametrize(
    "authorization",
    [None, "", "Bearer", "Bearer wrong", "Basic eDp5", "cfk_x", basic("platform", "x")],
)
def test_a_wrong_api_key_is_401(api: Api, authorization: str | None) -> None:
    headers = {} if authorization is None else {"authorization": authorization}

    for path in ["/v1/payments", "/v1/terminals", "/v1/rejections", "/v1/terminals/V400m-1"]:
        answer = api.http.get(path, headers=headers)
        assert_problem(answer, 401, "unauthorized")
        assert answer.headers["www-authenticate"] == "Bearer"
    posted = api.http.post("/v1/payments", headers=headers, content=b" " * 1000)
    assert_problem(posted, 401, "unauthorized")


def test_a_role_may_do_what_it_says_and_no_more(api: Api) -> None:
    poi_id = api.terminal()
    payment = api.accepted(poi_id=poi_id)
    acts: dict[str, Callable[[str], httpx.Response]] = {
        "read": lambda key: api.get("/v1/payments", key),
        "submit": lambda key: api.submit({}, api_key=key),
        "abort": lambda key: api.send("POST", f"/v1/payments/{payment['id']}/abort", {}, key),
        "check": lambda key: api.send("POST", f"/v1/payments/{payment['id']}/status-checks", {}, key),
        "hold": lambda key: api.send("POST", f"/v1/terminals/{poi_id}/hold", {}, key),
        "put": lambda key: api.send("PUT", f"/v1/terminals/{poi_id}", {}, key),
    }
    may = {
        "viewer": {"read"},
        "submit": {"read", "submit", "abort"},
        "operate": {"read", "check", "hold"},
        "finance": {"read"},
        "admin": set(acts),
    }

    for role, allowed in may.items():
        key = api.make_key(payment["merchant_account"], role)
        refused = {name for name, act in acts.items() if act(key).status_code == 403}
        assert refused == set(acts) - allowed, role


def test_another_merchants_objects_do_not_exist(api: Api) -> None:
    poi_id = api.terminal()
    payment = api.accepted(poi_id=poi_id)
    before = api.counts()

    for method, path in [
        ("GET", f"/v1/payments/{payment['id']}"),
        ("GET", f"/v1/payments/{payment['id']}/journal"),
        ("POST", f"/v1/payments/{payment['id']}/status-checks"),
        ("POST", f"/v1/payments/{payment['id']}/abort"),
        ("GET", f"/v1/terminals/{poi_id}"),
        ("PUT", f"/v1/terminals/{poi_id}"),
        ("DELETE", f"/v1/terminals/{poi_id}"),
        ("POST", f"/v1/terminals/{poi_id}/hold"),
        ("POST", f"/v1/terminals/{poi_id}/release"),
    ]:
        assert_problem(api.send(method, path, api_key=api.other_key), 404, "not-found")
    assert api.get("/v1/payments", api.other_key, reference=payment["reference"]).json()["data"] == []
    assert api.counts() == before
