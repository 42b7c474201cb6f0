"""The receiver over HTTP: stored before it is acknowledged, 5xx when it is not, and nothing concludes without a tag."""

import json
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from orchestrator.evidence import AnswerMissing, Exchange
from orchestrator.store import schema
from orchestrator.store.database import connect_arguments
from tests import protocol_vectors
from tests.integration.http_support import (
    MERCHANT,
    PASSWORD,
    USERNAME,
    Api,
    Json,
    assert_problem,
    basic,
    served,
    serving,
)
from tests.services import fresh_database, libpq_url

pytestmark = pytest.mark.integration

PUSHED = {
    name: entry
    for name, entry in protocol_vectors.ENTRIES.items()
    if name.startswith("notifications/") and "outcome" in entry
}
WEBHOOKS = [name for name in protocol_vectors.ENTRIES if name.startswith("webhooks/")]


@pytest.fixture(scope="module")
def api(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with served(postgres_url, tmp_path_factory.mktemp("logs")) as api:
        yield api


def accepted(answer: httpx.Response) -> bool:
    return (answer.status_code, answer.text) == (200, "[accepted]")


def stray(api: Api) -> Json:
    found = api.rows.execute("SELECT * FROM strays ORDER BY last_at DESC LIMIT 1").fetchone()
    assert found
    return found


def commands(api: Api, payment: Json) -> dict[str, Any]:
    found = api.rows.execute("SELECT kind, due_at FROM commands WHERE payment_id = %s", [payment["id"]]).fetchall()
    return {row["kind"]: row["due_at"] for row in found}


# -- who may push ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "Basic",
        "Basic !!!",
        "Basic é".encode(),
        "Bearer " + basic(USERNAME, PASSWORD)[6:],
        basic(USERNAME, PASSWORD + "x"),
        basic(USERNAME, ""),
        basic("", PASSWORD),
        basic(USERNAME.upper(), PASSWORD),
        basic(USERNAME, PASSWORD)[:-2],
    ],
)
def test_a_wrong_login_is_401_and_stores_nothing(api: Api, authorization: str | bytes | None) -> None:
    payment = api.sent()
    body = json.dumps(api.result(payment)).encode()
    before = api.counts()
    headers: Any = {} if authorization is None else {"authorization": authorization}

    answer = api.http.post("/notifications/terminal", content=body, headers=headers)

    assert_problem(answer, 401, "unauthorized")
    assert answer.headers["www-authenticate"].startswith("Basic ")
    assert api.counts() == before
    assert api.row(payment["id"])["state"] == "pending"


def test_without_a_password_nobody_may_push(postgres_url: str, tmp_path: Path) -> None:
    unset = {"COUNTERFOIL_NOTIFICATION_USERNAME": "", "COUNTERFOIL_NOTIFICATION_PASSWORD": ""}
    with served(postgres_url, tmp_path, **unset) as closed:
        for login in [None, ("", ""), (USERNAME, ""), (USERNAME, PASSWORD)]:
            assert_problem(closed.push(protocol_vectors.body("notifications/shutdown"), login), 401, "unauthorized")


# -- what concludes, and what does not ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("approved", "outcome"), [(1099, "approved"), (600, "partially_approved"), (0, "declined")])
def test_a_tagged_result_is_committed_before_it_is_acknowledged(api: Api, approved: int, outcome: str) -> None:
    payment = api.sent()

    answer = api.push(api.result(payment, approved=approved))

    row = api.row(payment["id"])  # on another connection: what is not committed would not be seen
    assert accepted(answer)
    assert (row["state"], row["outcome"], row["sequence"]) == ("confirmed", outcome, 3)
    assert row["holds_terminal"] is None


