"""The cloud client against a real server on a real socket that misbehaves by name."""

import json
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

import orchestrator.wire as wire_module
from orchestrator.errors import ConfigurationError
from orchestrator.evidence import (
    AbortSent,
    AnswerMissing,
    Evidence,
    Exchange,
    InProgressReported,
    NotDelivered,
    RequestRejected,
    ResultReported,
)
from orchestrator.model import Transport
from orchestrator.terminal import CloudAccess, TerminalRoute, Terminals
from orchestrator.wire import ANSWER_MISSING, NOT_DELIVERED
from tests.protocol_vectors import body, message, transaction

WAIT_S = 10.0
TX = transaction()
PAYMENT = b'{"SaleToPOIRequest":{}}'


def http(text: bytes, *, status: str = "200 OK", headers: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(text)}\r\n{headers}\r\n".encode() + text


class Server:
    """Accepts connections and hands each request to ``answer``; keeps what it saw."""

    def __init__(self, answer: Callable[[socket.socket, bytes], None], tls: ssl.SSLContext | None = None) -> None:
        self.answer = answer
        self.tls = tls
        self.requests: list[bytes] = []
        self.connections = 0
        self.first_bytes: list[bytes] = []  # of connections on which no whole request came
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.open: list[socket.socket] = []
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.ended = threading.Condition()
        self.ended_count = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            self.open.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        seen = b""
        try:
            if self.tls:
                connection = self.tls.wrap_socket(connection, server_side=True)
            with connection:
                while request := self._request(connection):
                    if not request.endswith(b"}"):
                        seen = request
                        break
                    self.requests.append(request)
                    self.answer(connection, request)
        except OSError:
            pass
        with self.ended:
            self.first_bytes.append(seen)
            self.ended_count += 1
            self.ended.notify_all()

    @staticmethod
    def _request(connection: socket.socket) -> bytes:
        seen = b""
        while b"\r\n\r\n" not in seen or not seen.endswith(b"}"):
            part = connection.recv(65_536)
            if not part:
                break
            seen += part
        return seen

    def wait_for_ends(self, count: int) -> None:
        with self.ended:
            assert self.ended.wait_for(lambda: self.ended_count >= count, WAIT_S)

    def close(self) -> None:
        self.listener.close()
        for connection in self.open:
            with closing(connection):
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue


Start = Callable[[Callable[[socket.socket, bytes], None]], Server]


@pytest.fixture
def start() -> Iterator[Start]:
    servers: list[Server] = []

    def begin(answer: Callable[[socket.socket, bytes], None]) -> Server:
        servers.append(Server(answer))
        return servers[-1]

    yield begin
    for server in servers:
        server.close()


@pytest.fixture
def cloud() -> Iterator[Callable[..., Terminals]]:
    terminals: list[Terminals] = []

    def connect(url: str, family: str = "terminal", **numbers: Any) -> Terminals:
        access = CloudAccess(environment="test", api_key="test-key", family=family, cloud_url=url)
        limits = {"connect_timeout_s": 2.0, "async_read_timeout_s": 2.0, "sync_read_timeout_s": 2.0} | numbers
        terminals.append(Terminals(access, **limits))
        return terminals[-1]

    yield connect
    for opened in terminals:
        opened.close()


Cloud = Callable[..., Terminals]


def route(transport: Transport = Transport.ASYNC, **changes: Any) -> TerminalRoute:
    return TerminalRoute(poi_id=TX.poi_id, merchant_account="Shop POS", transport=transport, **changes)


def pay(
    terminal: Terminals, transport: Transport = Transport.ASYNC, may_send: Callable[[], bool] = lambda: True
) -> Evidence | None:
    return terminal.pay(TX, route(transport), PAYMENT, may_send)


def says(text: bytes) -> Callable[[socket.socket, bytes], None]:
    return lambda connection, _: connection.sendall(text)


def why(evidence: Evidence | None) -> str:
    assert isinstance(evidence, AnswerMissing)
    assert evidence.exchange is Exchange.PAYMENT
    return evidence.why


# -- what goes right ---------------------------------------------------------------------------------------------------


def test_ok_on_async_is_no_evidence(start: Start, cloud: Cloud) -> None:
    server = start(says(http(b"ok")))

    assert pay(cloud(server.url)) is None
    assert len(server.requests) == 1


