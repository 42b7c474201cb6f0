"""Terminals on the local network: who answers is proved before the first byte, what is answered by the shared key.

The other side is the simulator, which implements the envelope on its own.
"""

import secrets
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from orchestrator.evidence import (
    AbortSent,
    AnswerMissing,
    Channel,
    Evidence,
    Exchange,
    InProgressReported,
    NotDelivered,
    NotFoundReported,
    RequestRejected,
    ResultReported,
)
from orchestrator.model import Money, Transaction, Transport
from orchestrator.simulator.process import SimulatorProcess
from orchestrator.store.shared_keys import KeyRings
from orchestrator.terminal import CloudAccess, LocalAccess, TerminalRoute, Terminals
from orchestrator.terminal_api import certificates, messages, tag
from orchestrator.terminal_api.acquirer_data import ApplicationInfo
from orchestrator.terminal_api.inventory import Condition
from orchestrator.terminal_api.protection import KeyRing, SharedKey
from orchestrator.wire import LocalWire

pytestmark = pytest.mark.integration

POI, OTHER = "V400m-324000123", "S1F2-000158240000042"
MERCHANT = "HarbourBakery"
OLD_KEY = SharedKey("KeyLane3", 3, "Vector-Test#2025a")
NEW_KEY = SharedKey("KeyLane3", 4, "Another_One.2026")
KEYS = (OLD_KEY, NEW_KEY)
NEXO_KEY = ["--nexo-key", "KeyLane3:3:Vector-Test#2025a"]


class Rings:
    """The keys of the test, and what was learned of them."""

    def __init__(self, *keys: SharedKey) -> None:
        self.keys = keys
        self.learned: list[str] = []

    def __call__(self, poi_id: str, merchant_account: str, store: str | None) -> KeyRing:
        return KeyRing(self.keys)

    def worked(self, poi_id: str, key: SharedKey) -> None:
        self.learned.append(f"worked {key.version}")

    def refused(self, poi_id: str, ring: KeyRing) -> None:
        self.learned.append(f"refused {ring.keys[0].version}")


class Shop:
    """A simulator with local terminals, and ours that calls them."""

    def __init__(self, folder: Path, *options: str) -> None:
        root = folder / "root.pem"
        arguments = ["--terminal", POI, "--terminal", OTHER, "--local-listen", "127.0.0.1:0", "--root-out", str(root)]
        self.simulator = SimulatorProcess(folder / "ledger.jsonl", [*arguments, "--time-scale", "200", *options])
        self.simulator.start()
        self.root = root
        self.addresses = {poi_id: f"{host}:{port}" for poi_id, (host, port) in self.simulator.terminals().items()}

    def terminals(self, *keys: SharedKey, legacy: bool = False, plaintext: bool = True, **more: Any) -> Terminals:
        self.rings = Rings(*keys)
        tls = certificates.terminal_tls(certificates.load_roots(self.root, "test"))

        def fits(certificate: Any, poi_id: str) -> bool:
            name = certificates.common_name(certificate)
            return certificates.name_fits(name, "test", poi_id, legacy_allowed=legacy)

        local = LocalAccess(wire=LocalWire(tls, fits, 5.0), plaintext_allowed=plaintext)
        return Terminals(None, local, self.rings, **more)

    def route(self, poi_id: str = POI, address: str | None = None) -> TerminalRoute:
        return TerminalRoute(
            poi_id=poi_id,
            merchant_account=MERCHANT,
            transport=Transport.LOCAL,
            address=address or self.addresses[poi_id],
        )

    def requests(self) -> list[Any]:
        return self.simulator.ledger("request", category="Payment")


Open = Callable[..., Shop]


@pytest.fixture
def open_shop(tmp_path: Path) -> Iterator[Open]:
    shops: list[Shop] = []

    def opened(*options: str) -> Shop:
        shops.append(Shop(tmp_path, *options))
        return shops[-1]

    yield opened
    for shop in shops:
        shop.simulator.stop()