def test_a_repeated_result_is_counted_and_moves_nothing(api: Api) -> None:
    payment = api.sent()
    body = api.result(payment)
    assert accepted(api.push(body))
    before = api.row(payment["id"])

    with ThreadPoolExecutor(10) as threads:
        answers = list(threads.map(lambda _: api.push(body), range(10)))

    assert all(accepted(answer) for answer in answers)
    assert api.row(payment["id"]) == before
    repeats = api.rows.execute("SELECT times FROM journal_repeats WHERE payment_id = %s", [payment["id"]]).fetchall()
    assert [row["times"] for row in repeats] == [10]


def test_a_result_that_arrives_many_times_at_once_is_journalled_once(api: Api) -> None:
    for _ in range(10):
        payment = api.sent()
        body = api.result(payment)
        gate = threading.Barrier(10)

        def push(_n: int, body: Json = body, gate: threading.Barrier = gate) -> httpx.Response:
            gate.wait(10)
            return api.push(body)

        with ThreadPoolExecutor(10) as threads:
            assert all(accepted(answer) for answer in threads.map(push, range(10)))

        assert api.row(payment["id"])["sequence"] == 3


def test_a_result_after_the_window_still_concludes(api: Api) -> None:
    payment = api.unknown(api.sent())

    assert accepted(api.push(api.result(payment)))

    row = api.row(payment["id"])
    assert (row["state"], row["outcome"]) == ("confirmed", "approved")


def test_a_second_and_different_result_is_a_contradiction_in_either_order(api: Api) -> None:
    for order in [(0, 1099), (1099, 0)]:
        payment = api.sent()
        for approved in order:
            assert accepted(api.push(api.result(payment, approved=approved)))

        row = api.row(payment["id"])
        alarms = api.rows.execute("SELECT name FROM alarms WHERE payment_id = %s", [payment["id"]]).fetchall()
        assert (row["state"], row["reason"], row["outcome"]) == ("unknown", "contradiction", None)
        assert alarms


def test_a_forged_success_never_concludes_and_makes_us_ask_at_once(api: Api) -> None:
    genuine, forged = api.sent(), api.sent()
    other_tag = api.result(genuine)["SaleToPOIResponse"]["PaymentResponse"]["Response"]["AdditionalResponse"]
    body = api.result(forged, tagged=False)
    untagged = json.dumps(body)
    body["SaleToPOIResponse"]["PaymentResponse"]["Response"]["AdditionalResponse"] = other_tag

    for forgery in [untagged.encode(), json.dumps(body).encode()]:
        assert accepted(api.push(forgery))
        row = api.row(forged["id"])
        assert (row["state"], row["outcome"]) == ("pending", None)
        due = commands(api, forged)
        assert "check_status" in due
        assert due["check_status"] <= row["answer_by"]


def test_hearsay_about_a_payment_that_was_never_sent_sends_nothing(api: Api) -> None:
    payment = api.accepted()

    assert accepted(api.push(api.result(payment, tagged=False)))

    row = api.row(payment["id"])
    assert (row["state"], row["sent_at"]) == ("pending", None)


def test_a_pushed_refusal_of_the_request_is_hearsay(api: Api) -> None:
    payment = api.sent()
    body = json.loads(protocol_vectors.body("notifications/reject_pushed"))
    tx = api.transaction(payment)
    body["SaleToPOIRequest"]["MessageHeader"] |= {"SaleID": tx.sale_id, "ServiceID": tx.service_id, "POIID": tx.poi_id}
    body["SaleToPOIRequest"]["EventNotification"].pop("RejectedMessage")

    assert accepted(api.push(body))

    assert api.row(payment["id"])["state"] == "pending"
    assert "check_status" in commands(api, payment)
    lines = api.rows.execute("SELECT evidence FROM journal WHERE payment_id = %s ORDER BY sequence", [payment["id"]])
    assert [line["evidence"] for line in lines][-1] == "reject_pushed"


def test_a_result_before_the_lost_answer_of_its_request_stands(api: Api) -> None:
    payment = api.sent()
    assert accepted(api.push(api.result(payment)))
    api.recorder.record(api.transaction(payment).id, AnswerMissing(exchange=Exchange.PAYMENT, why="read-timeout"))

    assert api.row(payment["id"])["outcome"] == "approved"