def test_the_request_is_http_1_1_with_our_key_and_name(start: Start, cloud: Cloud) -> None:
    server = start(says(http(b"ok")))

    pay(cloud(server.url))

    head, _, sent = server.requests[0].partition(b"\r\n\r\n")
    lines = head.decode().lower().split("\r\n")
    assert lines[0] == "post /async http/1.1"
    assert "x-api-key: test-key" in lines
    assert "content-type: application/json" in lines
    assert "accept-encoding: identity" in lines
    assert any(line.startswith("user-agent: counterfoil/") for line in lines)
    assert not any(line.startswith(("upgrade:", "http2-settings:")) for line in lines)
    assert sent == PAYMENT


def test_a_held_open_call_brings_the_result(start: Start, cloud: Cloud) -> None:
    server = start(says(http(body("responses/payment_approved"))))

    found = pay(cloud(server.url), Transport.SYNC)

    assert isinstance(found, ResultReported)
    assert server.requests[0].startswith(b"POST /sync ")


def test_ok_on_a_held_open_call_is_no_result(start: Start, cloud: Cloud) -> None:
    server = start(says(http(b"ok")))

    assert why(pay(cloud(server.url), Transport.SYNC)) == "ok-without-result"


def test_a_terminal_may_use_the_other_family(start: Start, cloud: Cloud) -> None:
    server = start(says(http(b'"ok"')))

    cloud(server.url).pay(TX, route(family="device"), PAYMENT, lambda: True)

    assert server.requests[0].startswith(b"POST /v1/merchants/Shop%20POS/devices/V400m-324000123/async ")


def test_a_status_check_goes_to_sync_under_a_service_id_of_its_own(start: Start, cloud: Cloud) -> None:
    def answer(connection: socket.socket, request: bytes) -> None:
        asked = json.loads(request.partition(b"\r\n\r\n")[2])["SaleToPOIRequest"]["MessageHeader"]
        reply = message("responses/status_in_progress")
        reply["SaleToPOIResponse"]["MessageHeader"]["ServiceID"] = asked["ServiceID"]
        connection.sendall(http(json.dumps(reply).encode()))

    server = start(answer)
    terminal = cloud(server.url)

    found = [terminal.check(TX, route()) for _ in range(2)]

    assert all(isinstance(evidence, InProgressReported) for evidence in found)
    assert found[0].digest != found[1].digest
    assert all(request.startswith(b"POST /sync ") for request in server.requests)


def test_an_abort_names_the_payment(start: Start, cloud: Cloud) -> None:
    server = start(says(http(b"ok")))

    assert cloud(server.url).abort(TX, route()) == AbortSent(answer="ok")
    assert b'"AbortRequest"' in server.requests[0]
    assert b'"ServiceID":"pay0000001"' in server.requests[0]


def test_requests_that_follow_at_once_share_a_connection(start: Start, cloud: Cloud) -> None:
    server = start(says(http(b"ok")))
    terminal = cloud(server.url)

    assert [pay(terminal) for _ in range(3)] == [None] * 3
    assert (server.connections, len(server.requests)) == (1, 3)


def test_a_connection_that_idled_too_long_is_not_used_again(
    start: Start, cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire_module, "KEEPALIVE_S", 0.0)
    server = start(says(http(b"ok")))
    terminal = cloud(server.url)

    pay(terminal)
    pay(terminal)

    assert server.connections == 2


def test_an_aged_client_gives_way_and_its_request_still_ends(
    start: Start, cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire_module, "CLIENT_AGE_S", -1.0)
    release, reached = threading.Event(), threading.Event()

    def answer(connection: socket.socket, request: bytes) -> None:
        if request.startswith(b"POST /sync "):
            reached.set()
            assert release.wait(WAIT_S)
            connection.sendall(http(body("responses/payment_approved")))
        else:
            connection.sendall(http(b"ok"))

    server = start(answer)
    terminal = cloud(server.url, sync_read_timeout_s=WAIT_S)
    found: list[Evidence | None] = []
    slow = threading.Thread(target=lambda: found.append(pay(terminal, Transport.SYNC)))
    slow.start()
    assert reached.wait(WAIT_S)

    assert pay(terminal) is None
    terminal.close()
    release.set()
    slow.join(WAIT_S)

    assert isinstance(found[0], ResultReported)
    assert server.connections == 2
    server.wait_for_ends(2)


# -- what never left ---------------------------------------------------------------------------------------------------