@pytest.fixture
def sealed(open_shop: Open) -> Shop:
    return open_shop(*NEXO_KEY)


def sale(scenario: str = "approve") -> Transaction:
    return Transaction(
        id=uuid4(),
        reference=f"sale-{secrets.token_hex(4)}-{scenario}",
        merchant_account=MERCHANT,
        poi_id=POI,
        sale_id="KASSA-07",
        service_id=f"P{secrets.token_hex(4)}",
        amount=Money("EUR", 1050),
        transport=Transport.LOCAL,
    )


def pay(terminals: Terminals, tx: Transaction, route: TerminalRoute, *, may_send: bool = True) -> Evidence | None:
    mark = tag.sign(b"k" * 32, tx)
    body = messages.payment_request(tx, at=datetime.now(UTC), tag=mark, application=ApplicationInfo(), options={})
    return terminals.pay(tx, route, body, lambda: may_send)


def approved(found: Evidence | None) -> bool:
    return isinstance(found, ResultReported) and found.result == "Success" and found.authorised == Money("EUR", 1050)


# -- who answers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ("other-terminal", "certificate-name"),
        ("wrong-environment", "certificate-name"),
        ("legacy", "certificate-name"),
        ("expired", "certificate-not-trusted"),
        ("other-root", "certificate-not-trusted"),
    ],
)
def test_nobody_but_this_terminal_gets_a_byte(open_shop: Open, fault: str, why: str) -> None:
    shop = open_shop(*NEXO_KEY, "--certificate", f"{POI}={fault}")

    assert pay(shop.terminals(OLD_KEY), sale(), shop.route()) == NotDelivered(why=why)
    assert shop.simulator.ledger("request") == []


def test_an_address_that_passed_to_another_terminal_charges_nobody_there(sealed: Shop) -> None:
    terminals = sealed.terminals(OLD_KEY)
    assert approved(pay(terminals, sale(), sealed.route()))

    moved = sealed.route(address=sealed.addresses[OTHER])

    assert pay(terminals, sale(), moved) == NotDelivered(why="certificate-name")
    assert len(sealed.requests()) == 1


def test_a_connection_is_never_kept_for_whoever_has_the_address_next(sealed: Shop) -> None:
    """Two terminals, one address: who answers shows its certificate again, and it is the first one's."""
    terminals, address = sealed.terminals(OLD_KEY), sealed.addresses[POI]
    assert approved(pay(terminals, sale(), sealed.route(address=address)))

    assert pay(terminals, sale(), sealed.route(OTHER, address)) == NotDelivered(why="certificate-name")


def test_a_legacy_certificate_passes_by_setting_alone(open_shop: Open) -> None:
    shop = open_shop(*NEXO_KEY, "--certificate", f"{POI}=legacy")

    assert approved(pay(shop.terminals(OLD_KEY, legacy=True), sale(), shop.route()))


def test_a_terminal_that_is_off_got_nothing(sealed: Shop) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        away = f"127.0.0.1:{nobody.getsockname()[1]}"

        assert pay(sealed.terminals(OLD_KEY), sale(), sealed.route(address=away)) == NotDelivered(why="connect-failed")


def test_a_lease_that_ran_out_during_the_handshake_sends_nothing(sealed: Shop) -> None:
    found = pay(sealed.terminals(OLD_KEY), sale(), sealed.route(), may_send=False)

    assert found == NotDelivered(why="lease-expired")
    assert sealed.requests() == []


def test_a_terminal_without_an_address_is_not_called(sealed: Shop) -> None:
    route = TerminalRoute(poi_id=POI, merchant_account=MERCHANT, transport=Transport.LOCAL)

    assert pay(sealed.terminals(OLD_KEY), sale(), route) == NotDelivered(why="no-address")


@pytest.mark.parametrize("address", ["192.0.2.300:8443", "a..b:8443", f"{'h' * 64}:8443"])
def test_an_address_that_can_be_none_got_nothing(sealed: Shop, address: str) -> None:
    """One that was stored before such were refused: the payment that was claimed still needs its end."""
    assert pay(sealed.terminals(OLD_KEY), sale(), sealed.route(address=address)) == NotDelivered(why="bad-address")