# -- what is not ours --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", [{"POIID": "V400m-888888888"}, {"ServiceID": "zzzzzzzzzz"}, {"SaleID": "THEIRS"}])
def test_a_foreign_result_is_acknowledged_and_kept_as_a_stray(api: Api, change: Json) -> None:
    payment = api.sent()
    body = api.result(payment)
    body["SaleToPOIResponse"]["MessageHeader"] |= change

    assert accepted(api.push(body))
    assert accepted(api.push(body))

    found = stray(api)
    assert (found["why"], found["times"]) == ("no-such-payment", 2)
    assert api.row(payment["id"])["state"] == "pending"


def test_a_result_that_does_not_fit_its_payment_is_a_stray(api: Api) -> None:
    payment = api.sent()
    body = api.result(payment)
    body["SaleToPOIResponse"]["PaymentResponse"]["PaymentResult"]["AmountsResp"]["Currency"] = "USD"

    assert accepted(api.push(body))

    assert stray(api)["why"] == "not-our-answer"
    assert api.row(payment["id"])["state"] == "pending"


ODD_BODIES: list[Any] = [
    {}, [], 7, "text", None, True, {"SaleToPOIResponse": None}, {"SaleToPOIResponse": {}},
    {"SaleToPOIRequest": {}, "SaleToPOIResponse": {}}, {"SaleToPOIResponse": {"MessageHeader": {}}},
    {"SaleToPOIResponse": {"MessageHeader": {"POIID": 7, "ServiceID": [], "SaleID": {}}}},
    {"SaleToPOIResponse": {"MessageHeader": {"MessageCategory": "Payment", "POIID": "\x00", "ServiceID": "\ud800",
                                             "SaleID": "x" * 5000}, "PaymentResponse": {}}},
    {"SaleToPOIRequest": {"MessageHeader": {}, "EventNotification": {"EventToNotify": "Reject", "EventDetails": "%0"}}},
    {"SaleToPOIRequest": {"MessageHeader": {}, "EventNotification": {}}},
    {"SaleToPOIRequest": {"MessageHeader": {"POIID": "\udfff\x00"}, "EventNotification": {"EventToNotify": "\x00"}}},
    {"SaleToPOIResponse": {"MessageHeader": {}, "NexoBlob": "AAAA"}},
]  # fmt: skip


@pytest.mark.parametrize("body", ODD_BODIES, ids=lambda body: json.dumps(body)[:50])
def test_whatever_is_well_formed_and_authenticated_is_acknowledged(api: Api, body: Any) -> None:
    payments = api.count("payments"), api.count("journal")

    assert accepted(api.push(json.dumps(body).encode()))

    assert (api.count("payments"), api.count("journal")) == payments


@pytest.mark.parametrize(
    "corrupt",
    [
        lambda paid: paid.clear(),
        lambda paid: paid.update(Response=None),
        lambda paid: paid["Response"].update(Result="Perhaps"),
        lambda paid: paid["Response"].update(Result="\x00"),
        lambda paid: paid["Response"].update(AdditionalResponse="%zz&&=&\x00=\ud800"),
        lambda paid: paid["Response"].update(AdditionalResponse=["a"]),
        lambda paid: paid["Response"].update(ErrorCondition="\ud800" * 400, Result="Failure"),
        lambda paid: paid.update(PaymentResult={"AmountsResp": {"AuthorizedAmount": "ten", "Currency": "EUR"}}),
        lambda paid: paid.update(PaymentResult={"AmountsResp": {"AuthorizedAmount": -1, "Currency": "EUR"}}),
        lambda paid: paid.update(PaymentResult={"AmountsResp": {"AuthorizedAmount": 10**25, "Currency": "EUR"}}),
        lambda paid: paid.update(POIData={"POITransactionID": {"TransactionID": "\x00" * 5000}}),
        lambda paid: paid.update(POIData={"POITransactionID": {"TransactionID": "x" * 5000}}),
        lambda paid: paid.update(SaleData="x"),
    ],
)
def test_a_corrupt_result_of_ours_is_acknowledged_and_invents_no_charge(api: Api, corrupt: Any) -> None:
    for tagged in (False, True):
        payment = api.sent()
        body = api.result(payment, tagged=tagged)
        corrupt(body["SaleToPOIResponse"]["PaymentResponse"])

        assert accepted(api.push(json.dumps(body).encode()))

        row = api.row(payment["id"])
        assert row["authorised_minor"] in {None, 1099}
        assert tagged or row["outcome"] is None


