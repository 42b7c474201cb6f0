"""The product and the simulator seal by code of their own: each opens the other's, and no flaw passes."""

from __future__ import annotations

import json
import ssl
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.simulator import sealing
from orchestrator.simulator.certificates import Certificates
from orchestrator.simulator.channel import Channel
from orchestrator.simulator.flaws import flawed
from orchestrator.simulator.scenarios import Flaw
from orchestrator.terminal_api import protection
from orchestrator.terminal_api.certificates import read_certificate
from tests.protocol_vectors import body

_PASSPHRASE = "Ünïcode-Pass:1"
_OURS = protection.SharedKey("lane", 7, _PASSPHRASE)
_RING = protection.KeyRing((_OURS,))
_THEIRS = sealing.SharedKey.derive("lane", 7, _PASSPHRASE)
_REQUEST, _ANSWER = body("requests/payment_basic"), body("responses/payment_approved")
_REFUSED = {
    Flaw.FLIPPED_BIT: "decrypt-failed",
    Flaw.OTHER_KEY: "decrypt-failed",
    Flaw.OTHER_VERSION: "unknown-key",
    Flaw.PLAINTEXT: "forged-plaintext",
    Flaw.HEADER_MISMATCH: "header-mismatch",
    Flaw.REFLECTED: "wrapper-mismatch",
}


def _approval(service_id: str) -> Any:
    message = json.loads(_ANSWER)
    message["SaleToPOIResponse"]["MessageHeader"]["ServiceID"] = service_id
    return message


def _answered(flaw: Flaw) -> bytes:
    """What the simulator answers to a payment that was sealed by the product."""
    sealed = protection.seal(_REQUEST, _OURS)
    opened = sealing.unseal(sealed, [_THEIRS])
    channel = replace(Channel(is_held=True, local="V400m-324000123"), key=opened.key, sealed=sealed)
    return flawed(flaw, channel, json.loads(_ANSWER), _approval).body


def test_what_the_product_seals_the_simulator_opens() -> None:
    opened = sealing.unseal(protection.seal(_REQUEST, _OURS), [_THEIRS])

    assert (opened.raw, opened.key) == (_REQUEST, _THEIRS)


def test_what_the_simulator_seals_the_product_opens() -> None:
    assert json.loads(protection.open_answer(_answered(Flaw.NONE), _RING)) == json.loads(_ANSWER)


@pytest.mark.parametrize("name", ["requests/payment_preauth", "requests/transaction_status_last"])
def test_what_we_never_send_is_sealed_and_opened_all_the_same(name: str) -> None:
    clear = body(name)

    opened = sealing.unseal(protection.seal(clear, _OURS), [_THEIRS])

    assert opened.raw == clear
    assert protection.open_pushed(sealing.seal(_THEIRS, clear), lambda _: _RING) == clear


@pytest.mark.parametrize(("flaw", "problem"), _REFUSED.items())
def test_the_product_believes_no_flawed_answer(flaw: Flaw, problem: str) -> None:
    with pytest.raises(protection.ProtectionError) as refused:
        protection.open_answer(_answered(flaw), _RING)

    assert refused.value.problem == problem


def test_the_other_flaws_leave_no_answer_to_our_request() -> None:
    truncated = protection.open_answer(_answered(Flaw.TRUNCATED), _RING)
    replayed = json.loads(protection.open_answer(_answered(Flaw.REPLAYED), _RING))

    with pytest.raises(ValueError):
        json.loads(truncated)
    ours = json.loads(_REQUEST)["SaleToPOIRequest"]["MessageHeader"]["ServiceID"]
    assert replayed["SaleToPOIResponse"]["MessageHeader"]["ServiceID"] != ours


def test_every_flaw_is_held_against_the_product() -> None:
    assert {*_REFUSED, Flaw.NONE, Flaw.TRUNCATED, Flaw.REPLAYED} == set(Flaw)


def test_the_product_reads_the_root_that_the_simulator_writes(tmp_path: Path) -> None:
    written = tmp_path / "root.pem"
    written.write_bytes(Certificates(tmp_path / "state").root_pem)

    assert read_certificate(written) == ssl.PEM_cert_to_DER_cert(written.read_text())
