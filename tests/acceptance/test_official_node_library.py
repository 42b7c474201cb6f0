"""The platform's official library for Node, as a peer: a client of our simulator, and the other side of our seals.

Skipped where Node is missing, a failure in CI. The library is installed from the lock file beside its script, once,
under `.pytest_cache/`.
"""

import base64
import itertools
import json
import os
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from orchestrator.simulator import sealing
from orchestrator.simulator.certificates import FAULTS
from orchestrator.simulator.process import SimulatorProcess
from orchestrator.terminal_api import certificates, protection
from orchestrator.webhooks import signatures
from tests.certificates import authority, certificate_for
from tests.integration.simulator_support import SALE_ID, Asked, about, message
from tests.node import PINNED, installed
from tests.protocol_vectors import ENTRIES, body

INTEROP = Path(__file__).parents[1] / "interop"
ANSWERS_WITHIN_S = 30

Json = dict[str, Any]
POI, OTHER_POI = "V400m-324000123", "S1F2-000158240000042"
MERCHANT, API_KEY = "ExampleMerchantPOS", "an-api-key"
KEY = {"identifier": "KeyLane3", "version": 3, "passphrase": "Vector-Test#2025a"}
OURS = protection.SharedKey(**KEY)  # type: ignore[arg-type]
RING = protection.KeyRing((OURS,))
CLASSES = ("NexoCrypto", "NexoSecurityManager")
LOCAL_PORT = 8443  # the library knows no other; each run has an address of its own to have it at
_numbers = itertools.count(1)

pytestmark = pytest.mark.acceptance


# -- the library, installed and running --------------------------------------------------------------------------------


class Library:
    """The library in a process of its own; questions run side by side."""

    def __init__(self, modules: Path, trusted: Path) -> None:
        environment = os.environ | {"NODE_PATH": str(modules), "NODE_EXTRA_CA_CERTS": str(trusted)}
        command = ["node", str(INTEROP / "library.cjs")]
        self._process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._waiting: dict[int, Future[Any]] = {}
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            answer = json.loads(line)
            future = self._waiting.pop(answer["id"])
            if "failed" in answer:
                future.set_exception(RefusedByLibrary(answer["failed"]))
            else:
                future.set_result(answer.get("said"))

    def start(self, question: str, **more: Any) -> Future[Any]:
        number = next(_numbers)
        future = self._waiting[number] = Future()
        assert self._process.stdin
        self._process.stdin.write(json.dumps({"id": number, "ask": question, **more}) + "\n")
        self._process.stdin.flush()
        return future

    def ask(self, question: str, **more: Any) -> Any:
        return self.start(question, **more).result(ANSWERS_WITHIN_S)

    def close(self) -> None:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.wait(ANSWERS_WITHIN_S)
        self._reader.join()
        self._process.stdout.close()


class RefusedByLibrary(Exception):
    """What the library threw."""