@pytest.mark.parametrize(
    "name", [name for name, e in PUSHED.items() if e["outcome"].startswith(("event:", "display:"))]
)
def test_events_and_display_texts_are_kept_for_whoever_watches_and_are_no_evidence(api: Api, name: str) -> None:
    payment = api.sent()
    body = json.loads(protocol_vectors.body(name))
    body["SaleToPOIRequest"]["MessageHeader"]["POIID"] = payment["poi_id"]
    before, row = api.counts(), api.row(payment["id"])

    assert accepted(api.push(body))

    changed = {table for table, count in api.counts().items() if count != before[table]}
    assert changed - {"alarms"} == {"terminal_events"}
    assert api.row(payment["id"]) == row
    shown = api.rows.execute("SELECT kind, name FROM terminal_events WHERE poi_id = %s", [payment["poi_id"]]).fetchone()
    assert shown
    assert f"{shown['kind']}:{shown['name']}" == PUSHED[name]["outcome"]


@pytest.mark.parametrize("name", [name for name, entry in PUSHED.items() if "for_request" in entry])
def test_each_pushed_answer_of_the_vectors_does_what_its_outcome_demands(api: Api, name: str) -> None:
    """The vectors carry no tag of ours: as they are they conclude nothing; with the tag they are believed."""
    tx = protocol_vectors.transaction_of(PUSHED[name]["for_request"])
    body = json.loads(protocol_vectors.body(name))
    for tagged in (False, True):
        payment = api.sent(
            reference=f"{tx.reference}-{secrets.token_hex(3)}",
            amount={"currency": tx.amount.currency, "value": tx.amount.minor},
        )
        ours = aimed(api, json.loads(json.dumps(body)), payment, tagged=tagged)

        assert accepted(api.push(ours))

        row = api.row(payment["id"])
        wanted = PUSHED[name]["outcome"]
        believed = tagged and wanted != "unknown"
        assert (row["outcome"], row["state"]) == ((wanted, "confirmed") if believed else (None, "pending"))
        assert believed or "check_status" in commands(api, payment)


def aimed(api: Api, body: Json, payment: Json, *, tagged: bool) -> Json:
    """The vector as an answer to this payment."""
    tx = api.transaction(payment)
    message = body.get("SaleToPOIResponse") or body["SaleToPOIRequest"]
    message["MessageHeader"] |= {"SaleID": tx.sale_id, "ServiceID": tx.service_id, "POIID": tx.poi_id}
    message.get("EventNotification", {}).pop("RejectedMessage", None)  # names the request of the vector
    if paid := message.get("PaymentResponse"):
        if "SaleData" in paid:
            paid["SaleData"]["SaleTransactionID"]["TransactionID"] = tx.reference
        if tagged:
            own = api.result(payment)["SaleToPOIResponse"]["PaymentResponse"]["Response"]["AdditionalResponse"]
            mark = next(part for part in own.split("&") if part.startswith("metadata."))
            paid["Response"]["AdditionalResponse"] = paid["Response"].get("AdditionalResponse", "") + "&" + mark
    return body


