"""Sealed messages: what the official libraries wrote is what we write; what anybody changed is refused, one way."""

import base64
import hmac
import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import LocalProtocolError, RemoteProtocolError
from orchestrator.terminal_api import protection, strict_json
from orchestrator.terminal_api.protection import (
    KeyRing,
    ProtectionError,
    SharedKey,
    open_answer,
    open_message,
    open_pushed,
    passphrase_problems,
    seal,
)
from tests.protocol_vectors import ENTRIES, body, load

KDF = load("nexo-kdf.json")
PROTECTED = load("nexo-protection.json")["vectors"]
RECEIVED = load("nexo-reject.json")["vectors"]
KEY = SharedKey("KeyLane3", 3, "Vector-Test#2025a")
OTHER = SharedKey("KeyLane3", 2, "Another_Pass+Phrase1?")
RING = KeyRing((KEY, OTHER))
ACCEPTED = {"ok", "allowed_plaintext"}


def ids(vectors: list[Mapping[str, Any]]) -> list[str]:
    return [str(each["id"]) for each in vectors]


def key_of(entry: Mapping[str, Any]) -> SharedKey:
    return SharedKey(entry["keyIdentifier"], entry["keyVersion"], entry["passphrase"])


def b64(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def problem_of(received: bytes, ring: KeyRing = RING, **more: Any) -> str:
    with pytest.raises(ProtectionError) as caught:
        open_message(received, ring, **more)
    assert caught.value.__cause__ is None
    return caught.value.problem


# -- the vectors -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("vector", KDF["vectors"], ids=lambda vector: vector["passphrase"][:12])
def test_keys_are_derived_as_the_official_libraries_derive_them(vector: Mapping[str, Any]) -> None:
    derived = protection._derive(vector["passphrase"])
    assert derived.hmac_key.hex() == vector["hmacKey_hex"]
    assert derived.cipher_key.hex() == vector["cipherKey_hex"]
    assert derived.iv.hex() == vector["iv_hex"]
    assert protection._derive(vector["passphrase"]) is derived


def test_the_primitives_give_the_known_answers() -> None:
    cbc, mac = KDF["primitives"]
    derived = protection._Derived(hmac_key=b"", cipher_key=b64(cbc["key_b64"]), iv=b64(cbc["iv_b64"]))
    decryptor = protection._cipher(derived, bytes(16)).decryptor()
    padded = decryptor.update(b64(cbc["ciphertext_b64"])) + decryptor.finalize()
    assert padded == cbc["plaintext"].encode() + bytes([5] * 5)
    assert hmac.digest(mac["key_ascii"].encode(), mac["plaintext"].encode(), "sha256") == b64(mac["mac_b64"])


@pytest.mark.parametrize("vector", PROTECTED, ids=ids(PROTECTED))
def test_the_cipher_gives_and_takes_exactly_the_official_bytes(vector: Mapping[str, Any]) -> None:
    plaintext, nonce = b64(vector["plaintext_b64"]), b64(vector["nonce_b64"])
    blob, mac = protection._encrypt(plaintext, vector["passphrase"], nonce)
    assert (blob, mac) == (b64(vector["nexoBlob_b64"]), b64(vector["hmac_b64"]))
    opened = protection._decrypt(vector["nexoBlob_b64"], vector["nonce_b64"], vector["hmac_b64"], vector["passphrase"])
    assert opened == plaintext


MESSAGES = [vector for vector in PROTECTED if vector["plaintext_is_message"]]


@pytest.mark.parametrize("vector", MESSAGES, ids=ids(MESSAGES))
def test_a_whole_message_is_sealed_and_opened_as_the_official_libraries_do(vector: Mapping[str, Any]) -> None:
    plaintext, key, wrapper = b64(vector["plaintext_b64"]), key_of(vector), vector["wrapper"]
    sealed = protection._enveloped(plaintext, key, b64(vector["nonce_b64"]))
    assert json.loads(sealed) == {
        wrapper: {
            "MessageHeader": vector["messageHeader"],
            "NexoBlob": vector["nexoBlob_b64"],
            "SecurityTrailer": {
                "AdyenCryptoVersion": 1,
                "KeyIdentifier": vector["keyIdentifier"],
                "KeyVersion": vector["keyVersion"],
                "Nonce": vector["nonce_b64"],
                "Hmac": vector["hmac_b64"],
            },
        }
    }
    assert open_message(sealed, KeyRing((key,)), wrapper=wrapper) == strict_json.loads(plaintext)
    assert open_pushed(sealed, lambda _poi_id: KeyRing((key,))) == plaintext
    if wrapper == "SaleToPOIResponse":
        assert open_answer(sealed, KeyRing((key,))) == plaintext


@pytest.mark.parametrize("vector", RECEIVED, ids=ids(RECEIVED))
def test_what_is_received_is_accepted_or_refused_as_expected(vector: Mapping[str, Any]) -> None:
    received = strict_json.dumps(vector["body"])
    ring = KeyRing(tuple(key_of(each) for each in vector["keys"]))
    if vector["expect"] in ACCEPTED:
        opened = open_message(received, ring, wrapper=vector["expected_wrapper"])
        assert opened == strict_json.loads(open_answer(received, ring))
        return
    assert problem_of(received, ring, wrapper=vector["expected_wrapper"]) == vector["expect"].replace("_", "-")
    with pytest.raises(ProtectionError):
        open_answer(received, ring)


def test_every_word_of_the_vectors_has_been_seen() -> None:
    assert {vector["expect"].replace("_", "-") for vector in RECEIVED} - {"ok", "allowed-plaintext"} == set(
        protection.Problem.__args__  # type: ignore[attr-defined]
    )


# -- what we do on top -------------------------------------------------------------------------------------------------


ANSWER = body("responses/payment_approved")
SEALED = seal(strict_json.dumps(strict_json.loads(ANSWER)), KEY)


def changed(**trailer: Any) -> bytes:
    """The sealed answer with other members in its trailer."""
    message = json.loads(SEALED)
    message["SaleToPOIResponse"]["SecurityTrailer"] |= trailer
    return json.dumps(message).encode()


def test_no_two_seals_are_alike() -> None:
    assert seal(ANSWER, KEY) != seal(ANSWER, KEY)


@pytest.mark.parametrize("received", [b"", b"no json", b"[]", b'{"SaleToPOIRequest": {}}', b'{"A": {}}'])
def test_what_is_no_message_is_not_sealed(received: bytes) -> None:
    with pytest.raises(LocalProtocolError):
        seal(received, KEY)


def test_a_key_and_an_error_show_nothing() -> None:
    assert "Vector" not in repr(KEY)
    assert "Lane" not in repr(RING)
    with pytest.raises(ProtectionError) as caught:
        open_message(changed(KeyVersion=9), RING)
    assert str(caught.value) == "the message was not accepted: unknown-key"
    assert isinstance(caught.value, RemoteProtocolError)


def test_the_first_key_seals_and_every_key_opens() -> None:
    assert RING.sealing is KEY
    assert KeyRing().sealing is None
    assert not KeyRing()
    for key in RING.keys:
        assert open_answer(seal(ANSWER, key), RING) == ANSWER


def test_the_bytes_inside_are_handed_on_as_they_came() -> None:
    indented = json.dumps(json.loads(ANSWER), indent=3).replace("/", "\\/").encode()
    assert open_answer(seal(indented, KEY), RING) == indented


def test_an_unknown_member_of_the_clear_header_is_ignored() -> None:
    message = json.loads(SEALED)
    message["SaleToPOIResponse"]["MessageHeader"]["SomethingNew"] = "x"
    assert open_answer(json.dumps(message).encode(), RING) == strict_json.dumps(strict_json.loads(ANSWER))


@pytest.mark.parametrize("name", protection._HEADER_MEMBERS)
@pytest.mark.parametrize("value", ["Changed", 7, {}])
def test_every_known_member_of_the_clear_header_is_compared(name: str, value: object) -> None:
    message = json.loads(SEALED)
    message["SaleToPOIResponse"]["MessageHeader"][name] = value
    assert problem_of(json.dumps(message).encode()) == "header-mismatch"


def test_a_clear_header_that_leaves_out_what_is_inside_is_refused() -> None:
    message = json.loads(SEALED)
    del message["SaleToPOIResponse"]["MessageHeader"]["POIID"]
    assert problem_of(json.dumps(message).encode()) == "header-mismatch"


@pytest.mark.parametrize(
    "trailer",
    [
        {"AdyenCryptoVersion": True},
        {"AdyenCryptoVersion": "1"},
        {"AdyenCryptoVersion": 1.0},
        {"KeyVersion": "3"},
        {"KeyVersion": True},
        {"KeyVersion": None},
        {"KeyIdentifier": 3},
        {"Nonce": None},
        {"Hmac": 1},
    ],
)
def test_a_trailer_with_the_wrong_types_is_malformed(trailer: Mapping[str, Any]) -> None:
    assert problem_of(changed(**trailer)) == "malformed"


def test_bad_padding_cannot_be_told_from_a_bad_mac() -> None:
    """All that is wrong under the envelope is one problem with one text."""
    trailer = json.loads(SEALED)["SaleToPOIResponse"]["SecurityTrailer"]
    mac, nonce = bytearray(b64(trailer["Hmac"])), bytearray(b64(trailer["Nonce"]))
    mac[0] ^= 1
    nonce[0] ^= 1
    message = json.loads(SEALED)
    blob = bytearray(b64(message["SaleToPOIResponse"]["NexoBlob"]))
    blob[-1] ^= 1  # spoils the padding
    message["SaleToPOIResponse"]["NexoBlob"] = base64.b64encode(blob).decode()
    spoiled = [
        json.dumps(message).encode(),
        changed(Hmac=base64.b64encode(mac).decode()),
        changed(Nonce=base64.b64encode(nonce).decode()),
        changed(Hmac="*"),
        changed(Hmac="é"),
        changed(Nonce=trailer["Nonce"] + "\n"),
        changed(Nonce=trailer["Nonce"].rstrip("=")),
    ]
    assert {problem_of(each) for each in spoiled} == {"decrypt-failed"}


def test_base64_with_other_spare_bits_is_not_the_same_text() -> None:
    trailer = json.loads(SEALED)["SaleToPOIResponse"]["SecurityTrailer"]
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    last = trailer["Nonce"][-3]  # 16 bytes: the last character before the padding carries 2 bits of 6
    twin = trailer["Nonce"][:-3] + alphabet[alphabet.index(last) ^ 1] + "=="
    assert b64(twin) == b64(trailer["Nonce"])
    assert problem_of(changed(Nonce=twin)) == "decrypt-failed"


def test_an_old_request_of_ours_is_no_answer_whatever_it_is_called() -> None:
    request = body("requests/payment_basic")
    sealed = seal(request, KEY)
    assert problem_of(sealed) == "wrapper-mismatch"
    assert problem_of(sealed.replace(b"SaleToPOIRequest", b"SaleToPOIResponse")) == "wrapper-mismatch"


def test_a_response_inside_that_calls_itself_a_request_is_refused() -> None:
    message = json.loads(ANSWER)
    message["SaleToPOIResponse"]["MessageHeader"]["MessageType"] = "Request"
    assert problem_of(seal(json.dumps(message).encode(), KEY)) == "header-mismatch"


@pytest.mark.parametrize("inner", [b"{}", b'{"SaleToPOIResponse": 1}', b'{"SaleToPOIResponse": {}}', b"\xff", b""])
def test_what_is_verified_but_no_message_is_malformed(inner: bytes) -> None:
    message = json.loads(SEALED)
    blob, mac = protection._encrypt(inner, KEY.passphrase, bytes(16))
    message["SaleToPOIResponse"]["NexoBlob"] = base64.b64encode(blob).decode()
    message["SaleToPOIResponse"]["SecurityTrailer"] |= {
        "Nonce": base64.b64encode(bytes(16)).decode(),
        "Hmac": base64.b64encode(mac).decode(),
    }
    assert problem_of(json.dumps(message).encode()) == "malformed"


def test_two_wrappers_are_no_message() -> None:
    message = json.loads(SEALED)
    assert problem_of(json.dumps({**message, "SaleToPOIRequest": {}}).encode()) == "malformed"


# -- clear messages where a key is configured --------------------------------------------------------------------------

CLEAR = [
    name
    for name, entry in ENTRIES.items()
    if entry["file"].endswith(".json") and name.startswith(("responses/", "gateway/"))
]
GATEWAY = {"responses/payment_unreachable_host_gateway", "responses/payment_unreachable_host_terminal"}


@pytest.mark.parametrize("name", CLEAR)
def test_a_clear_answer_is_believed_only_where_it_says_nothing(name: str) -> None:
    received = body(name)
    message = protection._parsed(received)
    is_message = isinstance(message, dict) and {"SaleToPOIResponse", "SaleToPOIRequest"} & set(message)
    unreachable = name == "responses/status_unreachable" or name in GATEWAY
    if not is_message or name.startswith("gateway/reject_") or unreachable:
        assert open_answer(received, RING) == received
        return
    with pytest.raises(ProtectionError, match="forged-plaintext"):
        open_answer(received, RING)
    assert open_answer(received, KeyRing()) == received


def test_a_positive_result_hidden_anywhere_in_a_gateway_error_is_forged() -> None:
    message = json.loads(body("gateway/reject_not_connected"))
    message["SaleToPOIRequest"]["Extra"] = [{"PaymentResponse": {"Response": {"Result": "Partial"}}}]
    assert problem_of(json.dumps(message).encode()) == "forged-plaintext"


@pytest.mark.parametrize("received", [b"ok", b'"ok"', b"", b"<html>", b'{"errors":["Nexo Service: crypto error"]}'])
def test_what_is_no_message_is_handed_on_to_be_read_as_such(received: bytes) -> None:
    assert open_answer(received, RING) == received


@pytest.mark.parametrize("received", [b"ok", b"[1]", ANSWER, b"\xff"])
def test_a_pushed_message_that_is_not_sealed_is_left_to_its_reader(received: bytes) -> None:
    assert open_pushed(received, lambda poi_id: pytest.fail(f"nobody needs the keys of {poi_id}")) == received


def test_a_pushed_message_is_opened_with_the_keys_of_the_terminal_that_it_names() -> None:
    rings = {"V400m-324000123": RING}
    assert open_pushed(seal(ANSWER, OTHER), lambda poi_id: rings[poi_id]) == ANSWER
    with pytest.raises(ProtectionError, match="unknown-key"):
        open_pushed(SEALED, lambda _poi_id: KeyRing())


# -- whatever is done to it --------------------------------------------------------------------------------------------


@given(st.data())
def test_no_flipped_bit_goes_unnoticed(data: st.DataObject) -> None:
    flipped = bytearray(SEALED)
    at = data.draw(st.integers(0, len(SEALED) * 8 - 1))
    flipped[at // 8] ^= 1 << at % 8
    assert problem_of(bytes(flipped))


@given(st.integers(0, len(SEALED) - 1))
def test_no_truncation_goes_unnoticed(length: int) -> None:
    assert problem_of(SEALED[:length])


@given(st.sampled_from([each["id"] for each in MESSAGES]), st.permutations(["MessageHeader", "NexoBlob", "trailer"]))
def test_no_member_of_another_message_goes_unnoticed(vector_id: str, order: list[str]) -> None:
    """Any part of it replaced by the same part of another genuine message under the same key."""
    donor = next(each for each in MESSAGES if each["id"] == vector_id)
    other = json.loads(protection._enveloped(b64(donor["plaintext_b64"]), KEY, bytes(16)))[donor["wrapper"]]
    message = json.loads(SEALED)
    name = {"trailer": "SecurityTrailer"}.get(order[0], order[0])
    same = message["SaleToPOIResponse"][name] == other[name]
    message["SaleToPOIResponse"][name] = other[name]
    received = json.dumps(message).encode()
    if same:
        assert open_message(received, RING)
    else:
        assert problem_of(received)


def with_anything(wrapper: str, path: list[str], value: Any) -> bytes:
    """The sealed answer under this wrapper, with anything in place of one of its parts."""
    message = json.loads(SEALED)
    content = message["SaleToPOIResponse"]
    place = content
    for name in path[:-1]:
        place = place[name] if isinstance(place.get(name), dict) else place
    if path:
        place[path[-1]] = value
    else:
        content = value
    return json.dumps({wrapper: content}).encode()


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.sampled_from(["Success", "AAAA", "KeyLane3"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.text(max_size=3) | st.sampled_from("MessageHeader NexoBlob SecurityTrailer Nonce Hmac Result".split()),
            inner,
            max_size=4,
        )
    ),
    max_leaves=10,
)
spoiled = st.builds(
    with_anything,
    st.sampled_from(["SaleToPOIResponse", "SaleToPOIRequest"]),
    st.lists(
        st.sampled_from(["MessageHeader", "NexoBlob", "SecurityTrailer", "Nonce", "POIID", "KeyVersion"]), max_size=2
    ),
    values,
)


@given(st.binary(max_size=200) | values.map(lambda value: json.dumps(value).encode()) | spoiled)
def test_any_bytes_give_a_message_or_the_one_error(received: bytes) -> None:
    wrappers: tuple[protection.Wrapper, ...] = ("SaleToPOIResponse", "SaleToPOIRequest")
    for wrapper in wrappers:
        try:
            opened = open_message(received, RING, wrapper=wrapper)
        except ProtectionError:
            continue
        clear = protection._wrapper_of(opened)
        assert clear
        assert opened == strict_json.loads(ANSWER) or protection._says_nothing(clear, opened[clear])
    for open_bytes in (lambda: open_answer(received, RING), lambda: open_pushed(received, lambda _poi_id: RING)):
        try:
            assert isinstance(open_bytes(), bytes)
        except ProtectionError:
            continue


# -- passphrases -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("passphrase", "said"),
    [
        ("Aa1!Aa1!Aa1", "12 characters"),
        ("aa1!aa1!aa1!", "upper-case letter"),
        ("AA1!AA1!AA1!", "lower-case letter"),
        ("Aaa!Aaa!Aaa!", "digit"),
        ("Aa11Aa11Aa11", "special characters"),
        ("Aa1-Aa1-/'\" \\", "special characters"),
        ("Aa1!Aa1!Aa1é", "printable ASCII"),
        ("Aa1!Aa1!Aa1!\n", "printable ASCII"),
    ],
)
def test_a_weak_passphrase_is_told_which_rule_it_breaks(passphrase: str, said: str) -> None:
    problems = passphrase_problems(passphrase)
    assert any(said in each for each in problems)
    assert not any(passphrase in each for each in problems)


@pytest.mark.parametrize("special", "~!@#$%^&*()_+=}{][;:?.,><")
def test_each_special_character_of_the_list_will_do(special: str) -> None:
    assert passphrase_problems(f"Abcdefghij1{special}") == []


def test_every_broken_rule_is_told_at_once() -> None:
    assert len(passphrase_problems("")) == 5


@pytest.mark.parametrize("passphrase", ["Vector-Test#2025a", "Another_Pass+Phrase1?"])
def test_the_passphrases_of_the_vectors_are_good_enough(passphrase: str) -> None:
    assert passphrase_problems(passphrase) == []