def pem_of(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def front_certificate(folder: Path) -> tuple[Path, Json]:
    """Who is trusted for the cloud's front, and what the front shows."""
    root = authority("Interop root")
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = certificate_for("front", key, root, is_ca=False, addresses=["127.0.0.1"])
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    trusted = folder / "front.pem"
    trusted.write_text(pem_of(root[1]))
    return trusted, {"key": private.decode(), "cert": pem_of(certificate)}


class Bench:
    """A simulator, and the library in front of it."""

    def __init__(self, simulator: SimulatorProcess, library: Library, base: str, root: Path, host: str) -> None:
        self.simulator, self.library, self.base, self.root, self.host = simulator, library, base, root, host

    def cloud(self, asked: Json, how: str = "sync") -> Any:
        return self.library.ask("cloud", base=self.base, apiKey=API_KEY, how=how, message=asked)

    def start_cloud(self, asked: Json) -> Future[Any]:
        return self.library.start("cloud", base=self.base, apiKey=API_KEY, how="sync", message=asked)

    def device(self, how: str, asked: Json | None = None, key: Json | None = None, merchant: str = MERCHANT) -> Any:
        more = {"base": self.base, "apiKey": API_KEY, "merchant": merchant, "poiId": POI}
        return self.library.ask("device", how=how, message=asked, key=key, **more)

    def local(self, asked: Json, key: Json = KEY) -> Any:
        return self.library.ask("local", host=self.host, apiKey=API_KEY, root=str(self.root), key=key, message=asked)


@pytest.fixture(scope="module")
def bench(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    modules = installed(INTEROP, pytestconfig.rootpath / ".pytest_cache" / "interop") / "node_modules"
    folder = tmp_path_factory.mktemp("interop")
    host = f"127.{os.getpid() >> 16 & 127 | 64}.{os.getpid() >> 8 & 255}.{os.getpid() & 255 or 1}"
    root = folder / "root.pem"
    arguments = ["--terminal", POI, "--terminal", OTHER_POI, "--api-key", API_KEY, "--merchant", MERCHANT]
    arguments += ["--local-listen", f"{host}:{LOCAL_PORT}", "--root-out", str(root), "--time-scale", "100"]
    arguments += ["--nexo-key", "{identifier}:{version}:{passphrase}".format(**KEY)]
    trusted, shown = front_certificate(folder)
    with ExitStack() as closing:
        simulator = closing.enter_context(SimulatorProcess(folder / "ledger.jsonl", arguments))
        library = Library(modules, trusted)
        closing.callback(library.close)
        assert simulator.terminals()[POI] == (host, LOCAL_PORT)
        base = library.ask("front", url=simulator.url, **shown)
        yield Bench(simulator, library, base, root, host)


def asked_for(reference: str, amount: float = 10.99) -> Asked:
    return Asked(reference, amount, poi_id=POI)


def status_of(asked: Asked) -> Json:
    return message("TransactionStatus", {"ReceiptReprintFlag": True} | about(asked), POI, f"s{next(_numbers):09d}")


def abort_of(asked: Asked) -> Json:
    return message("Abort", {"AbortReason": "MerchantAbort"} | about(asked), POI, f"a{next(_numbers):09d}")


def answered(answer: Json, category: str, service_id: str) -> Json:
    """The response, once its header is seen to answer this request."""
    content = answer["SaleToPOIResponse"]
    header = content["MessageHeader"]
    assert (header["MessageCategory"], header["MessageType"]) == (category, "Response")
    assert (header["POIID"], header["SaleID"], header["ServiceID"]) == (POI, SALE_ID, service_id)
    found: Json = content[f"{category}Response"]
    return found


def service_of(asked: Json) -> str:
    return str(asked["SaleToPOIRequest"]["MessageHeader"]["ServiceID"])


def assert_charged(bench: Bench, asked: Asked, payment: Json, minor: int) -> None:
    """The library read what the simulator's ledger says."""
    (charge,) = bench.simulator.ledger("charge", service_id=asked.service)
    tender, _, psp = payment["POIData"]["POITransactionID"]["TransactionID"].partition(".")
    assert payment["Response"]["Result"] == "Success"
    assert payment["SaleData"]["SaleTransactionID"]["TransactionID"] == asked.reference
    amounts = payment["PaymentResult"]["AmountsResp"]
    assert (amounts["Currency"], amounts["AuthorizedAmount"]) == ("EUR", minor / 100)
    assert (charge["amount_minor"], charge["psp_reference"], charge["tender_reference"]) == (minor, psp, tender)


# -- a client of the simulator's cloud ---------------------------------------------------------------------------------


def test_a_payment_of_the_library_is_charged_found_again_and_paid_back(bench: Bench) -> None:
    asked = asked_for("node-cloud")
    payment = answered(bench.cloud(asked.body()), "Payment", asked.service)
    assert_charged(bench, asked, payment, 1099)

    question = status_of(asked)
    status = answered(bench.cloud(question), "TransactionStatus", service_of(question))
    repeated = status["RepeatedMessageResponse"]
    assert status["Response"]["Result"] == "Success"
    assert repeated["MessageHeader"]["ServiceID"] == asked.service
    again = repeated["RepeatedResponseMessageBody"]["PaymentResponse"]
    assert again["POIData"]["POITransactionID"] == payment["POIData"]["POITransactionID"]
    assert again["PaymentResult"]["AmountsResp"] == payment["PaymentResult"]["AmountsResp"]

    original = payment["POIData"]["POITransactionID"]
    back = {
        "OriginalPOITransaction": {"POITransactionID": original},
        "ReversalReason": "MerchantCancel",
        "ReversedAmount": 4.5,
        "SaleData": {
            "SaleTransactionID": {"TransactionID": "node-refund", "TimeStamp": "2025-11-25T10:14:00Z"},
            "SaleToAcquirerData": "currency=EUR",
        },
    }
    request = message("Reversal", back, POI, f"r{next(_numbers):09d}")
    reversal = answered(bench.cloud(request), "Reversal", service_of(request))
    assert reversal["Response"]["Result"] == "Success"
    assert reversal["ReversedAmount"] == 4.5
    (requested,) = bench.simulator.ledger("refund_requested", reference="node-refund")
    assert requested["amount_minor"] == 450
    assert requested["original_psp"] == original["TransactionID"].partition(".")[2]
    assert requested["psp_reference"] == reversal["POIData"]["POITransactionID"]["TransactionID"]


def test_a_refusal_names_its_reason(bench: Bench) -> None:
    asked = asked_for("node-decline")
    payment = answered(bench.cloud(asked.body()), "Payment", asked.service)
    assert (payment["Response"]["Result"], payment["Response"]["ErrorCondition"]) == ("Failure", "Refusal")
    assert not bench.simulator.ledger("charge", service_id=asked.service)


def test_an_abort_of_the_library_ends_its_payment_without_a_charge(bench: Bench) -> None:
    asked = asked_for("node-abortable")
    running = bench.start_cloud(asked.body())
    bench.simulator.wait_for(lambda lines: any(asked.service == line.get("service_id") for line in lines))

    bench.cloud(abort_of(asked), how="async")

    payment = answered(running.result(ANSWERS_WITHIN_S), "Payment", asked.service)
    assert (payment["Response"]["Result"], payment["Response"]["ErrorCondition"]) == ("Failure", "Aborted")
    assert not bench.simulator.ledger("charge", service_id=asked.service)
    assert bench.simulator.ledger("abort", effect="aborts")


def test_an_asynchronous_payment_is_taken_with_ok(bench: Bench) -> None:
    asked = asked_for("node-async")
    assert bench.cloud(asked.body(), how="async") == "ok"
    bench.simulator.wait_for(
        lambda lines: any((line["kind"], line.get("service_id")) == ("charge", asked.service) for line in lines)
    )


def test_another_api_key_is_refused(bench: Bench) -> None:
    asked = asked_for("node-stranger")
    with pytest.raises(RefusedByLibrary, match="401"):
        bench.library.ask("cloud", base=bench.base, apiKey="another", how="sync", message=asked.body())
    assert not bench.simulator.ledger("request", service_id=asked.service)


# -- the cloud device API ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [None, KEY], ids=["clear", "sealed"])
def test_a_payment_over_the_device_api_is_charged(bench: Bench, key: Json | None) -> None:
    asked = asked_for(f"node-device-{'sealed' if key else 'plain'}x", 25.0)
    payment = answered(bench.device("sync", asked.body(), key), "Payment", asked.service)
    assert_charged(bench, asked, payment, 2500)


def test_the_library_finds_the_devices_and_whether_one_is_online(bench: Bench) -> None:
    assert bench.device("getConnectedDevices") == {"uniqueDeviceIds": [POI, OTHER_POI]}
    assert bench.device("getDeviceStatus") == {"deviceId": POI, "status": "ONLINE"}
    with pytest.raises(RefusedByLibrary, match="403"):
        bench.device("getConnectedDevices", merchant="SomebodyElse")


# -- sealed, to a terminal's own address -------------------------------------------------------------------------------


def test_a_sealed_payment_over_the_local_network_is_charged_and_found_again(bench: Bench) -> None:
    asked = asked_for("node-local", 12.5)
    payment = answered(bench.local(asked.body()), "Payment", asked.service)
    assert_charged(bench, asked, payment, 1250)

    question = status_of(asked)
    status = answered(bench.local(question), "TransactionStatus", service_of(question))
    again = status["RepeatedMessageResponse"]["RepeatedResponseMessageBody"]["PaymentResponse"]
    assert again["POIData"]["POITransactionID"] == payment["POIData"]["POITransactionID"]


def test_a_local_abort_is_answered_with_nothing(bench: Bench) -> None:
    assert bench.local(abort_of(asked_for("node-unknown"))) == {}


def test_a_terminal_opens_nothing_that_another_passphrase_sealed(bench: Bench) -> None:
    asked = asked_for("node-other-key")
    with pytest.raises(RefusedByLibrary, match="crypto error"):
        bench.local(asked.body(), KEY | {"passphrase": "Another_One.2026"})
    assert not bench.simulator.ledger("prompt", service_id=asked.service)


#: The library asks only for the shape of a terminal's name; whose it is, and of which environment, we ask too.
NOT_SEEN_BY_THE_LIBRARY = {"other-terminal", "legacy", "wrong-environment"}


def product_trusts(bench: Bench) -> bool:
    """What the product asks of a terminal before its first byte."""
    tls = certificates.terminal_tls(certificates.load_roots(bench.root, "test"))
    try:
        with socket.create_connection((bench.host, LOCAL_PORT)) as plain, tls.wrap_socket(plain) as connection:
            name = certificates.common_name(connection.getpeercert())
    except ssl.SSLError:
        return False
    return certificates.name_fits(name, "test", POI, legacy_allowed=False)


@pytest.mark.parametrize("fault", FAULTS)
def test_of_a_wrong_certificate_the_library_sees_what_it_looks_at_and_we_see_all(bench: Bench, fault: str) -> None:
    asked = asked_for(f"node-{fault}x")
    assert product_trusts(bench)
    bench.simulator.post_faults(certificates={POI: fault})
    try:
        assert not product_trusts(bench)
        if fault in NOT_SEEN_BY_THE_LIBRARY:
            assert_charged(bench, asked, answered(bench.local(asked.body()), "Payment", asked.service), 1099)
        else:
            with pytest.raises(RefusedByLibrary, match="certificate"):
                bench.local(asked.body())
            assert not bench.simulator.ledger("request", service_id=asked.service)
    finally:
        bench.simulator.post_faults()


# -- seals, in both directions -----------------------------------------------------------------------------------------

MESSAGES = [
    name
    for name, entry in ENTRIES.items()
    if name.startswith(("requests/", "responses/", "notifications/"))
    and entry["file"].endswith(".json")
    and name != "notifications/null_sale_id"
]
UNICODE = json.dumps(
    {"SaleToPOIRequest": {"MessageHeader": {"MessageType": "Request", "POIID": POI}, "Text": "Ünïcode ☃ 💳 \u0000"}}
).encode()


def wrapper_of(clear: bytes) -> protection.Wrapper:
    (wrapper,) = json.loads(clear)
    return wrapper  # type: ignore[no-any-return]


@pytest.mark.parametrize("by", CLASSES)
def test_what_the_product_seals_the_library_opens(bench: Bench, by: str) -> None:
    for clear in (UNICODE, *map(body, MESSAGES)):
        sealed = json.loads(protection.seal(clear, OURS))[wrapper_of(clear)]
        assert bench.library.ask("open", by=by, key=KEY, sealed=sealed) == clear.decode()


@pytest.mark.parametrize("by", CLASSES)
def test_what_the_library_seals_the_product_opens(bench: Bench, by: str) -> None:
    for clear in (UNICODE, *map(body, MESSAGES)):
        wrapper = wrapper_of(clear)
        header = json.loads(clear)[wrapper]["MessageHeader"]
        sealed = bench.library.ask("seal", by=by, key=KEY, header=header, text=clear.decode())
        received = json.dumps({wrapper: sealed}).encode()
        assert protection.open_pushed(received, lambda _poi_id: RING) == clear
        if wrapper == "SaleToPOIResponse":
            assert protection.open_answer(received, RING) == clear


@pytest.mark.parametrize("by", CLASSES)
def test_what_the_simulator_seals_the_library_opens_and_the_other_way_round(bench: Bench, by: str) -> None:
    clear = body("requests/payment_basic")
    key = sealing.SharedKey.derive(**KEY)  # type: ignore[arg-type]
    sealed = json.loads(sealing.seal(key, clear))["SaleToPOIRequest"]
    assert bench.library.ask("open", by=by, key=KEY, sealed=sealed) == clear.decode()
    theirs = bench.library.ask("seal", by=by, key=KEY, header=sealed["MessageHeader"], text=clear.decode())
    assert sealing.unseal(json.dumps({"SaleToPOIRequest": theirs}).encode(), [key]).raw == clear


@pytest.mark.parametrize("by", CLASSES)
@pytest.mark.parametrize("spoiled", ["NexoBlob", "Nonce", "Hmac"])
def test_the_library_opens_nothing_of_ours_that_was_changed(bench: Bench, by: str, spoiled: str) -> None:
    sealed = json.loads(protection.seal(body("requests/payment_basic"), OURS))["SaleToPOIRequest"]
    place = sealed if spoiled == "NexoBlob" else sealed["SecurityTrailer"]
    raw = bytearray(base64.b64decode(place[spoiled]))
    raw[-1] ^= 1
    place[spoiled] = base64.b64encode(raw).decode()
    with pytest.raises(RefusedByLibrary):
        bench.library.ask("open", by=by, key=KEY, sealed=sealed)


# -- standard webhooks -------------------------------------------------------------------------------------------------


def test_the_library_and_the_product_agree_on_who_signed_a_webhook(bench: Bench) -> None:
    seen = 0
    for name in (name for name in ENTRIES if name.startswith("webhooks/")):
        hex_key = ENTRIES[name]["hmac_key_hex"]
        for wrapped in json.loads(body(name))["notificationItems"]:
            item = wrapped["NotificationRequestItem"]
            signed = signatures.signed_text(item)
            assert signed is not None
            for signature in (signatures.sign(bytes.fromhex(hex_key), signed), base64.b64encode(bytes(32)).decode()):
                item["additionalData"] = item.get("additionalData", {}) | {"hmacSignature": signature}
                ours = signatures.item_is_signed(item, [bytes.fromhex(hex_key)])
                assert bench.library.ask("webhook", item=item, hmacKey=hex_key) is ours
                seen += ours
    assert seen >= len([name for name in ENTRIES if name.startswith("webhooks/")])


# -- what is pinned ----------------------------------------------------------------------------------------------------


def test_what_is_installed_is_pinned_and_names_no_place() -> None:
    """After a change: `npm install --package-lock-only`, and take the `funding` entries out again."""
    packages = json.loads((INTEROP / "package-lock.json").read_text())["packages"]
    assert packages["node_modules/@adyen/api-library"]["version"] == "32.1.0"
    assert all("integrity" in package for name, package in packages.items() if name)
    assert not [name for name in PINNED if "://" in (INTEROP / name).read_text()]
