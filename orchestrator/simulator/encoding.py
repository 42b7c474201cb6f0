"""Text encodings and amounts as the platform writes them: additional data, timestamps, major and minor units."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from urllib.parse import quote, unquote_plus

Json = dict[str, Any]

# Decimals by currency as the platform counts them, which is not always ISO 4217.
# Source: github.com/Adyen/adyen-php-api-library src/Adyen/Util/Currency.php
_NO_DECIMALS = frozenset(
    ["CVE", "DJF", "GNF", "IDR", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "VND", "VUV", "XAF", "XOF", "XPF"]
)
_THREE_DECIMALS = frozenset(["BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"])


def decimals(currency: str) -> int:
    """Decimals of the currency: 0, 2 or 3."""
    if currency in _NO_DECIMALS:
        return 0
    return 3 if currency in _THREE_DECIMALS else 2


def to_minor(major: Decimal, currency: str) -> int:
    """Minor units of an amount in major units; ValueError when it is negative or has too many decimals."""
    if major < 0:
        message = "below 0"
        raise ValueError(message)
    scaled = major.scaleb(decimals(currency))
    if scaled != scaled.to_integral_value():
        message = f"more decimals than {currency} has"
        raise ValueError(message)
    return int(scaled)


def to_major(minor: int, currency: str) -> int | float:
    """A JSON number in major units: `10.99`, and `42` rather than `42.0`, as terminals write it."""
    major = Decimal(minor).scaleb(-decimals(currency))
    return int(major) if major == major.to_integral_value() else float(major)


def to_form(fields: Mapping[str, str]) -> str:
    """`key=value&…` with lower-case percent escapes and `%20` for a space, as terminals write it."""
    return "&".join(f"{key}={_lower_escapes(quote(value, safe='', errors='replace'))}" for key, value in fields.items())


def _lower_escapes(quoted: str) -> str:
    head, *escaped = quoted.split("%")
    return head + "".join(f"%{part[:2].lower()}{part[2:]}" for part in escaped)


def from_form(text: str) -> dict[str, str]:
    """Fields of `key=value&…`; a part without `=` is dropped."""
    pairs = (part.split("=", 1) for part in text.split("&") if "=" in part)
    return {unquote_plus(key): unquote_plus(value) for key, value in pairs}


@dataclass(frozen=True, slots=True)
class AcquirerData:
    """What SaleToAcquirerData said: flat text fields, and whether it came as Base64 of JSON."""

    fields: Mapping[str, str]
    is_base64: bool

    @classmethod
    def parse(cls, text: str) -> AcquirerData:
        """Fields of either encoding; nested objects become dotted keys (`metadata.name`)."""
        nested = _from_base64(text) if text else None
        if nested is None:
            return cls(from_form(text), is_base64=False)
        return cls(_flatten(nested), is_base64=True)

    @property
    def metadata(self) -> dict[str, str]:
        """The `metadata.*` fields, with their full keys."""
        return {key: value for key, value in self.fields.items() if key.startswith("metadata.")}

    def has_tender_option(self, name: str) -> bool:
        """Whether the comma-separated tenderOption names this option."""
        return name in self.fields.get("tenderOption", "").split(",")

    def reply(self, fields: Mapping[str, str]) -> str:
        """AdditionalResponse in the encoding that was sent, form when nothing was."""
        if not self.is_base64:
            return to_form(fields)
        inner = {key: value for key, value in fields.items() if key != "message"}
        body: Json = {"additionalData": inner}
        if "message" in fields:
            body["message"] = fields["message"]
        return base64.b64encode(json.dumps(body).encode()).decode()


def _from_base64(text: str) -> Json | None:
    try:
        decoded = json.loads(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError):
        return None
    return decoded if isinstance(decoded, dict) else None


def _flatten(nested: Json, prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in nested.items():
        if isinstance(value, dict):
            flat.update(_flatten(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value if isinstance(value, str) else json.dumps(value)
    return flat


def as_object(value: Any) -> Json:
    """The value when it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}


def timestamp(moment: datetime) -> str:
    """ISO 8601 in UTC with milliseconds and `Z`."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def reformatted(text: str) -> str:
    """A till's TimeStamp as the terminal repeats it: with milliseconds; unreadable text stays as it is."""
    try:
        return timestamp(datetime.fromisoformat(text))
    except ValueError:
        return text


def now() -> datetime:
    """This instant, in UTC."""
    return datetime.now(UTC)
