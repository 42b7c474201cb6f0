"""A webhook that a person, or a test, wants sent now: `POST /webhooks/send`.

A JSON object with `event_code`, and what else should differ from what the books know of `reference`: `psp_reference`,
`original_reference`, `amount` (`{"value": 1099, "currency": "EUR"}`), `success` (true unless said), `reason`,
`event_date` (RFC 3339), `merchant_account`, `additional_data`, and `signing` (`current`, `old` or `wrong`). It is
posted once, whatever the answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from orchestrator.simulator.aftermath import Signing
from orchestrator.simulator.books import Books, Subject
from orchestrator.simulator.encoding import Json, as_object, now
from orchestrator.simulator.webhooks import Item

_SIGNING = {"current": Signing.CURRENT_KEY, "old": Signing.OLD_KEY, "wrong": Signing.WRONG_KEY}
_MEMBERS = frozenset(
    "event_code reference psp_reference original_reference amount success reason event_date merchant_account "
    "additional_data signing".split()
)


def wanted_item(wanted: Json, books: Books, merchant: str) -> tuple[Item, Signing]:
    """The item and how to sign it; ValueError says in words what is missing or wrong."""
    if unknown := wanted.keys() - _MEMBERS:
        message = f"unknown member {min(unknown)!r}; there are {', '.join(sorted(_MEMBERS))}"
        raise ValueError(message)
    if not wanted.get("event_code"):
        raise ValueError("event_code: name it, such as AUTHORISATION")
    if wanted.get("signing", "current") not in _SIGNING:
        raise ValueError(f"signing: one of {', '.join(_SIGNING)}")
    known = books.subjects.get(str(wanted.get("reference", "")))
    item = Item(
        code=str(wanted["event_code"]),
        psp_reference=str(wanted.get("psp_reference", known.psp_reference if known else "")),
        reference=str(wanted.get("reference", "")),
        **_amount(wanted, known),
        success=wanted.get("success", True) is True,
        at=_instant(str(wanted["event_date"])) if "event_date" in wanted else now(),
        merchant=str(wanted.get("merchant_account", merchant)),
        original_reference=str(wanted.get("original_reference", known.refund_of if known else "")),
        reason=str(wanted.get("reason", "")),
        additional={str(name): str(value) for name, value in _additional(wanted, known).items()},
    )
    return item, _SIGNING[wanted.get("signing", "current")]


def _amount(wanted: Json, known: Subject | None) -> Json:
    amount = as_object(wanted.get("amount"))
    if known is None and not {"value", "currency"} <= amount.keys():
        raise ValueError("amount: name value and currency, or the reference of a payment that has a PSP reference")
    value = amount.get("value", known.amount_minor if known else 0)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError("amount.value: an integer in minor units")  # noqa: TRY004 - one kind of error for a bad body
    return {"amount_minor": value, "currency": str(amount.get("currency", known.currency if known else ""))}


def _additional(wanted: Json, known: Subject | None) -> Mapping[str, Any]:
    return as_object(wanted["additional_data"]) if "additional_data" in wanted else (known.additional if known else {})


def _instant(text: str) -> datetime:
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError("event_date: RFC 3339, such as 2025-11-25T10:00:40+01:00") from error
    if at.tzinfo is None:
        raise ValueError("event_date: needs its zone")
    return at
