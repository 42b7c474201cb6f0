"""Standard webhooks as the platform writes and signs them. Plain functions from data to JSON."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone

from orchestrator.simulator.encoding import Json

# The platform's own office is an hour ahead in winter; receivers must read the offset, so one is enough.
OFFICE_TIME = timezone(timedelta(hours=1), "CET")
_SIGNED_FIELDS = ("pspReference", "originalReference", "merchantAccountCode", "merchantReference")


@dataclass(frozen=True, slots=True)
class Item:
    """One NotificationRequestItem. The amount is in minor units; without a currency there is no amount."""

    code: str
    psp_reference: str
    reference: str
    amount_minor: int
    currency: str
    success: bool
    at: datetime
    merchant: str
    original_reference: str = ""
    reason: str = ""
    additional: Mapping[str, str] = field(default_factory=dict)


def to_json(item: Item) -> Json:
    """The item as it is on the wire, without a signature."""
    fields: Json = {
        "eventCode": item.code,
        "success": "true" if item.success else "false",
        "eventDate": item.at.astimezone(OFFICE_TIME).isoformat(timespec="seconds"),
        "merchantAccountCode": item.merchant,
        "pspReference": item.psp_reference,
        "merchantReference": item.reference,
        "amount": {"value": item.amount_minor, "currency": item.currency},
    }
    if item.original_reference:
        fields["originalReference"] = item.original_reference
    if item.code == "AUTHORISATION" and item.success:
        fields["operations"] = ["CANCEL", "CAPTURE", "REFUND"]
    if item.code != "REPORT_AVAILABLE":
        fields["paymentMethod"] = "mc"
    return fields | {"reason": item.reason, "additionalData": dict(item.additional)}


def signature(fields: Json, key: str) -> str:
    """Base64 of the HMAC-SHA256 over the signed fields; `key` in hexadecimal. Nothing is escaped."""
    amount = fields["amount"]
    parts = [str(fields.get(name) or "") for name in _SIGNED_FIELDS]
    parts += [str(amount["value"]), str(amount["currency"]), str(fields["eventCode"]), str(fields["success"])]
    mac = hmac.new(bytes.fromhex(key), ":".join(parts).encode("utf-8", "replace"), hashlib.sha256)
    return base64.b64encode(mac.digest()).decode()


def signed(item: Item, key: str) -> Json:
    """The item on the wire with its signature; an empty key leaves it unsigned, as without a key in the account."""
    fields = to_json(item)
    if key:
        fields["additionalData"]["hmacSignature"] = signature(fields, key)
    return fields


def body(items: Sequence[Json]) -> bytes:
    """The HTTP body that carries these items."""
    carried = [{"NotificationRequestItem": item} for item in items]
    return json.dumps({"live": "false", "notificationItems": carried}, separators=(",", ":")).encode()