# -- what is answered --------------------------------------------------------------------------------------------------


def test_a_sealed_payment_is_answered_on_its_connection(sealed: Shop) -> None:
    found = pay(sealed.terminals(OLD_KEY), sale(), sealed.route())

    assert approved(found)
    assert isinstance(found, ResultReported)
    assert (found.channel, found.authentic) == (Channel.CONNECTION, True)
    assert sealed.rings.learned == ["worked 3"]


def test_a_clear_payment_goes_to_a_terminal_without_a_key_in_test_alone(open_shop: Open) -> None:
    shop = open_shop()

    assert pay(shop.terminals(plaintext=False), sale(), shop.route()) == NotDelivered(why="no-shared-key")
    assert shop.requests() == []
    assert approved(pay(shop.terminals(), sale(), shop.route()))


def test_a_key_that_the_terminal_does_not_have_is_a_refusal_and_is_learned(sealed: Shop) -> None:
    terminals = sealed.terminals(NEW_KEY, OLD_KEY)

    found = pay(terminals, sale(), sealed.route())

    assert isinstance(found, RequestRejected)
    assert (found.exchange, found.refusal) == (Exchange.PAYMENT, "http-401")
    assert sealed.rings.learned == ["refused 4"]
    assert sealed.simulator.ledger("charge") == []


class Kept:
    """What the database keeps of a rotation that has not reached every terminal."""

    def all(self) -> list[dict[str, Any]]:
        where = {"level": "company", "merchant_account": None, "scope": None, "identifier": "KeyLane3"}
        return [{**where, "id": key.version, "version": key.version, "passphrase": key.passphrase} for key in KEYS]


def test_a_rotation_costs_a_refusal_here_and_there_and_no_charge(open_shop: Open) -> None:
    """The terminal has the old key first, and the new one when it comes back."""
    store: Any = Kept()
    rings = KeyRings(store, lambda reference: reference)
    for nexo_key in ("KeyLane3:3:Vector-Test#2025a", "KeyLane3:4:Another_One.2026"):
        shop, refused = open_shop("--nexo-key", nexo_key), sale()
        terminals = shop.terminals()
        terminals._rings = rings

        assert isinstance(pay(terminals, refused, shop.route()), RequestRejected)
        assert isinstance(terminals.check(refused, shop.route()), NotFoundReported)
        for _ in range(2):
            assert approved(pay(terminals, sale(), shop.route()))
        assert shop.simulator.ledger("charge", service_id=refused.service_id) == []
        shop.simulator.stop()


@pytest.mark.parametrize(
    ("scenario", "why"),
    [
        ("sealed-flipped", "sealed-decrypt-failed"),
        ("sealed-other-key", "sealed-decrypt-failed"),
        ("sealed-other-version", "sealed-unknown-key"),
        ("sealed-plaintext", "sealed-forged-plaintext"),
        ("sealed-reflected", "sealed-wrapper-mismatch"),
        ("cut-after-approval", "remote-protocol-error"),
    ],
)
def test_an_answer_that_must_not_be_believed_asks_for_the_status(sealed: Shop, scenario: str, why: str) -> None:
    terminals, tx = sealed.terminals(OLD_KEY), sale(scenario)

    found = pay(terminals, tx, sealed.route())
    asked = terminals.check(tx, sealed.route())

    assert isinstance(found, AnswerMissing)
    assert found.why == why
    charged = len(sealed.simulator.ledger("charge")) == 1
    assert approved(asked) is charged
    assert isinstance(asked, ResultReported)
    assert asked.channel is Channel.STATUS


@pytest.mark.parametrize("scenario", ["sealed-mismatch", "sealed-replayed"])
def test_an_older_sealed_approval_is_not_this_payments(sealed: Shop, scenario: str) -> None:
    terminals = sealed.terminals(OLD_KEY)
    assert approved(pay(terminals, sale(), sealed.route()))

    tx = sale(scenario)
    found = pay(terminals, tx, sealed.route())

    assert isinstance(found, AnswerMissing)
    assert not approved(terminals.check(tx, sealed.route()))


