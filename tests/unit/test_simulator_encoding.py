"""The simulator writes amounts and texts as the recorded vectors have them, and survives any body."""

from __future__ import annotations

import ast
import json
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import orchestrator.simulator
from orchestrator.simulator.encoding import AcquirerData, from_form, reformatted, to_form, to_major, to_minor
from orchestrator.simulator.incoming import NotUnderstoodError, parse_message
from orchestrator.simulator.payment import Asked, BadMessageError, Header

_VECTORS = Path(__file__).parents[1] / "vectors"
_PACKAGE = Path(orchestrator.simulator.__file__).parent


def vectors(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((_VECTORS / name).read_text())["vectors"]
    return found


@pytest.mark.parametrize("vector", vectors("currency-amounts.json"), ids=lambda v: f"{v['major']} {v['currency']}")
def test_amounts_have_the_decimals_of_the_platform(vector: dict[str, Any]) -> None:
    major, currency = Decimal(vector["major"]), vector["currency"]

    if not vector["representable"]:
        with pytest.raises(ValueError):
            to_minor(major, currency)
        return

    assert to_minor(major, currency) == vector["minor"]
    assert Decimal(str(to_major(vector["minor"], currency))) == major


def test_form_text_uses_lower_case_escapes_as_terminals_do() -> None:
    fields = {"cardHolderName": "TEST/CARD", "batteryLevel": "78%", "name": "Café €", "note": "1+1"}

    assert to_form(fields) == "cardHolderName=TEST%2fCARD&batteryLevel=78%25&name=Caf%c3%a9%20%e2%82%ac&note=1%2b1"
    assert from_form(to_form(fields)) == fields


@pytest.mark.parametrize("text", ["", "a=b", "&&=", "e30=", "bnVsbA==", "%", "metadata.x=1", "a=\ud800"])
def test_acquirer_data_of_any_kind_can_be_echoed(text: str) -> None:
    data = AcquirerData.parse(text)

    assert data.reply(data.metadata | {"message": "m"})


def test_an_unreadable_time_is_repeated_as_it_came() -> None:
    assert reformatted("2025-11-25T10:00:30+01:00") == "2025-11-25T09:00:30.000Z"
    assert reformatted("yesterday") == "yesterday"


_HEADER = Header("T", "K", "1", "Payment")
_DEEP = b"[" * 100_000


@pytest.mark.parametrize("raw", [b"", b" ", b"[]", b"1", b"{}", b"\xff", b'{"SaleToPOIRequest":[]}', _DEEP, b"NaN"])
def test_what_is_no_message_is_told_so(raw: bytes) -> None:
    with pytest.raises(NotUnderstoodError):
        parse_message(raw)


@pytest.mark.parametrize(
    "amounts",
    [
        {},
        {"Currency": "EUR"},
        {"Currency": "EUR", "RequestedAmount": "10"},
        {"Currency": "EUR", "RequestedAmount": True},
        {"Currency": "EUR", "RequestedAmount": -1},
        {"Currency": "EUR", "RequestedAmount": Decimal("10.999")},
        {"Currency": "EUR", "RequestedAmount": Decimal("1e999999")},
        {"Currency": "EUR", "RequestedAmount": float("nan")},
        {"Currency": 1, "RequestedAmount": 1},
    ],
)
def test_amounts_that_make_no_sense_are_named(amounts: dict[str, object]) -> None:
    sale = {"SaleTransactionID": {"TransactionID": "R", "TimeStamp": "x"}}

    with pytest.raises(BadMessageError, match="AmountsReq, field"):
        Asked.parse(_HEADER, {"SaleData": sale, "PaymentTransaction": {"AmountsReq": amounts}})


@pytest.mark.parametrize("body", [{}, {"SaleData": 1}, {"SaleData": {"SaleTransactionID": {}}}])
def test_a_payment_without_its_members_is_named(body: dict[str, object]) -> None:
    amounts = {"PaymentTransaction": {"AmountsReq": {"Currency": "EUR", "RequestedAmount": 1}}}

    with pytest.raises(BadMessageError, match="SaleTransactionID"):
        Asked.parse(_HEADER, body | amounts)


def test_the_simulator_shares_no_code_with_the_product() -> None:
    allowed = set(sys.stdlib_module_names) | {"h11", "cryptography"}
    for path in _PACKAGE.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            for name in names:
                ours = name.startswith("orchestrator.simulator")
                assert ours or name.partition(".")[0] in allowed, f"{path.name} imports {name}"
