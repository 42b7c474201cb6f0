"""A delivery on a real socket: the name is kept for the certificate, nothing is followed, and nothing is endless."""

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from orchestrator import caller as caller_module
from orchestrator.caller import Caller, Reply
from tests.integration.callback_support import Receiver, new_secret

SECRET = new_secret()
BODY = '{"data":{"sequence":1}}'


def post(caller: Caller, url: str) -> Reply:
    return caller.post(url, "id-1", datetime.now(UTC), BODY)


@pytest.fixture
def caller() -> Caller:
    return Caller([SECRET], allow_private=True, https_only=False)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver(SECRET) as listening:
        yield listening


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_every_2xx_is_delivered(receiver: Receiver, caller: Caller, status: int) -> None:
    receiver.answer = lambda _heard: status

    assert post(caller, receiver.url) == Reply(status, None)


@pytest.mark.parametrize("status", [400, 401, 404, 409, 410, 429, 500, 503])
def test_every_other_answer_is_a_failure(receiver: Receiver, caller: Caller, status: int) -> None:
    receiver.answer = lambda _heard: status

    assert post(caller, receiver.url) == Reply(status, "not_accepted")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(receiver: Receiver, caller: Caller, status: int) -> None:
    receiver.answer = lambda _heard: status

    assert post(caller, receiver.url) == Reply(status, "redirected")
    assert len(receiver.heard) == 1


def test_no_proxy_of_the_environment_is_used(
    receiver: Receiver, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")

    assert post(caller, receiver.url).delivered


def test_a_receiver_that_listens_on_this_machine_is_refused_unless_the_setting_allows_it(receiver: Receiver) -> None:
    strict = Caller([SECRET], allow_private=False, https_only=False)

    assert post(strict, receiver.url) == Reply(None, "forbidden_address")
    assert receiver.heard == []


def test_nobody_listening_is_a_failure(caller: Caller) -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))

        assert post(caller, f"http://127.0.0.1:{reserved.getsockname()[1]}/") == Reply(None, "connect_failed")


@contextmanager
def dripping(first: bytes, then: bytes) -> Iterator[str]:
    """A receiver that says something, and then a byte now and then, for ever."""
    done = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                try:
                    connection.sendall(first)
                    while not done.wait(0.05):
                        connection.sendall(then)
                except OSError:
                    return

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}/"
        finally:
            done.set()
            thread.join(5)


@pytest.mark.parametrize("first", [b"", b"HTTP/1.1 200 OK\r\n"])
def test_a_receiver_that_drips_is_left_at_the_deadline(
    caller: Caller, monkeypatch: pytest.MonkeyPatch, first: bytes
) -> None:
    monkeypatch.setattr(caller_module, "CALLBACK_TIMEOUT_S", 0.5)
    with dripping(first, b"x") as url:
        began_s = time.monotonic()

        assert post(caller, url) == Reply(None, "timeout")
        assert 0.4 < time.monotonic() - began_s < 2


def test_what_a_receiver_says_beside_its_status_is_not_waited_for(caller: Caller) -> None:
    with dripping(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n") as url:
        assert post(caller, url) == Reply(200, None)


@pytest.mark.parametrize("nonsense", [b"SSH-2.0-OpenSSH\r\n\r\n", b"\x00\x01\x02\r\n\r\n"])
def test_nonsense_is_a_failure(caller: Caller, nonsense: bytes) -> None:
    with dripping(nonsense, b"") as url:
        assert post(caller, url) == Reply(None, "connection_broke")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate of shop.example with its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "shop.example")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("shop.example")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path_factory.mktemp("tls") / "server.pem"
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    file.write_bytes(signed.public_bytes(Encoding.PEM) + private)
    return file


def test_the_certificate_and_the_host_header_are_the_names_though_an_address_is_connected_to(certificate: Path) -> None:
    asked: list[str | None] = []
    server_side = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server_side.load_cert_chain(certificate)
    server_side.sni_callback = lambda _socket, name, _context: asked.append(name)
    trusting = ssl.create_default_context(cafile=str(certificate))
    with Receiver(SECRET, server_side) as receiver:
        caller = Caller([SECRET], allow_private=True, https_only=True, resolve=lambda *_: ["127.0.0.1"], tls=trusting)

        assert post(caller, f"https://shop.example:{receiver.port}/hooks").delivered
        assert receiver.heard[0].headers["host"] == f"shop.example:{receiver.port}"
        assert asked == ["shop.example"]
        assert post(caller, f"https://other.example:{receiver.port}/hooks") == Reply(None, "connect_failed")
        assert len(receiver.heard) == 1
