"""The simulator seals as the official libraries do: their envelopes open, and come out the same byte for byte."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator.simulator.sealing import REQUEST, RESPONSE, CryptoError, SharedKey, seal, unseal

_VECTORS = Path(__file__).parents[1] / "vectors"
_PROTECTED = json.loads((_VECTORS / "nexo-protection.json").read_text())["vectors"]
_MESSAGES = [vector for vector in _PROTECTED if vector["plaintext_is_message"]]
_REFUSED = json.loads((_VECTORS / "nexo-reject.json").read_text())["vectors"]
_KEY = SharedKey.derive("KeyLane3", 3, "Vector-Test#2025a")
_REQUEST = b'{"SaleToPOIRequest":{"MessageHeader":{"POIID":"V400m-324000123"},"PaymentRequest":{}}}'


def _key(vector: dict[str, Any]) -> SharedKey:
    return SharedKey.derive(vector["keyIdentifier"], vector["keyVersion"], vector["passphrase"])


def _by_id(vector: dict[str, Any]) -> str:
    return str(vector["id"])


@pytest.mark.parametrize("vector", _PROTECTED, ids=_by_id)
def test_keys_are_derived_as_recorded(vector: dict[str, Any]) -> None:
    key, derived = _key(vector), vector["derived"]

    assert key.mac_key.hex() == derived["hmacKey_hex"]
    assert key.cipher_key.hex() == derived["cipherKey_hex"]
    assert key.iv.hex() == derived["iv_hex"]


@pytest.mark.parametrize("vector", _MESSAGES, ids=_by_id)
def test_a_recorded_envelope_comes_out_the_same_and_opens(vector: dict[str, Any]) -> None:
    key, plain = _key(vector), base64.b64decode(vector["plaintext_b64"])

    sealed = seal(key, plain, base64.b64decode(vector["nonce_b64"]))

    content = json.loads(sealed)[vector["wrapper"]]
    assert content["NexoBlob"] == vector["nexoBlob_b64"]
    assert content["SecurityTrailer"]["Hmac"] == vector["hmac_b64"]
    assert content["SecurityTrailer"]["Nonce"] == vector["nonce_b64"]
    content["MessageHeader"] = vector["messageHeader"]
    opened = unseal(json.dumps({vector["wrapper"]: content}).encode(), [key], vector["wrapper"])
    assert (opened.raw, opened.key) == (plain, key)


@pytest.mark.parametrize("vector", _REFUSED, ids=_by_id)
def test_a_recorded_bad_envelope_is_refused_or_stays_in_clear(vector: dict[str, Any]) -> None:
    keys = [_key(key) for key in vector["keys"]]
    raw = json.dumps(vector["body"]).encode()

    if vector["expect"] == "ok":
        assert unseal(raw, keys, vector["expected_wrapper"]).key in keys
    elif "plaintext" in vector["expect"] or vector["expected_wrapper"] not in vector["body"]:
        assert unseal(raw, keys, vector["expected_wrapper"]).key is None
    else:
        with pytest.raises(CryptoError):
            unseal(raw, keys, vector["expected_wrapper"])


def test_no_nonce_is_used_twice() -> None:
    envelopes = [json.loads(seal(_KEY, _REQUEST))[REQUEST]["SecurityTrailer"]["Nonce"] for _ in range(100)]

    assert len(set(envelopes)) == len(envelopes)


def test_every_flipped_bit_of_blob_nonce_and_mac_is_refused() -> None:
    sealed = json.loads(seal(_KEY, _REQUEST))
    trailer = sealed[REQUEST]["SecurityTrailer"]
    for holder, name in ((sealed[REQUEST], "NexoBlob"), (trailer, "Nonce"), (trailer, "Hmac")):
        good = holder[name]
        for bit in range(8 * len(base64.b64decode(good))):
            flipped = bytearray(base64.b64decode(good))
            flipped[bit // 8] ^= 1 << bit % 8
            holder[name] = base64.b64encode(flipped).decode()
            with pytest.raises(CryptoError):
                unseal(json.dumps(sealed).encode(), [_KEY])
        holder[name] = good
    assert unseal(json.dumps(sealed).encode(), [_KEY]).raw == _REQUEST


def test_a_reflected_request_is_no_answer() -> None:
    relabelled = {RESPONSE: json.loads(seal(_KEY, _REQUEST))[REQUEST]}

    with pytest.raises(CryptoError):
        unseal(json.dumps(relabelled).encode(), [_KEY], RESPONSE)


@pytest.mark.parametrize("raw", [b"", b"ok", b"[]", b"1", b"\xff", b'{"SaleToPOIRequest":1}', _REQUEST])
def test_what_is_not_sealed_is_handed_on_as_it_came(raw: bytes) -> None:
    opened = unseal(raw, [_KEY])

    assert (opened.raw, opened.key) == (raw, None)


def test_a_passphrase_may_have_colons() -> None:
    key = SharedKey.parse("lane:7:Pass:Word:1")

    assert key == SharedKey.derive("lane", 7, "Pass:Word:1")


@pytest.mark.parametrize(
    "text", ["", "lane", "lane:1", "lane:1:", ":1:Secret-1", "lane:one:Secret-1", "lane:-1:Secret-1"]
)
def test_a_key_that_makes_no_sense_is_refused_without_its_secret(text: str) -> None:
    with pytest.raises(ValueError, match="IDENTIFIER:VERSION:PASSPHRASE") as refused:
        SharedKey.parse(text)

    assert "Secret" not in str(refused.value)


def test_a_key_never_shows_what_it_is_made_of() -> None:
    assert repr(_KEY) == "SharedKey(identifier='KeyLane3', version=3)"