def test_a_refused_connection_is_proof_that_nothing_was_delivered(cloud: Cloud) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

    assert pay(cloud(f"http://127.0.0.1:{port}")) == NotDelivered(why="connect-failed")


def test_a_name_that_does_not_resolve_is_proof_that_nothing_was_delivered(cloud: Cloud) -> None:
    assert pay(cloud("http://no-such-host.invalid")) == NotDelivered(why="connect-failed")


def test_a_failed_handshake_is_proof_that_nothing_was_delivered(start: Start, cloud: Cloud) -> None:
    server = start(says(http(b"ok")))

    assert pay(cloud(server.url.replace("http://", "https://"))) in (
        NotDelivered(why="connect-failed"),
        NotDelivered(why="connect-timeout"),
    )


def test_a_full_pool_is_proof_that_nothing_was_delivered(start: Start, cloud: Cloud) -> None:
    reached, release = threading.Event(), threading.Event()

    def answer(connection: socket.socket, _: bytes) -> None:
        reached.set()
        assert release.wait(WAIT_S)
        connection.sendall(http(b"ok"))

    server = start(answer)
    terminal = cloud(server.url, max_connections=1, connect_timeout_s=0.2, async_read_timeout_s=WAIT_S)
    first = threading.Thread(target=pay, args=(terminal,))
    first.start()
    assert reached.wait(WAIT_S)

    found = pay(terminal)
    release.set()
    first.join(WAIT_S)

    assert found == NotDelivered(why="pool-timeout")
    assert len(server.requests) == 1


def test_an_expired_lease_writes_not_one_byte(start: Start, cloud: Cloud) -> None:
    server = start(says(http(b"ok")))

    found = pay(cloud(server.url), may_send=lambda: False)

    assert found == NotDelivered(why="lease-expired")
    server.wait_for_ends(1)
    assert (server.requests, server.first_bytes) == ([], [b""])


def test_a_lease_that_expires_on_a_warm_connection_writes_not_one_byte(start: Start, cloud: Cloud) -> None:
    server = start(says(http(b"ok")))
    terminal = cloud(server.url)

    assert pay(terminal) is None
    assert pay(terminal, may_send=lambda: False) == NotDelivered(why="lease-expired")
    server.wait_for_ends(1)
    assert (len(server.requests), server.first_bytes) == (1, [b""])
    assert pay(terminal) is None


def test_the_lease_is_asked_after_connecting_and_before_the_first_byte(start: Start, cloud: Cloud) -> None:
    server = start(says(http(b"ok")))
    asked: list[tuple[int, int]] = []

    def may_send() -> bool:
        deadline = time.monotonic() + WAIT_S
        while not server.connections and time.monotonic() < deadline:
            time.sleep(0.001)
        asked.append((server.connections, len(server.requests)))
        return True

    pay(cloud(server.url), may_send=may_send)

    assert asked == [(1, 0)]


# -- what may have been carried out ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (b"", "remote-protocol-error"),
        (b"garbage\r\n\r\n", "remote-protocol-error"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok", "remote-protocol-error"),
        (http(body("responses/payment_approved"))[:-1], "remote-protocol-error"),
        (http(b"ok", status="302 Found", headers="Location: /async\r\n"), "http-302"),
        (http(b"ok", status="307 Temporary Redirect", headers="Location: /async\r\n"), "http-307"),
        (http(b"\x1f\x8b\x08", headers="Content-Encoding: gzip\r\n"), "bad-json-not-utf-8"),
        (http(b"", status="503 Service Unavailable", headers="Retry-After: 0\r\n"), "http-503"),
        (http(b"x" * 1_100_000), "too-long"),
    ],
)
def test_a_request_that_was_read_is_never_called_undelivered_and_never_sent_again(
    start: Start, cloud: Cloud, reply: bytes, expected: str
) -> None:
    def answer(connection: socket.socket, _: bytes) -> None:
        connection.sendall(reply)
        connection.shutdown(socket.SHUT_RDWR)

    server = start(answer)

    assert why(pay(cloud(server.url))) == expected
    assert len(server.requests) == 1


def test_a_reset_after_reading_leaves_it_open(start: Start, cloud: Cloud) -> None:
    def answer(connection: socket.socket, _: bytes) -> None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        connection.close()

    server = start(answer)

    assert why(pay(cloud(server.url))) in {"read-error", "remote-protocol-error"}
    assert len(server.requests) == 1


