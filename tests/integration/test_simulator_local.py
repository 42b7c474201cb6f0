"""Terminals on ports of their own: certificates, sealed messages, and what can be wrong with either."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from orchestrator.simulator.process import SimulatorProcess
from orchestrator.simulator.sealing import REQUEST, RESPONSE, CryptoError, SharedKey, seal, unseal
from tests.integration.simulator_support import (
    Answer,
    Asked,
    Json,
    LocalTill,
    Receiver,
    Till,
    eventually,
    message,
    status_word,
)

_POI, _OTHER = "V400m-324000123", "S1F2-000158240000042"
_DOMAIN = "test.terminal.adyen.com"
_CRYPTO_ERROR = "Nexo Service: crypto error"
_OLD_KEY = SharedKey.derive("KeyLane3", 3, "Vector-Test#2025a")
_NEW_KEY = SharedKey.derive("KeyLane3", 4, "Another_One.2026")
_KEY_OPTIONS = ["--nexo-key", "KeyLane3:3:Vector-Test#2025a", "--nexo-key", "KeyLane3:4:Another_One.2026"]

Start = Callable[..., SimulatorProcess]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root.pem"


@pytest.fixture
def start(tmp_path: Path, root: Path) -> Iterator[Start]:
    started = []

    def starter(*more: str) -> SimulatorProcess:
        arguments = ["--terminal", _POI, "--terminal", _OTHER, "--local-listen", "127.0.0.1:0"]
        arguments += ["--root-out", str(root), "--time-scale", "200", *more]
        started.append(SimulatorProcess(tmp_path / "ledger.jsonl", arguments).start())
        return started[-1]

    yield starter
    for simulator in started:
        simulator.stop()


@pytest.fixture
def clear(start: Start, root: Path) -> tuple[SimulatorProcess, LocalTill]:
    """A simulator without keys, and a till for its first terminal."""
    simulator = start()
    return simulator, LocalTill(simulator.terminals()[_POI], root)


@pytest.fixture
def sealed(start: Start, root: Path) -> tuple[SimulatorProcess, LocalTill]:
    """A simulator with two versions of a key, and a till that uses the older one."""
    simulator = start(*_KEY_OPTIONS)
    return simulator, LocalTill(simulator.terminals()[_POI], root, _OLD_KEY)


def _result(body: Json) -> str:
    said = body[RESPONSE]["PaymentResponse"]["Response"]
    return str(said.get("ErrorCondition", said["Result"]))


def _word(till: LocalTill, answer: Answer) -> str:
    """What a status check was told, sealed."""
    return status_word(Answer(200, json.dumps(till.opened(answer)), ""))


# -- certificates --


def test_each_terminal_presents_a_certificate_of_its_own_under_the_root_that_was_written_out(
    start: Start, root: Path
) -> None:
    terminals = start().terminals()

    names = {poi_id: LocalTill(address, root).common_name() for poi_id, address in terminals.items()}

    assert names == {_POI: f"{_POI}.{_DOMAIN}", _OTHER: f"{_OTHER}.{_DOMAIN}"}


def _two_free_ports() -> int:
    """The first of two consecutive ports that nobody uses at this moment."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port = int(first.getsockname()[1])
            with suppress(OSError, OverflowError):
                second.bind(("127.0.0.1", port + 1))
                return port


def test_terminals_get_consecutive_ports_in_their_order(start: Start) -> None:
    port = _two_free_ports()

    simulator = start("--local-listen", f"127.0.0.1:{port}")

    assert simulator.terminals() == {_POI: ("127.0.0.1", port), _OTHER: ("127.0.0.1", port + 1)}


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_both_current_versions_of_tls_are_spoken(
    clear: tuple[SimulatorProcess, LocalTill], version: ssl.TLSVersion
) -> None:
    _, till = clear
    till.tls.minimum_version = till.tls.maximum_version = version

    assert till.pay(Asked("TLS", poi_id=_POI)).status == 200


