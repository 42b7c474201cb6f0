"""The platform's own Python package verifies what the simulator signs, so that both sides cannot be wrong alike.

The package is for this test alone. Without it the test says so; in CI it must be there.
"""

from __future__ import annotations

import importlib.util
import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.simulator.aftermath import WEBHOOKS
from orchestrator.simulator.process import SimulatorProcess
from orchestrator.webhooks.effects import effect_of
from orchestrator.webhooks.items import read_item
from orchestrator.webhooks.signatures import item_is_signed
from tests.integration.simulator_support import Asked, Json, Receiver, Till, eventually, message

_KEY, _OLD_KEY = "5A1C0D7EB2F94638A7C1E0D9B8F7A6C5D4E3F2A1B0C9D8E7F6A5B4C3D2E1F001", "0f" * 32
_SCALE = 500

if importlib.util.find_spec("Adyen") is None:
    if os.environ.get("CI"):
        pytest.fail("CI needs the package Adyen: it is in requirements-dev.txt", pytrace=False)
    pytest.skip("the package Adyen is missing: pip install Adyen", allow_module_level=True)


def valid(item: Json, key: str) -> bool:
    """What the package says of an item. A copy goes in: the package takes the signature out of what it is given."""
    from Adyen.util import is_valid_hmac_notification

    return bool(is_valid_hmac_notification(item | {"additionalData": dict(item["additionalData"])}, key))


@pytest.fixture(scope="module")
def received(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Json]]:
    """Every kind of item that the simulator sends, with the behaviour that its reference names."""
    receiver = Receiver()
    arguments = ["--any-terminal", "--time-scale", str(_SCALE), "--webhook", receiver.url]
    ledger: Path = tmp_path_factory.mktemp("interop") / "ledger.jsonl"
    with SimulatorProcess(ledger, [*arguments, "--hmac-key", _KEY, "--hmac-key", _OLD_KEY]) as simulator:
        till = Till(simulator.url)
        for name in WEBHOOKS:
            till.pay(Asked(f"SALE-{name}"), "/sync")
        # Signed as it is: neither escapes nor encodings, also where a value looks like a separator.
        for reference in ("A:B", "back\\slash", "slash/", "Grüße-€"):
            till.pay(Asked(reference), "/sync")
        till.pay(Asked("PAYOUT", payment_type="Refund"), "/sync")
        _refund(till)
        eventually(lambda: len({code for code, _, _ in map(_kind, _items(receiver))}) >= 10)
        yield _items(receiver)
    receiver.close()


def _refund(till: Till) -> None:
    response = till.pay(Asked("SALE", poi_id="P400-1"), "/sync").json()["SaleToPOIResponse"]["PaymentResponse"]
    for reference in ("R-refund-fails", "R-refund-reversed", "R-refund-voided"):
        body = {
            "OriginalPOITransaction": {"POITransactionID": response["POIData"]["POITransactionID"]},
            "ReversalReason": "MerchantCancel",
            "SaleData": {"SaleTransactionID": {"TransactionID": reference, "TimeStamp": "2025-11-25T10:14:00Z"}},
        }
        till.post("/sync", message("Reversal", body, "P400-1", f"r{len(reference):09d}"))


def _items(receiver: Receiver) -> list[Json]:
    return [entry["NotificationRequestItem"] for body in list(receiver.bodies) for entry in body["notificationItems"]]


def _kind(item: Json) -> tuple[Any, ...]:
    return item["eventCode"], item["success"], item["merchantReference"]


def test_the_platforms_package_verifies_each_item_and_only_with_its_key(received: list[Json]) -> None:
    assert {"AUTHORISATION", "CANCEL_OR_REFUND", "REFUND_FAILED", "REFUND_WITH_DATA", "CHARGEBACK"} <= {
        item["eventCode"] for item in received
    }
    for item in received:
        reference = item["merchantReference"]
        wrong = reference.endswith("webhook-wrong-signature") or (
            reference.endswith("webhook-forged") and item["success"] == "false"
        )
        old = reference.endswith("webhook-old-key")
        assert (valid(item, _KEY), valid(item, _OLD_KEY)) == (not wrong and not old, old), _kind(item)


def test_ours_says_of_each_item_what_the_platforms_package_says(received: list[Json]) -> None:
    for item, key in itertools.product(received, (_KEY, _OLD_KEY)):
        assert item_is_signed(item, [bytes.fromhex(key)]) == valid(item, key), _kind(item)


def test_every_item_is_readable_and_known(received: list[Json]) -> None:
    read = [read_item(item, live=False) for item in received]

    assert not any(item.unreadable for item in read)
    assert {item.event_code for item in read if effect_of(item) is None} == set()


def test_the_platforms_package_sees_what_was_changed(received: list[Json]) -> None:
    genuine = next(item for item in received if valid(item, _KEY))

    for name, other in (("pspReference", "X"), ("merchantReference", "X"), ("success", "false"), ("eventCode", "X")):
        assert not valid(genuine | {name: other}, _KEY)
    assert not valid(genuine | {"amount": genuine["amount"] | {"value": 1}}, _KEY)