def test_a_server_that_hangs_up_before_reading_leaves_it_open(cloud: Cloud) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def hang_up() -> bool:
            """Reset the connection between the last look at the lease and the first byte."""
            connection, _ = listener.accept()
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
            connection.close()
            return True

        found = pay(cloud(f"http://127.0.0.1:{listener.getsockname()[1]}"), may_send=hang_up)

    assert why(found) in {"read-error", "write-error", "remote-protocol-error"}


def test_silence_ends_at_the_read_time_out(start: Start, cloud: Cloud) -> None:
    release = threading.Event()

    def answer(_: socket.socket, __: bytes) -> None:
        release.wait(WAIT_S)

    server = start(answer)

    found = pay(cloud(server.url, async_read_timeout_s=0.3))
    release.set()

    assert why(found) == "read-timeout"


@pytest.mark.parametrize("ask", ["check", "abort"])
def test_a_question_is_not_waited_for_as_a_payment_is(start: Start, cloud: Cloud, ask: str) -> None:
    release = threading.Event()

    def answer(_: socket.socket, __: bytes) -> None:
        release.wait(WAIT_S)

    server = start(answer)
    terminal = cloud(server.url, sync_read_timeout_s=WAIT_S, status_read_timeout_s=0.3)

    found = getattr(terminal, ask)(TX, route(Transport.SYNC))
    release.set()

    assert isinstance(found, AnswerMissing)
    assert found.why == "read-timeout"


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"])
def test_a_dripping_server_cannot_hold_us_beyond_the_read_time_out(start: Start, cloud: Cloud, head: bytes) -> None:
    stop = threading.Event()

    def answer(connection: socket.socket, _: bytes) -> None:
        connection.sendall(head)
        while not stop.wait(0.05):
            connection.sendall(b"x")

    server = start(answer)
    started = time.monotonic()

    found = pay(cloud(server.url, async_read_timeout_s=0.5))
    took_s = time.monotonic() - started
    stop.set()

    assert why(found) == "read-timeout"
    assert took_s < 2


def test_a_slow_connection_set_up_does_not_shorten_the_next_request(start: Start, cloud: Cloud) -> None:
    server = start(says(http(b"ok")))
    terminal = cloud(server.url, async_read_timeout_s=0.3)

    assert pay(terminal) is None
    time.sleep(0.4)  # past the first request's deadline; the condition to wait for is the clock itself
    assert pay(terminal) is None


@pytest.mark.parametrize(("status", "kind"), [("401 Unauthorized", RequestRejected), ("429 Too Many", AnswerMissing)])
def test_http_answers_are_read_as_evidence(start: Start, cloud: Cloud, status: str, kind: type[Evidence]) -> None:
    server = start(says(http(b"<html>", status=status)))

    assert isinstance(pay(cloud(server.url)), kind)