@pytest.mark.parametrize(
    ("fault", "name"),
    [
        ("other-terminal", f"V400m-999999999.{_DOMAIN}"),
        ("legacy", f"legacy-terminal-certificate.{_DOMAIN}"),
        ("wrong-environment", f"{_POI}.live.terminal.adyen.com"),
    ],
)
def test_a_certificate_can_name_somebody_else_until_it_is_healed(
    clear: tuple[SimulatorProcess, LocalTill], fault: str, name: str
) -> None:
    simulator, till = clear
    simulator.post_faults(certificates={_POI: fault})

    faulty = till.common_name()
    simulator.post_faults()

    assert (faulty, till.common_name()) == (name, f"{_POI}.{_DOMAIN}")


@pytest.mark.parametrize(
    ("fault", "why"), [("expired", "certificate has expired"), ("other-root", "unable to get local issuer|self.signed")]
)
def test_a_certificate_that_does_not_verify_ends_the_connection_before_any_request(
    clear: tuple[SimulatorProcess, LocalTill], fault: str, why: str
) -> None:
    simulator, till = clear
    simulator.post_faults(certificates={_POI: fault})

    with pytest.raises(ssl.SSLCertVerificationError, match=why):
        till.pay(Asked("UNTRUSTED", poi_id=_POI))

    assert simulator.ledger() == []


def test_a_faulty_certificate_can_be_asked_for_at_the_start(start: Start, root: Path) -> None:
    terminals = start("--certificate", f"{_POI}=legacy").terminals()

    assert LocalTill(terminals[_POI], root).common_name() == f"legacy-terminal-certificate.{_DOMAIN}"
    assert LocalTill(terminals[_OTHER], root).common_name() == f"{_OTHER}.{_DOMAIN}"


def test_the_root_outlives_a_kill_and_the_terminal_remembers_its_local_payments(start: Start, root: Path) -> None:
    simulator = start()
    till, asked = LocalTill(simulator.terminals()[_POI], root), Asked("BEFORE", poi_id=_POI)
    till.pay(asked)
    trusted = root.read_bytes()

    simulator.kill()
    simulator.start()
    again = LocalTill(simulator.terminals()[_POI], root)

    assert root.read_bytes() == trusted
    assert again.netloc == till.netloc
    assert status_word(again.status(asked)) == "Repeated Success"


def test_the_key_of_the_root_is_its_owners_alone(clear: tuple[SimulatorProcess, LocalTill]) -> None:
    simulator, _ = clear
    folder = simulator.ledger_path.with_name(f"{simulator.ledger_path.name}.local")

    assert folder.stat().st_mode & 0o077 == 0
    assert (folder / "root.pem").stat().st_mode & 0o077 == 0


# -- messages in clear --


def test_a_local_payment_is_answered_on_its_connection_and_nowhere_else(start: Start, root: Path) -> None:
    receiver = Receiver()
    simulator = start("--notify", receiver.url)
    asked = Asked("LOCAL", poi_id=_POI)

    answered = LocalTill(simulator.terminals()[_POI], root).pay(asked)
    receiver.close()

    assert _result(answered.json()) == "Success"
    assert [line["via"] for line in simulator.ledger("answer", service_id=asked.service)] == ["local"]
    assert receiver.bodies == []


def test_both_spellings_of_the_path_are_known_and_no_others(clear: tuple[SimulatorProcess, LocalTill]) -> None:
    _, till = clear

    assert till.call("POST", "/nexo/", Asked("SLASH", poi_id=_POI).body()).status == 200
    assert till.call("POST", "/elsewhere", Asked("LOST", poi_id=_POI).body()).status == 404
    assert till.call("GET", "/nexo").status == 405


def test_status_and_abort_pass_while_a_payment_holds_its_connection(clear: tuple[SimulatorProcess, LocalTill]) -> None:
    simulator, till = clear
    asked = Asked("HELD-abortable", poi_id=_POI)
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(till.pay, asked)
        simulator.wait_for(lambda _: bool(simulator.ledger("prompt")))

        while_held = status_word(till.status(asked))
        aborted = till.abort(asked)

        assert (while_held, aborted.status, aborted.text) == ("InProgress", 200, "")
        assert _result(held.result(20).json()) == "Aborted"
    assert status_word(till.status(asked)) == "Repeated Failure Aborted"


