"""How a payment is shown outside: the JSON of ``docs/interfaces``; times in UTC, money in minor units."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from orchestrator.model import Outcome
from orchestrator.refunds.model import RefundOutcome

Row: TypeAlias = Mapping[str, Any]


def payment_json(row: Row) -> dict[str, Any]:
    """Show a payment. ``charged`` is null for not known."""
    outcome = Outcome(row["outcome"]) if row["outcome"] else None
    charged = None if outcome is None else outcome.charged
    currency = row["currency"]
    authorised = row["authorised_minor"]
    return {
        "id": str(row["id"]),
        "reference": row["reference"],
        "merchant_account": row["merchant_account"],
        "poi_id": row["poi_id"],
        "service_id": row["service_id"],
        "send_by": instant(row["send_by"]),
        "state": row["state"],
        "reason": row["reason"],
        "outcome": row["outcome"],
        "charged": charged,
        "amount": {"currency": currency, "value": row["amount_minor"]},
        "authorised_amount": _amount(currency, authorised),
        "refunded_amount": _amount(currency, row["refunded_minor"] or None),
        **_paid_on_top(row["result"] or {} if charged else {}, currency),
        "psp_reference": row["psp_reference"],
        "tender_reference": row["tender_reference"],
        "sale_reference_id": row["options"].get("sale_reference_id"),
        **_as_the_terminal_says(row["result"] or {}),
        "late": row["late"],
        "provisional": row["provisional"],
        "created_at": instant(row["created_at"]),
        "sent_at": instant(row["sent_at"]),
        "answer_by": instant(row["answer_by"]),
        "concluded_at": instant(row["concluded_at"]),
        "reconciled_at": instant(row["reconciled_at"]),
        "sequence": row["sequence"],
    }


def _amount(currency: str, minor: int | None) -> dict[str, Any] | None:
    return None if minor is None else {"currency": currency, "value": minor}


def _paid_on_top(result: Row, currency: str) -> dict[str, Any]:
    """What of the authorised amount was not asked for, and what the shopper chose to pay it in."""
    offered = result.get("dcc_amount")
    return {
        **{name: _amount(currency, result.get(f"{name}_minor")) for name in ("tip", "cashback", "surcharge")},
        "dcc": offered
        and {
            "amount": _amount(offered["currency"], offered["minor"]),
            "rate": result.get("dcc_rate"),
            "markup": result.get("dcc_markup"),
            "accepted": result.get("dcc_accepted"),
        },
    }


def _as_the_terminal_says(result: Row) -> dict[str, Any]:
    card = {name: result.get(f"card_{name}") for name in ("brand", "last4", "entry_mode", "funding")}
    return {
        "card": card if any(card.values()) else None,
        "auth_code": result.get("auth_code"),
        "refusal_reason": result.get("refusal_reason"),
        "signature": result.get("signature"),
    }


def refund_json(row: Row) -> dict[str, Any]:
    """Show a refund. ``refunded`` is null for not known; it is true also where the payment was cancelled whole."""
    outcome = RefundOutcome(row["outcome"]) if row["outcome"] else None
    return {
        "id": str(row["id"]),
        "payment_id": None if row["payment_id"] is None else str(row["payment_id"]),
        "reference": row["reference"],
        "merchant_account": row["merchant_account"],
        "poi_id": row["poi_id"],
        "service_id": row["service_id"],
        "send_by": instant(row["send_by"]),
        "state": row["state"],
        "reason": row["reason"],
        "outcome": row["outcome"],
        "refunded": None if outcome is None else outcome.paid_back,
        "amount": {"currency": row["currency"], "value": row["amount_minor"]},
        "psp_reference": row["psp_reference"],
        "asked_by": row["asked_by"],
        "approved_by": row["approved_by"],
        "created_at": instant(row["created_at"]),
        "sent_at": instant(row["sent_at"]),
        "answer_by": instant(row["answer_by"]),
        "concluded_at": instant(row["concluded_at"]),
        "reconciled_at": instant(row["reconciled_at"]),
        "sequence": row["sequence"],
    }


def instant(at: datetime | None) -> str | None:
    """RFC 3339 in UTC, to the microsecond."""
    return None if at is None else at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def line_json(row: Row) -> dict[str, Any]:
    """Show a journal line. ``detail`` is null where retention has emptied it."""
    names = ("sequence", "evidence", "event", "before", "after", "detail", "hash")
    return {"at": instant(row["at"])} | {name: row[name] for name in names}


def terminal_json(row: Row) -> dict[str, Any]:
    """Show a terminal: its registration, who holds it back, what runs, and how many wait."""
    held, running = row["held_at"] is not None, row["holder_id"] is not None
    return {
        "poi_id": row["poi_id"],
        "merchant_account": row["merchant_account"],
        "store": row["store"],
        "transport": row["transport"],
        "region": row["region"],
        "cloud_api": row["cloud_api"],
        "till_prints": row["till_prints"],
        "address": row["address"],
        "address_at": instant(row["address_at"]),
        "created_at": instant(row["created_at"]),
        "trouble": row["trouble"],
        "trouble_at": instant(row["trouble_at"]),
        "held": {"at": instant(row["held_at"]), "by": row["held_by"], "reason": row["hold_reason"]} if held else None,
        "running": {
            "id": str(row["holder_id"]),
            "reference": row["holder_reference"],
            "sent_at": instant(row["holder_sent_at"]),
        }
        if running
        else None,
        "queued": row["queued"],
        "unknown": row["unknown"],
    }


def rejection_json(row: Row) -> dict[str, Any]:
    """Show a refused submission. ``problem`` is the last part of the problem type that HTTP would have answered."""
    return {
        "at": instant(row["at"]),
        "idempotency_key": row["idempotency_key"],
        "reference": row["reference"],
        "problem": row["problem"],
        "field": row["field"],
        "detail": row["detail"],
        "payment_id": None if row["payment_id"] is None else str(row["payment_id"]),
    }


def told_json(type_: str, at: datetime, data: Mapping[str, Any]) -> str:
    """Spell what callers and listeners are told, byte for byte the same each time."""
    return json.dumps({"type": type_, "timestamp": instant(at), "data": data}, separators=(",", ":"), ensure_ascii=True)


def telling_json(row: Row) -> dict[str, Any]:
    """Show a callback and what became of it. Of its URL the host alone: the rest may hold a secret."""
    ended = row["delivered_at"] is not None or row["parked_at"] is not None
    return {
        "id": str(row["id"]),
        "type": row["type"],
        "timestamp": instant(row["at"]),
        "payment_id": None if row["payment_id"] is None else str(row["payment_id"]),
        "refund_id": None if row["refund_id"] is None else str(row["refund_id"]),
        "sequence": row["sequence"],
        "host": urlsplit(row["url"]).hostname or "",
        "data": row["data"],
        "attempts": row["attempts"],
        "next_at": None if ended else instant(row["next_at"]),
        "delivered_at": instant(row["delivered_at"]),
        "parked_at": instant(row["parked_at"]),
        "last_status": row["last_status"],
        "last_error": row["last_error"],
    }


def alarm_json(row: Row) -> dict[str, Any]:
    """Show an alarm. Without a merchant account it is about the whole installation."""
    return {
        "id": row["id"],
        "name": row["name"],
        "at": instant(row["at"]),
        "merchant_account": row["merchant_account"],
        "payment_id": None if row["payment_id"] is None else str(row["payment_id"]),
        "refund_id": None if row["refund_id"] is None else str(row["refund_id"]),
        "reference": row["reference"],
        "poi_id": row["poi_id"],
        "sequence": row["sequence"],
        "closed_at": instant(row["closed_at"]),
        "closed_by": row["closed_by"],
        "closed_reason": row["closed_reason"],
    }


def webhook_json(row: Row) -> dict[str, Any]:
    """Show a standard webhook and what became of it; null while it is not processed."""
    return {
        "number": row["number"],
        "event_code": row["event_code"],
        "success": row["success"],
        "merchant_account": row["merchant_account"],
        "psp_reference": row["psp_reference"],
        "original_reference": row["original_reference"],
        "reference": row["reference"],
        "amount": None if row["currency"] is None else _amount(row["currency"], row["amount_minor"]),
        "happened_at": instant(row["happened_at"]),
        "reason": row["reason"],
        "poi_id": row["terminal_id"],
        "received_at": instant(row["received_at"]),
        "times": row["times"],
        "became": row["became"],
        "processed_at": instant(row["processed_at"]),
        "failed_at": instant(row["failed_at"]),
        "payment_id": None if row["payment_id"] is None else str(row["payment_id"]),
        "refund_id": None if row["refund_id"] is None else str(row["refund_id"]),
    }


def run_json(row: Row) -> dict[str, Any]:
    """Show a reconciliation run. ``summary`` is null until it is done."""
    return {
        "id": str(row["id"]),
        "merchant_account": row["merchant_account"],
        "from": row["first_day"].isoformat(),
        "to": row["last_day"].isoformat(),
        "state": row["state"],
        "started_by": row["started_by"],
        "created_at": instant(row["created_at"]),
        "started_at": instant(row["started_at"]),
        "finished_at": instant(row["finished_at"]),
        "progress": row["progress"],
        "reports": row["reports"],
        "problems": row["problems"],
        "summary": row["summary"],
        "sign_off": _sign_off(row) if row["signed_at"] is not None else None,
    }


def _sign_off(row: Row) -> dict[str, Any]:
    return {
        "at": instant(row["signed_at"]),
        "by": row["signed_by"],
        "note": row["sign_note"],
        "open_differences": row["signed_open"],
        "own_differences": row["signed_own"],
    }


def difference_json(row: Row) -> dict[str, Any]:
    """Show a difference: what we say, what the books say, and what a person said of it."""
    return {
        "id": str(row["id"]),
        "merchant_account": row["merchant_account"],
        "kind": row["kind"],
        "state": row["state"],
        "payment_id": None if row["payment_id"] is None else str(row["payment_id"]),
        "refund_id": None if row["refund_id"] is None else str(row["refund_id"]),
        "reference": row["reference"],
        "psp_reference": row["psp_reference"],
        "ours": row["ours"],
        "theirs": row["theirs"],
        "source": row["source"],
        "found_at": instant(row["found_at"]),
        "changed_at": instant(row["changed_at"]),
        "changed_by": row["changed_by"],
        "note": row["note"],
    }