@pytest.mark.parametrize("ask", ["check", "abort"])
def test_a_question_that_fails_is_an_answer_missing_however_it_failed(cloud: Cloud, ask: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    terminal = cloud(f"http://127.0.0.1:{port}")

    found = terminal.check(TX, route()) if ask == "check" else terminal.abort(TX, route())

    assert isinstance(found, AnswerMissing)
    assert found.exchange is (Exchange.STATUS if ask == "check" else Exchange.ABORT)
    assert found.why == "connect-failed"


# -- what is not listened to -------------------------------------------------------------------------------------------


def test_proxies_of_the_environment_are_ignored(start: Start, cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy, server = start(says(http(b"ok"))), start(says(http(b"ok")))
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, proxy.url)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    assert "HTTP_PROXY" in os.environ

    pay(cloud(server.url))

    assert (len(proxy.requests), len(server.requests)) == (0, 1)


def test_the_keys_text_is_in_no_repr_and_no_error() -> None:
    access = CloudAccess(environment="test", api_key="s3cret", family="terminal")

    assert "s3cret" not in repr(access)
    for wrong in ("s3cret\n", "s3cr\u00e9t", ""):
        with pytest.raises(ConfigurationError) as refused:
            CloudAccess(environment="test", api_key=wrong, family="terminal")
        assert "s3cr" not in str(refused.value)


def test_a_terminal_in_a_region_without_a_host_is_proof_that_nothing_was_delivered() -> None:
    terminal = Terminals(CloudAccess(environment="live", api_key="key", family="terminal"))

    checked = terminal.check(TX, route())

    assert pay(terminal) == NotDelivered(why="no-endpoint")
    assert isinstance(checked, AnswerMissing)
    assert (checked.exchange, checked.why) == (Exchange.STATUS, "no-endpoint")


def test_a_local_terminal_is_not_reached_through_the_cloud(cloud: Cloud) -> None:
    assert pay(cloud("http://127.0.0.1:1"), Transport.LOCAL) == NotDelivered(why="no-terminal-root")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate of 127.0.0.1 with its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    alternative = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    signed = (
        builder.not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(alternative, critical=False)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path_factory.mktemp("tls") / "server.pem"
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    file.write_bytes(signed.public_bytes(Encoding.PEM) + private)
    return file


@pytest.fixture
def secure(certificate: Path) -> Iterator[Server]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    context.set_alpn_protocols(["h2", "http/1.1"])
    server = Server(says(http(b"ok")), context)
    yield server
    server.close()


def test_an_unknown_certificate_is_proof_that_nothing_was_delivered(secure: Server, cloud: Cloud) -> None:
    assert pay(cloud(secure.url.replace("http://", "https://"))) == NotDelivered(why="connect-failed")
    assert secure.requests == []


def test_over_tls_the_protocol_is_still_http_1_1_and_connections_are_kept(
    secure: Server, cloud: Cloud, certificate: Path
) -> None:
    terminal = cloud(secure.url.replace("http://", "https://"))
    terminal._cloud._tls.load_verify_locations(certificate)

    assert [pay(terminal), pay(terminal)] == [None, None]
    assert pay(terminal, may_send=lambda: False) == NotDelivered(why="lease-expired")
    assert secure.connections == 1
    assert all(request.startswith(b"POST /async HTTP/1.1\r\n") for request in secure.requests)
    assert len(secure.requests) == 2


def test_a_dripping_server_cannot_hold_us_over_tls_either(secure: Server, cloud: Cloud, certificate: Path) -> None:
    stop = threading.Event()

    def drip(connection: socket.socket, _: bytes) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
        while not stop.wait(0.05):
            connection.sendall(b"x")

    secure.answer = drip
    terminal = cloud(secure.url.replace("http://", "https://"), async_read_timeout_s=0.5)
    terminal._cloud._tls.load_verify_locations(certificate)
    started = time.monotonic()

    found = pay(terminal)
    took_s = time.monotonic() - started
    stop.set()

    assert why(found) == "read-timeout"
    assert took_s < 2


# -- the table ---------------------------------------------------------------------------------------------------------


def kinds(of: type[httpx.RequestError]) -> Iterator[type[httpx.RequestError]]:
    yield of
    for kind in of.__subclasses__():
        yield from kinds(kind)


def test_every_failure_of_httpx_is_judged_once() -> None:
    known = set(kinds(httpx.RequestError))

    assert set(NOT_DELIVERED) | set(ANSWER_MISSING) == {kind for kind in known if kind.__module__.startswith("httpx")}
    assert not set(NOT_DELIVERED) & set(ANSWER_MISSING)


def test_only_failures_that_precede_writing_prove_anything() -> None:
    assert set(NOT_DELIVERED) == {
        httpx.ConnectError,
        httpx.ConnectTimeout,
        httpx.PoolTimeout,
        httpx.UnsupportedProtocol,
    }


class Failing(httpx.BaseTransport):
    """Claims that the connection failed, before or after the first byte."""

    def __init__(self, error: httpx.RequestError, *, written: bool) -> None:
        self.error, self.written = error, written

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if self.written:
            request.extensions["trace"]("http11.send_request_headers.started", {})
        raise self.error


class NewInHttpx(httpx.ConnectError):
    """A kind that a later version may add."""


@pytest.mark.parametrize("kind", [*NOT_DELIVERED, *ANSWER_MISSING, NewInHttpx])
@pytest.mark.parametrize("written", [False, True])
def test_not_delivered_takes_both_the_kind_and_an_unwritten_request(
    kind: type[httpx.RequestError], written: bool
) -> None:
    with httpx.Client(transport=Failing(kind("x"), written=written)) as client:
        found = wire_module._post(client, "http://h/", b"{}", 1.0, lambda: True)

    assert isinstance(found, wire_module.Failure)
    assert found.delivered is (written or kind not in NOT_DELIVERED)
    assert found.why == {**NOT_DELIVERED, **ANSWER_MISSING}.get(kind, "transport-error")