def test_a_message_for_another_terminal_is_not_taken(clear: tuple[SimulatorProcess, LocalTill]) -> None:
    simulator, till = clear

    answered = till.pay(Asked("MISTAKEN", poi_id=_OTHER))

    assert _result(answered.json()) == "UnavailableDevice"
    assert [(line["taken"], line["came_to"]) for line in simulator.ledger("request")] == [(False, _POI)]
    assert simulator.ledger("prompt") == []


@pytest.mark.parametrize("raw", [b"{", b"", b"[]", b'{"SaleToPOIRequest":{}}', b"\xff", b"[" * 100_000])
def test_what_is_no_message_is_refused_as_a_terminal_does(
    clear: tuple[SimulatorProcess, LocalTill], raw: bytes
) -> None:
    simulator, till = clear

    answered = till.post("/nexo", raw)

    assert answered.status == 400
    assert answered.json()[0].startswith("Bad JSON:")
    assert [line["taken"] for line in simulator.ledger("request")] == [False]


@pytest.mark.parametrize("away", [{"unreachable": [_POI]}, {"terminals_down": True}])
def test_a_terminal_that_is_away_takes_no_connection(
    clear: tuple[SimulatorProcess, LocalTill], away: dict[str, object]
) -> None:
    simulator, till = clear
    simulator.post_faults(**away)

    with pytest.raises(OSError) as refused:
        till.pay(Asked("AWAY", poi_id=_POI))
    simulator.post_faults()

    assert not isinstance(refused.value, ssl.SSLCertVerificationError)
    assert simulator.ledger() == []
    assert till.pay(Asked("BACK", poi_id=_POI)).status == 200


@pytest.mark.parametrize(
    ("scenario", "kind"),
    [("cut-after-approval", "charge"), ("hangup-after", "charge"), ("hangup-before", "request"), ("silent", "charge")],
)
def test_a_lost_answer_leaves_the_truth_to_a_status_check(
    clear: tuple[SimulatorProcess, LocalTill], scenario: str, kind: str
) -> None:
    simulator, till = clear
    asked = Asked(f"LOST-{scenario}", poi_id=_POI)

    with pytest.raises((OSError, http.client.HTTPException)):
        till.pay(asked)

    simulator.wait_for(lambda _: bool(simulator.ledger(kind)))
    expected = "NotFound" if scenario == "hangup-before" else "Repeated Success"
    assert status_word(till.status(asked)) == expected


def test_a_terminal_that_cannot_be_reached_cuts_status_checks_off(clear: tuple[SimulatorProcess, LocalTill]) -> None:
    simulator, till = clear
    asked = Asked("LOST-unreachable", poi_id=_POI)
    with pytest.raises((OSError, http.client.HTTPException)):
        till.pay(asked)

    for _ in range(3):
        with pytest.raises((OSError, http.client.HTTPException)):
            till.status(asked)

    assert status_word(till.status(asked)) == "Repeated Success"
    assert [line["answer"] for line in simulator.ledger("status")] == ["unreachable"] * 3 + ["repeated Success"]


