"""Who signed a webhook: every vector of the official libraries, and whatever else may stand in a signature's place."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.webhooks import signatures
from tests.protocol_vectors import ENTRIES, load, message

VECTORS = {vector["id"]: vector for vector in load("webhook-hmac.json")["vectors"]}
ITEMS = {name: vector for name, vector in VECTORS.items() if vector["kind"] == "item"}
PAYLOADS = {name: vector for name, vector in VECTORS.items() if vector["kind"] == "payload"}
BODIES = [name for name in ENTRIES if name.startswith("webhooks/")]
KEY = bytes.fromhex("5A1C0D7EB2F94638A7C1E0D9B8F7A6C5D4E3F2A1B0C9D8E7F6A5B4C3D2E1F001")
OTHER_KEY = bytes(range(32))


def signed(item: dict[str, Any], signature: Any) -> dict[str, Any]:
    return {**item, "additionalData": {**item.get("additionalData", {}), "hmacSignature": signature}}


def test_there_are_vectors_of_both_kinds() -> None:
    assert len(ITEMS) > 20
    assert len(PAYLOADS) > 5
    assert {vector["valid"] for vector in VECTORS.values()} == {True, False}


@pytest.mark.parametrize("name", ITEMS)
def test_each_vector_of_an_item_is_judged_as_it_says(name: str) -> None:
    vector = ITEMS[name]
    key = bytes.fromhex(vector["hmac_key_hex"])

    assert signatures.item_is_signed(signed(vector["item"], vector["signature_b64"]), [key]) is vector["valid"]
    if vector["valid"]:
        assert signatures.signed_text(vector["item"]) == vector["signing_string"].encode()


@pytest.mark.parametrize("name", PAYLOADS)
def test_each_vector_of_a_body_is_judged_as_it_says(name: str) -> None:
    vector = PAYLOADS[name]
    body, key = base64.b64decode(vector["body_b64"]), bytes.fromhex(vector["hmac_key_hex"])

    assert signatures.body_is_signed(body, vector["signature_b64"], [key]) is vector["valid"]


@pytest.mark.parametrize("name", BODIES)
def test_each_item_of_the_composed_bodies_is_signed(name: str) -> None:
    keys = [bytes.fromhex(ENTRIES[name]["hmac_key_hex"])]

    for each in message(name)["notificationItems"]:
        assert signatures.item_is_signed(each["NotificationRequestItem"], keys)


def test_the_previous_key_is_as_good_as_the_current_one_and_no_key_is_none() -> None:
    vector = ITEMS["refused"]
    item = signed(vector["item"], vector["signature_b64"])

    assert signatures.item_is_signed(item, [OTHER_KEY, KEY])
    assert signatures.item_is_signed(item, [KEY, OTHER_KEY])
    assert not signatures.item_is_signed(item, [OTHER_KEY])
    assert not signatures.item_is_signed(item, [])


@pytest.mark.parametrize("signature", [None, "", "x", 7, True, ["x"], {"x": 1}, "=" * 44, "ü" * 44, "A" * 44, "A" * 43])
def test_what_is_no_signature_is_not_valid_and_no_crash(signature: Any) -> None:
    assert not signatures.item_is_signed(signed(ITEMS["refused"]["item"], signature), [KEY])


@pytest.mark.parametrize(
    "change",
    [{"pspReference": ["x"]}, {"amount": {"value": {"a": 1}, "currency": "EUR"}}, {"merchantReference": "\ud800"}],
)
def test_a_member_that_no_signature_can_cover_is_not_valid_and_no_crash(change: dict[str, Any]) -> None:
    item = {**ITEMS["refused"]["item"], **change}

    assert signatures.signed_text(item) is None
    assert not signatures.item_is_signed(signed(item, signatures.sign(KEY, b"")), [KEY])


@pytest.mark.parametrize("success", [True, False])
def test_a_boolean_is_signed_as_json_spells_it(success: bool) -> None:
    item = {**ITEMS["refused"]["item"], "success": success}

    assert (signatures.signed_text(item) or b"").endswith(b":true" if success else b":false")


def test_every_signed_member_is_covered() -> None:
    item = {**ITEMS["with-original"]["item"]}
    item = signed(item, signatures.sign(KEY, signatures.signed_text(item) or b""))
    names = ("pspReference", "originalReference", "merchantAccountCode", "merchantReference", "eventCode")
    changes: list[dict[str, Any]] = [{name: "other"} for name in names]
    changes += [{"success": "false"}, {"amount": {"value": 1098, "currency": "EUR"}}]
    changes += [{"amount": {"value": 1099, "currency": "USD"}}]

    assert signatures.item_is_signed(item, [KEY])
    assert not [change for change in changes if signatures.item_is_signed({**item, **change}, [KEY])]


@given(st.dictionaries(st.sampled_from(["pspReference", "amount", "success", "additionalData"]), st.from_type(object)))
def test_no_item_is_valid_by_accident(item: dict[str, Any]) -> None:
    assert not signatures.item_is_signed(item, [KEY])


# -- the platform's own library --------------------------------------------------------------------------------------

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(TEXT, TEXT, TEXT, TEXT, st.integers(0, 10**9), st.booleans())
def test_the_official_library_signs_what_we_verify_and_verifies_what_we_sign(
    psp: str, original: str, merchant: str, reference: str, minor: int, success: bool
) -> None:
    item = {
        "pspReference": psp,
        "originalReference": original,
        "merchantAccountCode": merchant,
        "merchantReference": reference,
        "amount": {"value": minor, "currency": "EUR"},
        "eventCode": "AUTHORISATION",
        "success": json.dumps(success),
    }
    official = pytest.importorskip("Adyen.util")
    theirs = official.generate_notification_sig(item, KEY.hex())
    theirs = theirs.decode() if isinstance(theirs, bytes) else theirs
    ours = signatures.sign(KEY, signatures.signed_text(item) or b"")

    assert signatures.item_is_signed(signed(item, theirs), [KEY])
    assert official.is_valid_hmac_notification(signed(item, ours), KEY.hex())
    assert not official.is_valid_hmac_notification(signed(item, ours), OTHER_KEY.hex())