@pytest.mark.parametrize("name", WEBHOOKS)
def test_a_webhook_at_the_wrong_address_is_kept_as_a_stray(api: Api, name: str) -> None:
    payments = api.count("payments"), api.count("journal")

    assert accepted(api.push(protocol_vectors.body(name)))

    assert stray(api)["poi_id"] is None
    assert (api.count("payments"), api.count("journal")) == payments


# -- limits ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "status", "slug"),
    [
        (b"", 400, "malformed-body"),
        (b"not json", 400, "malformed-body"),
        (b'{"a": 1, "a": 2}', 400, "malformed-body"),
        (b'{"a": NaN}', 400, "malformed-body"),
        (b"\xff\xfe", 400, "malformed-body"),
        (b"[" * 100_000 + b"]" * 100_000, 400, "malformed-body"),
        (b" " * 262_145, 413, "body-too-large"),
        (b" " * 10_000_000, 413, "body-too-large"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_is_no_json_or_no_size_is_refused_and_stores_nothing(
    api: Api, body: bytes, status: int, slug: str
) -> None:
    before = api.counts()

    with httpx.Client(base_url=api.url, trust_env=False) as client:
        headers = {"authorization": basic(USERNAME, PASSWORD)}
        answer = client.post("/notifications/terminal", content=body, headers=headers)

    assert answer.status_code == status
    assert answer.json()["type"].endswith(slug)
    assert api.counts() == before


def test_a_chunked_body_over_the_limit_is_cut_off(api: Api) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(100):
            yield b" " * 65_536

    with httpx.Client(base_url=api.url, trust_env=False) as client:
        headers = {"authorization": basic(USERNAME, PASSWORD)}
        answer = client.post("/notifications/terminal", content=chunks(), headers=headers)

    assert_problem(answer, 413, "body-too-large")


@pytest.mark.slow
def test_a_body_that_dribbles_is_given_up_and_holds_nobody_else_up(api: Api) -> None:
    address = httpx.URL(api.url)
    head = f"POST /notifications/terminal HTTP/1.1\r\nhost: x\r\nauthorization: {basic(USERNAME, PASSWORD)}\r\n"
    started = time.monotonic()
    slow = [socket.create_connection((address.host, address.port or 0), timeout=30) for _ in range(40)]
    for one in slow:
        one.sendall(f"{head}content-length: 1000\r\n\r\n{{".encode())

    payment = api.concluded(api.sent())
    answers = [one.recv(65_536).decode() for one in slow]

    assert payment["outcome"] == "approved"
    assert all(answer.startswith("HTTP/1.1 408 ") for answer in answers)
    assert time.monotonic() - started < 20
    for one in slow:
        one.close()


# -- when the database is away -----------------------------------------------------------------------------------------


def test_a_message_that_could_not_be_stored_is_answered_503_until_it_can(postgres_url: str, tmp_path: Path) -> None:
    with fresh_database(postgres_url) as database_url:
        schema.upgrade(database_url)
        with serving(database_url, tmp_path) as api:
            payment = api.sent()
            body, submission = api.result(payment), api.submission()
            name = connect_arguments(database_url)["dbname"]
            with psycopg.connect(libpq_url(postgres_url), autocommit=True) as server:
                server.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
                server.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
                for answer in (api.push(body), api.submit(submission, "k")):
                    assert_problem(answer, 503, "store-unavailable")
                    assert answer.headers["retry-after"] == "1"
                assert api.http.get("/readyz").status_code == 503
                assert api.http.get("/healthz").status_code == 200
                server.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")

            assert until(lambda: accepted(api.push(body)))
            assert api.submit(submission, "k").status_code == 201
            shown = api.get(f"/v1/payments/{payment['id']}").json()
            assert (shown["outcome"], shown["merchant_account"]) == ("approved", MERCHANT)
        assert "Traceback" not in (tmp_path / "api.log").read_text()


def until(condition: Any, within_s: float = 20.0) -> bool:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return False