def test_a_truncated_envelope_is_a_missing_answer(sealed: Shop) -> None:
    terminals, tx = sealed.terminals(OLD_KEY), sale("sealed-truncated")

    assert isinstance(pay(terminals, tx, sealed.route()), AnswerMissing)
    assert approved(terminals.check(tx, sealed.route()))


# -- beside a payment --------------------------------------------------------------------------------------------------


def test_status_and_abort_go_past_a_payment_that_is_held(open_shop: Open) -> None:
    shop = open_shop(*NEXO_KEY)
    terminals, tx, route = shop.terminals(OLD_KEY), sale("slow"), shop.route()
    with ThreadPoolExecutor(1) as till:
        paying = till.submit(pay, terminals, tx, route)
        shop.simulator.wait_for(lambda lines: any(line["kind"] == "prompt" for line in lines))

        assert isinstance(terminals.check(tx, route), InProgressReported)
        assert terminals.diagnose(route, "KASSA-07").condition is Condition.BUSY
        assert terminals.abort(tx, route) == AbortSent(answer="empty")

        found = paying.result(10)
    assert isinstance(found, ResultReported)
    assert (found.result, found.error_condition) == ("Failure", "Aborted")
    assert terminals.diagnose(route, "KASSA-07").condition is Condition.READY


def test_a_terminal_that_is_away_is_seen_to_be(sealed: Shop) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        route = sealed.route(address=f"127.0.0.1:{nobody.getsockname()[1]}")

        assert sealed.terminals(OLD_KEY).diagnose(route, "KASSA-07").condition is Condition.AWAY


def test_no_credential_of_the_cloud_goes_to_a_terminal(tmp_path: Path) -> None:
    """To a server that listens for real: what it reads is the whole request."""
    seen: list[bytes] = []
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(self_signed(tmp_path))
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = listener.accept()
        with context.wrap_socket(connection, server_side=True) as stream:
            seen.append(stream.recv(65_536))
            stream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    server = threading.Thread(target=serve)
    server.start()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls.check_hostname = False
    tls.load_verify_locations(tmp_path / "server.pem")
    wire = LocalWire(tls, lambda *_: True, 5.0)
    wire.post(f"127.0.0.1:{listener.getsockname()[1]}", POI, b"{}", 5.0, lambda: True)
    server.join(5)
    listener.close()

    head = seen[0].decode().partition("\r\n\r\n")[0].lower()
    assert head.startswith("post /nexo http/1.1")
    assert {line.partition(":")[0] for line in head.split("\r\n")[1:]} == {
        "host", "accept", "accept-encoding", "connection", "user-agent", "content-type", "content-length"
    }  # fmt: skip


def self_signed(folder: Path) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"{POI}.test.terminal.adyen.com")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    signed = (
        builder.not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .sign(key, hashes.SHA256())
    )
    file = folder / "server.pem"
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    file.write_bytes(signed.public_bytes(Encoding.PEM) + private)
    return file


# -- sealed over the cloud ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "wanted", "learned"), [("device", True, ["worked 3"]), ("device", False, []), ("terminal", True, [])]
)
def test_messages_of_the_device_api_go_sealed_where_that_is_set(
    sealed: Shop, family: str, wanted: bool, learned: list[str]
) -> None:
    access = CloudAccess(environment="test", api_key="K", family=family, cloud_url=sealed.simulator.url, sealed=wanted)
    rings = Rings(OLD_KEY)
    terminals = Terminals(access, None, rings)
    route = TerminalRoute(poi_id=POI, merchant_account=MERCHANT, transport=Transport.SYNC)

    found = pay(terminals, sale().evolve(transport=Transport.SYNC), route)

    terminals.close()
    assert approved(found)
    assert rings.learned == learned
