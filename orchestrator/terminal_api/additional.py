"""The small languages inside the messages: AdditionalResponse, transaction ids, display references, receipt lines.

AdditionalResponse comes form-encoded, as Base64 of JSON, rarely as bare JSON or bare text; nothing says which.
Receipt lines are read for printing alone: their amounts are localised text and never evidence.
"""

import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import unquote_plus

from orchestrator.terminal_api import fields, strict_json

Encoding = Literal["empty", "form", "base64json", "json", "text"]
_BASE64 = re.compile(r"[A-Za-z0-9+/]{4,}={0,2}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Additional:
    """AdditionalResponse as flat key and value, and how it was encoded."""

    kind: Encoding
    values: Mapping[str, str]

    def get(self, *names: str) -> str | None:
        """Return the first of these that is there and not empty, safe to store."""
        return next((found for name in names if (found := fields.text(self.values, name))), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class DisplayReference:
    """What a display notification is about."""

    tender_reference: str | None
    at: str | None  # verbatim time stamp
    event: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptLine:
    """One line of a receipt, for printing."""

    name: str | None
    value: str | None
    key: str | None


def read_additional(raw: object) -> Additional:
    """Read AdditionalResponse in whichever form it came. Never raises.

    Plain text is kept as a message; broken JSON is not, since it may hold card data that no reading has found.
    """
    if isinstance(raw, Mapping):
        return Additional("json", _flatten_answer(raw))
    if not isinstance(raw, str) or not raw:
        return Additional("empty", {})
    if raw.startswith("{"):
        return Additional("json", _read_json(raw.encode(errors="replace")))
    if (decoded := _decode_base64(raw)).startswith(b"{"):
        return Additional("base64json", _read_json(decoded))
    if "=" in raw:
        return Additional("form", read_form(raw))
    return Additional("text", {"message": raw})


def read_form(raw: str) -> dict[str, str]:
    """Read ``key=value&…``. Broken escapes are kept; of equal keys the first one counts."""
    values: dict[str, str] = {}
    for pair in raw.split("&"):
        name, equals, value = pair.partition("=")
        if name or equals:
            values.setdefault(unquote_plus(name), unquote_plus(value))
    return values


def split_poi_transaction_id(raw: str) -> tuple[str, str | None]:
    """Split ``tender.pspReference``. Payments that never reached the platform have no second part."""
    tender, _, psp = raw.partition(".")
    return tender, psp or None


def read_display_reference(raw: str) -> DisplayReference:
    values = read_form(raw)
    return DisplayReference(
        tender_reference=fields.text(values, "TransactionID"),
        at=fields.text(values, "TimeStamp"),
        event=fields.text(values, "event"),
    )


def read_receipt_line(raw: str) -> ReceiptLine:
    values = read_form(raw)
    return ReceiptLine(name=values.get("name"), value=values.get("value"), key=values.get("key"))


def _read_json(body: bytes) -> dict[str, str]:
    try:
        return _flatten_answer(strict_json.loads(body))
    except strict_json.MalformedJson:
        return {}


def _decode_base64(raw: str) -> bytes:
    if not _BASE64.fullmatch(raw):
        return b""
    try:
        return base64.b64decode(raw, validate=True).lstrip()
    except binascii.Error:
        return b""


def _flatten_answer(answer: Mapping[str, Any]) -> dict[str, str]:
    """Lift the members of ``additionalData`` to the top, beside ``message`` and ``store``."""
    nested = fields.mapping(answer, "additionalData") or {}
    beside = {name: value for name, value in answer.items() if name != "additionalData"}
    return dict(_flatten(beside)) | dict(_flatten(nested))


def _flatten(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, item in value.items():
        match item:
            case Mapping():
                yield from _flatten(item, f"{prefix}{name}.")
            case str():
                yield prefix + name, item
            case bool():
                yield prefix + name, "true" if item else "false"
            case None | list():
                continue
            case _:
                yield prefix + name, str(item)