@pytest.mark.parametrize("said", [b"", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00\x05hello"])
def test_who_does_not_speak_tls_disturbs_nobody(clear: tuple[SimulatorProcess, LocalTill], said: bytes) -> None:
    simulator, till = clear
    with socket.create_connection(simulator.terminals()[_POI]) as stranger:
        stranger.sendall(said)
        stranger.shutdown(socket.SHUT_WR)
        with suppress(ConnectionError):
            while stranger.recv(1024):
                pass

    assert till.pay(Asked("AFTERWARDS", poi_id=_POI)).status == 200


# -- sealed messages --


@pytest.mark.parametrize("key", [_OLD_KEY, _NEW_KEY], ids=["older", "newer"])
def test_a_sealed_payment_is_answered_under_the_version_that_it_used(start: Start, root: Path, key: SharedKey) -> None:
    simulator = start(*_KEY_OPTIONS)
    till, asked = LocalTill(simulator.terminals()[_POI], root, key), Asked("SEALED", poi_id=_POI)

    answered = till.pay(asked)

    envelope = answered.json()[RESPONSE]
    assert set(envelope) == {"MessageHeader", "NexoBlob", "SecurityTrailer"}
    assert envelope["SecurityTrailer"]["KeyVersion"] == key.version
    assert envelope["MessageHeader"]["ServiceID"] == asked.service
    assert _result(till.opened(answered)) == "Success"


def test_status_abort_and_diagnosis_are_sealed_too(sealed: tuple[SimulatorProcess, LocalTill]) -> None:
    _, till = sealed
    asked = Asked("SEALED", poi_id=_POI)
    till.pay(asked)

    diagnosis = till.opened(till.post("/nexo", message("Diagnosis", {"HostDiagnosisFlag": True}, _POI, "d1")))

    assert _word(till, till.status(asked)) == "Repeated Success"
    assert diagnosis[RESPONSE]["DiagnosisResponse"]["POIStatus"]["GlobalStatus"] == "OK"
    assert till.abort(asked).text == ""


def test_a_request_in_clear_is_refused_where_a_key_is_set(sealed: tuple[SimulatorProcess, LocalTill]) -> None:
    simulator, till = sealed
    till.key = None
    asked = Asked("CLEAR", poi_id=_POI)

    answered = till.pay(asked)

    assert (answered.status, answered.json()) == (401, {"errors": [_CRYPTO_ERROR], "ServiceID": asked.service})
    assert [(line["taken"], line["cause"]) for line in simulator.ledger("request")] == [(False, "crypto error")]


def _tampered(asked: Asked, how: str) -> Json:
    key = SharedKey.derive("KeyLane3", 3, "Not-The-Key-2025") if how == "passphrase" else _OLD_KEY
    body: Json = json.loads(seal(key, json.dumps(asked.body()).encode()))
    trailer = body[REQUEST]["SecurityTrailer"]
    if how == "header":
        body[REQUEST]["MessageHeader"]["ServiceID"] = "another"
    elif how in trailer:
        trailer[how] = {"KeyVersion": 9, "KeyIdentifier": "other", "AdyenCryptoVersion": 2}.get(how, "AAAA")
    elif how == "NexoBlob":
        del body[REQUEST]["NexoBlob"]
    return body


@pytest.mark.parametrize(
    "how",
    ["passphrase", "header", "KeyVersion", "KeyIdentifier", "AdyenCryptoVersion", "Nonce", "Hmac", "NexoBlob"],
)
def test_a_request_that_is_not_sealed_well_is_refused_in_one_way(
    sealed: tuple[SimulatorProcess, LocalTill], how: str
) -> None:
    simulator, till = sealed

    answered = till.post("/nexo", json.dumps(_tampered(Asked("TAMPERED", poi_id=_POI), how)).encode())

    assert (answered.status, answered.json()["errors"]) == (401, [_CRYPTO_ERROR])
    assert simulator.ledger("prompt") == []


@pytest.mark.parametrize("flaw", ["flipped", "other-version", "other-key", "mismatch", "reflected"])
def test_a_spoilt_envelope_does_not_open(sealed: tuple[SimulatorProcess, LocalTill], flaw: str) -> None:
    simulator, till = sealed
    asked = Asked(f"SPOILT-sealed-{flaw}", poi_id=_POI)

    answered = till.pay(asked)

    assert answered.json()[RESPONSE]["MessageHeader"]["ServiceID"] == asked.service
    with pytest.raises(CryptoError):
        till.opened(answered)
    truth = "Repeated Failure Refusal" if flaw in ("mismatch", "reflected") else "Repeated Success"
    assert _word(till, till.status(asked)) == truth
    assert [line["flaw"] for line in simulator.ledger("answer")] != []


def test_a_truncated_envelope_is_no_json(sealed: tuple[SimulatorProcess, LocalTill]) -> None:
    _, till = sealed

    answered = till.pay(Asked("SPOILT-sealed-truncated", poi_id=_POI))

    assert answered.text.startswith('{"SaleToPOIResponse"')
    with pytest.raises(ValueError):
        answered.json()


def test_a_replayed_answer_is_genuine_and_names_another_payment(sealed: tuple[SimulatorProcess, LocalTill]) -> None:
    _, till = sealed
    asked = Asked("ATTACK-sealed-replayed", poi_id=_POI)

    replayed = till.opened(till.pay(asked))

    assert _result(replayed) == "Success"
    assert replayed[RESPONSE]["MessageHeader"]["ServiceID"] != asked.service
    assert _word(till, till.status(asked)) == "Repeated Failure Refusal"


def test_a_forged_approval_in_clear_has_everything_but_the_seal(sealed: tuple[SimulatorProcess, LocalTill]) -> None:
    simulator, till = sealed
    asked = Asked("ATTACK-sealed-plaintext", poi_id=_POI, acquirer_data="metadata.counterfoil_tag=abc")

    forged = till.pay(asked).json()

    assert _result(forged) == "Success"
    assert "metadata.counterfoil_tag=abc" in forged[RESPONSE]["PaymentResponse"]["Response"]["AdditionalResponse"]
    assert forged[RESPONSE]["MessageHeader"]["ServiceID"] == asked.service
    assert simulator.ledger("charge") == []


def test_a_flaw_of_the_seal_leaves_answers_in_clear_alone(clear: tuple[SimulatorProcess, LocalTill]) -> None:
    _, till = clear

    assert _result(till.pay(Asked("CLEAR-sealed-flipped", poi_id=_POI)).json()) == "Success"
    assert _result(till.pay(Asked("CLEAR-sealed-plaintext", poi_id=_POI)).json()) == "Refusal"


# -- the same envelope elsewhere --


def test_the_device_api_takes_sealed_messages_and_clear_ones(start: Start) -> None:
    simulator = start(*_KEY_OPTIONS)
    till, path = Till(simulator.url), f"/v1/merchants/ExampleMerchantPOS/devices/{_POI}/sync"
    raw = seal(_NEW_KEY, json.dumps(Asked("DEVICE-SEALED", poi_id=_POI).body()).encode())

    in_clear = till.pay(Asked("DEVICE-CLEAR", poi_id=_POI), path)
    answered = unseal(till.post(path, raw).text.encode(), [_NEW_KEY], RESPONSE)
    other = till.post(path.replace(_POI, _OTHER), raw)

    assert _result(in_clear.json()) == "Success"
    assert (answered.key, _result(json.loads(answered.raw))) == (_NEW_KEY, "Success")
    assert (other.status, other.json()["errorCode"]) == (422, "00_422")


def test_the_gateway_answers_for_an_unreachable_device_in_clear(start: Start) -> None:
    simulator = start(*_KEY_OPTIONS)
    simulator.post_faults(unreachable=[_POI])
    raw = seal(_NEW_KEY, json.dumps(Asked("DEVICE-AWAY", poi_id=_POI).body()).encode())

    answered = Till(simulator.url).post(f"/v1/merchants/ExampleMerchantPOS/devices/{_POI}/sync", raw)

    assert _result(answered.json()) == "UnreachableHost"


def test_notifications_can_be_sealed_with_the_newest_key(start: Start) -> None:
    receiver = Receiver()
    simulator = start(*_KEY_OPTIONS, "--notify", receiver.url, "--notify-encrypted", "--display")
    Till(simulator.url).pay(Asked("PUSHED", poi_id=_POI))
    eventually(lambda: len(receiver.bodies) == 3)
    receiver.close()

    wrappers = [next(iter(body)) for body in receiver.bodies]
    opened = [
        unseal(json.dumps(body).encode(), [_NEW_KEY], wrapper)
        for body, wrapper in zip(receiver.bodies, wrappers, strict=True)
    ]

    assert sorted(wrappers) == [REQUEST, REQUEST, RESPONSE]
    assert [each.key for each in opened] == [_NEW_KEY] * 3
