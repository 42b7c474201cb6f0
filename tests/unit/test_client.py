"""The Python client against a real HTTP server: safe repetition, waiting, and errors that say what is wrong."""

import ast
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

import orchestrator.client
from orchestrator.client import Counterfoil, CounterfoilError, Money, Payment

ID = "018f3b1c-0000-7000-8000-000000000001"
PENDING: dict[str, Any] = {"id": ID, "reference": "r-1", "state": "pending", "charged": None, "sequence": 1}
PENDING["amount"] = {"currency": "EUR", "value": 1050}
UNKNOWN = PENDING | {"state": "unknown", "reason": "no_answer", "sequence": 3}
APPROVED = PENDING | {"state": "confirmed", "outcome": "approved", "charged": True, "sequence": 3}
PROBLEM = {
    "type": "https://counterfoil.example/problems/payment-open",
    "title": "An earlier payment is open",
    "detail": "wait for its outcome",
    "field": "reference",
    "payment_id": ID,
}
HANG_UP = -1  # a status that stands for closing the connection without an answer
Reply = tuple[int, Any]


class Api(ThreadingHTTPServer):
    """Answers with the replies in order, the last one for ever, and keeps what was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.replies: list[Reply] = [(200, PENDING)]
        self.seen: list[dict[str, Any]] = []
        self.hold_s: Callable[[float], float] = lambda _wait_s: 0.0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Api

    def do_GET(self) -> None:
        self.answer()

    def do_POST(self) -> None:
        self.answer()

    def answer(self) -> None:
        url = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        wait_s = int(parse_qs(url.query).get("wait", ["0"])[0])
        self.server.seen.append(
            {
                "call": f"{self.command} {url.path}",
                "wait": wait_s,
                "key": self.headers.get("Idempotency-Key"),
                "authorization": self.headers.get("Authorization"),
                "body": json.loads(body) if body else None,
            }
        )
        replies = self.server.replies
        status, content = replies.pop(0) if len(replies) > 1 else replies[0]
        time.sleep(self.server.hold_s(wait_s))  # a long poll takes its time
        if status == HANG_UP:
            self.close_connection = True
            return
        text = content if isinstance(content, str) else json.dumps(content)
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the library's name
        pass


@pytest.fixture
def api() -> Iterator[Api]:
    server = Api()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orchestrator.client, "RETRY_AFTER_S", (0.01, 0.01))
    monkeypatch.setattr(orchestrator.client, "POLL_PAUSE_S", 0.05)


@pytest.fixture
def client(api: Api) -> Iterator[Counterfoil]:
    with Counterfoil(api.url, "key-1", timeout_s=5) as counterfoil:
        yield counterfoil


def create(client: Counterfoil, **more: Any) -> Payment:
    return client.payments.create(reference="r-1", poi_id="V400m-324000123", amount=(1050, "EUR"), **more)


def test_creating_sends_what_was_given_and_nothing_else(api: Api, client: Counterfoil) -> None:
    api.replies = [(201, PENDING)]
    payment = create(client, idempotency_key="k-1", send_by_s=30, metadata={"till": "7"})
    assert (payment.reference, payment.state, payment.amount) == ("r-1", "pending", Money(currency="EUR", value=1050))
    assert api.seen == [
        {
            "call": "POST /v1/payments",
            "wait": 0,
            "key": "k-1",
            "authorization": "Bearer key-1",
            "body": {
                "reference": "r-1",
                "poi_id": "V400m-324000123",
                "amount": {"currency": "EUR", "value": 1050},
                "send_by_s": 30,
                "metadata": {"till": "7"},
            },
        }
    ]


@pytest.mark.parametrize("failure", [HANG_UP, 500, 503])
def test_a_create_is_repeated_under_the_one_key_that_was_made_for_it(
    api: Api, client: Counterfoil, failure: int
) -> None:
    api.replies = [(failure, ""), (failure, ""), (200, PENDING)]
    create(client)
    keys = [each["key"] for each in api.seen]
    assert len(keys) == 3
    assert len(set(keys)) == 1
    assert keys[0]


def test_two_creates_have_two_keys(api: Api, client: Counterfoil) -> None:
    create(client)
    create(client)
    assert api.seen[0]["key"] != api.seen[1]["key"]


def test_repeating_ends_and_leaves_the_key_for_the_caller(api: Api, client: Counterfoil) -> None:
    api.replies = [(HANG_UP, "")]
    with pytest.raises(CounterfoilError) as caught:
        create(client)
    assert len(api.seen) == 3
    assert caught.value.status is None
    assert caught.value.idempotency_key == api.seen[0]["key"]


@pytest.mark.parametrize("status", [400, 401, 404, 409, 422, 429])
def test_a_refusal_is_not_repeated(api: Api, client: Counterfoil, status: int) -> None:
    api.replies = [(status, PROBLEM)]
    with pytest.raises(CounterfoilError):
        create(client)
    assert len(api.seen) == 1


def test_an_error_carries_the_problem_document(api: Api, client: Counterfoil) -> None:
    api.replies = [(409, PROBLEM)]
    with pytest.raises(CounterfoilError, match="An earlier payment is open: wait for its outcome") as caught:
        create(client)
    error = caught.value
    assert (error.status, error.field, error.payment_id) == (409, "reference", ID)
    assert (error.type, error.title, error.detail) == (PROBLEM["type"], PROBLEM["title"], PROBLEM["detail"])


@pytest.mark.parametrize("content", ["<html>proxy</html>", "[]", '{"id": "no"}'])
def test_an_answer_that_is_no_payment_is_an_error_and_not_repeated(api: Api, client: Counterfoil, content: str) -> None:
    api.replies = [(200, content)]
    with pytest.raises(CounterfoilError) as caught:
        create(client)
    assert caught.value.status == 200
    assert len(api.seen) == 1


@pytest.mark.parametrize("amount", [(10.5, "EUR"), ("EUR", 1050), (True, "EUR")])
def test_an_amount_that_is_not_minor_units_and_currency_is_refused_before_it_is_sent(
    api: Api, client: Counterfoil, amount: Any
) -> None:
    with pytest.raises(TypeError):
        client.payments.create(reference="r", poi_id="p", amount=amount)
    assert api.seen == []


def test_charged_is_none_while_it_is_not_known(api: Api, client: Counterfoil) -> None:
    api.replies = [(200, UNKNOWN)]
    assert client.payments.get(ID).charged is None


def test_members_of_a_newer_api_are_kept(api: Api, client: Counterfoil) -> None:
    api.replies = [(200, APPROVED | {"brand_new": 1})]
    assert client.payments.get(ID).model_dump()["brand_new"] == 1


def test_waiting_returns_at_an_outcome(api: Api, client: Counterfoil) -> None:
    api.replies = [(200, PENDING), (200, APPROVED)]
    payment = client.payments.wait(ID, timeout=120)
    assert payment.charged is True
    assert [each["wait"] for each in api.seen] == [30, 30]


def test_waiting_returns_at_unknown_and_does_not_raise(api: Api, client: Counterfoil) -> None:
    api.replies = [(200, UNKNOWN)]
    payment = client.payments.wait(ID, timeout=60)
    assert (payment.state, payment.charged) == ("unknown", None)


def test_waiting_ends_with_its_time_and_does_not_hammer(api: Api, client: Counterfoil) -> None:
    began_at = time.monotonic()
    assert client.payments.wait(ID, timeout=0.3).state == "pending"
    assert 0.25 < time.monotonic() - began_at < 3
    assert 2 <= len(api.seen) <= 8


def test_a_long_poll_outlasts_the_time_out_of_other_calls(api: Api) -> None:
    api.hold_s = lambda wait_s: 0.3 if wait_s else 0.0
    api.replies = [(200, APPROVED)]
    with Counterfoil(api.url, "key-1", timeout_s=0.1) as counterfoil:
        assert counterfoil.payments.wait(ID, timeout=2).charged is True
    assert len(api.seen) == 1


@pytest.mark.parametrize("failure", [HANG_UP, 503])
def test_waiting_sits_out_an_outage(api: Api, client: Counterfoil, failure: int) -> None:
    api.replies = [(failure, ""), (200, PENDING), (failure, ""), (200, APPROVED)]
    assert client.payments.wait(ID, timeout=30).charged is True


def test_waiting_raises_when_the_api_refuses_or_was_never_heard(api: Api, client: Counterfoil) -> None:
    api.replies = [(404, {"title": "no such payment"})]
    with pytest.raises(CounterfoilError, match="no such payment"):
        client.payments.wait(ID, timeout=60)
    api.replies = [(503, "")]
    with pytest.raises(CounterfoilError):
        client.payments.wait(ID, timeout=0.2)


def test_abort_and_check_send_an_empty_object(api: Api, client: Counterfoil) -> None:
    api.replies = [(202, "")]
    client.payments.abort(ID)
    client.payments.check(ID)
    assert [(each["call"], each["body"]) for each in api.seen] == [
        (f"POST /v1/payments/{ID}/abort", {}),
        (f"POST /v1/payments/{ID}/status-checks", {}),
    ]


def test_a_refund_is_idempotent_as_a_payment_is(api: Api, client: Counterfoil) -> None:
    api.replies = [(HANG_UP, ""), (201, {"id": ID, "state": "pending", "reference": "back-1"})]
    refund = client.payments.refund(ID, "back-1", Money(currency="EUR", value=50))
    assert (refund.state, refund.reference) == ("pending", "back-1")
    assert api.seen[0] == api.seen[1]
    assert api.seen[0]["key"]
    assert api.seen[0]["body"] == {"reference": "back-1", "amount": {"currency": "EUR", "value": 50}}


def test_an_id_cannot_lead_to_another_path(api: Api, client: Counterfoil) -> None:
    client.payments.get("../terminals?x=1")
    assert api.seen[0]["call"] == "GET /v1/payments/..%2Fterminals%3Fx%3D1"


def test_the_client_imports_httpx_and_pydantic_and_nothing_of_ours() -> None:
    tree = ast.parse(Path(orchestrator.client.__file__).read_text(encoding="utf-8"))
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "." for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    foreign = {name.partition(".")[0] for name in names} - sys.stdlib_module_names
    assert foreign == {"httpx", "pydantic"}
