"""The platform's webhook service: signed items about payments of the shop that ``http_support`` serves."""

import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx

from orchestrator.evidence import AnswerMissing, Evidence, Exchange, NotDelivered
from orchestrator.webhooks import signatures
from tests.factories import approved, failed
from tests.integration.http_support import MERCHANT, Api, Json, serving

KEY, OLD_KEY, FOREIGN_KEY = (secrets.token_bytes(32) for _ in range(3))


def signing(key: bytes = KEY, old: bytes = OLD_KEY) -> dict[str, str]:
    """The setting of a product that knows these keys."""
    return {"COUNTERFOIL_HMAC_KEYS": f"{key.hex()},{old.hex()}"}


def psp() -> str:
    """A PSP reference that nobody has."""
    return secrets.token_hex(8).upper()


def at(seconds: float = 0) -> str:
    """An instant as the platform spells it, so many seconds from now."""
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


def webhook(payment: Json | None = None, code: str = "AUTHORISATION", **changes: Any) -> Json:
    """An item about a payment, as the platform would word it; a change to ``...`` leaves a member out."""
    fields: Json = {
        "eventCode": code,
        "success": "true",
        "eventDate": at(),
        "merchantAccountCode": MERCHANT,
        "pspReference": psp(),
        "merchantReference": payment["reference"] if payment else "ONLINE-1",
        "amount": dict(payment["amount"]) if payment else {"currency": "EUR", "value": 1099},
        **changes,
    }
    return {name: value for name, value in fields.items() if value is not ...}


def signed(item: Json, key: bytes = KEY, **additional: Any) -> Json:
    made = signatures.sign(key, signatures.signed_text(item) or b"")
    return {**item, "additionalData": {**item.get("additionalData", {}), **additional, "hmacSignature": made}}


def body(*items: Json, live: Any = "false") -> bytes:
    """The HTTP body of items that are signed, or not."""
    wrapped = [{"NotificationRequestItem": item} for item in items]
    return json.dumps({"live": live, "notificationItems": wrapped}).encode()


def post(api: Api, content: bytes, **headers: str) -> httpx.Response:
    return api.http.post("/webhooks/standard", content=content, headers=headers)


def book(api: Api, *items: Json, key: bytes = KEY) -> None:
    """Have webhooks delivered, and taken."""
    answer = post(api, body(*(signed(item, key) for item in items)))
    assert (answer.status_code, answer.text) == (200, "[accepted]"), answer.text


def record(api: Api, payment: Json, *evidence: Evidence) -> Json:
    for each in evidence:
        api.recorder.record(UUID(payment["id"]), each)
    return {**payment, **api.get(f"/v1/payments/{payment['id']}").json()}


def paid(api: Api, **overrides: Any) -> Json:
    """A payment that its terminal approved, under a PSP reference of its own."""
    said = {"psp_reference": psp(), "tender_reference": None, "poi_transaction_id": None, **overrides}
    return record(api, api.sent(), approved(**said))


def declined(api: Api, **overrides: Any) -> Json:
    return record(api, api.sent(), failed("Refusal", **{"psp_reference": psp(), **overrides}))


def not_performed(api: Api) -> Json:
    return record(api, api.sent(), NotDelivered(why="connect-timeout"))


def asked(api: Api, payment: Json) -> Json:
    """Its terminal was asked, and nothing came of it."""
    return record(api, payment, AnswerMissing(exchange=Exchange.STATUS, why="read-timeout"))


def believed(api: Api, payment: Json) -> tuple[str, str | None, str | None]:
    row = api.row(payment["id"])
    return row["state"], row["outcome"], row["reason"]


def alarms(api: Api, payment: Json | None = None) -> list[str]:
    where = "payment_id IS NULL" if payment is None else "payment_id = %s"
    values = [] if payment is None else [payment["id"]]
    found = api.rows.execute(f"SELECT name FROM alarms WHERE {where} ORDER BY id", values).fetchall()
    return [row["name"] for row in found]


def differences(api: Api, **named: Any) -> list[Json]:
    """The differences of a payment, or of a reference, oldest first."""
    (name, value), *_ = named.items()
    return api.rows.execute(f"SELECT * FROM differences WHERE {name} = %s ORDER BY number", [value]).fetchall()


def kinds(api: Api, payment: Json) -> list[str]:
    return [row["kind"] for row in differences(api, payment_id=payment["id"])]


def kept(api: Api, item: Json) -> Json:
    """The row of a webhook."""
    found = api.rows.execute(
        "SELECT * FROM webhooks WHERE psp_reference = %s AND event_code = %s ORDER BY number DESC LIMIT 1",
        [item["pspReference"], item["eventCode"]],
    ).fetchone()
    assert found
    return found


@contextmanager
def with_keys(database_url: str, folder: Path, **settings: str) -> Iterator[Api]:
    """Serve a database to a platform whose keys are known."""
    with serving(database_url, folder, **signing(), **settings) as api:
        yield api
