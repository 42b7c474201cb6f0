"""Between rows and what the core reads: ``Transaction`` out, parameters of a statement in."""

import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, TypeAlias
from uuid import UUID

from psycopg.types.json import Json, Jsonb

from orchestrator.books import may_be_one_try
from orchestrator.commands import CommandKind
from orchestrator.decide import Decision
from orchestrator.evidence import Evidence, ResultReported, kind_of, to_detail
from orchestrator.model import Books, Money, Outcome, Reason, Stage, State, Transaction, Transport
from orchestrator.subscription import Subscription
from orchestrator.transitions import Event
from orchestrator.views import payment_json

Row: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Ring:
    """A command that is due: what its message says, so that Flower finds a payment by its reference."""

    command_id: int
    kind: CommandKind
    payment_id: UUID | None
    reference: str
    poi_id: str
    transport: Transport


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """What the way to a terminal depends on, beside its transport. None means the setting's default."""

    region: str | None = None
    cloud_api: str | None = None
    till_prints: bool | None = None
    address: str | None = None
    store: str | None = None
    reassigned: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A transaction as read at ``read_at`` (the database's clock), with what a request to its terminal needs."""

    transaction: Transaction
    read_at: datetime
    options: Mapping[str, Any]
    route: Route
    send_by: datetime
    command: CommandKind | None = None
    command_due_at: datetime | None = None
    row: Row = field(repr=False)


def transaction_of(row: Row) -> Transaction:
    """Read a row of ``payments``."""
    books = row["books"]
    return Transaction(
        id=row["id"],
        reference=row["reference"],
        merchant_account=row["merchant_account"],
        poi_id=row["poi_id"],
        sale_id=row["sale_id"],
        service_id=row["service_id"],
        amount=Money(row["currency"], row["amount_minor"]),
        transport=Transport(row["transport"]),
        sequence=row["sequence"],
        state=State(row["state"]),
        outcome=Outcome(row["outcome"]) if row["outcome"] else None,
        reason=Reason(row["reason"]) if row["reason"] else None,
        sent_at=row["sent_at"],
        concluded_at=row["concluded_at"],
        reconciled_at=row["reconciled_at"],
        authorised_minor=row["authorised_minor"],
        psp_reference=row["psp_reference"],
        tender_reference=row["tender_reference"],
        late=row["late"],
        provisional=row["provisional"],
        abort_asked=row["abort_asked"],
        refused_with=row["refused_with"],
        not_found_at=row["not_found_at"],
        checked_at=row["checked_at"],
        checks=row["checks"],
        asked_since_unknown=row["asked_since_unknown"],
        sentinel=row["sentinel"],
        books=_books(books) if books else None,
    )


def loaded_of(row: Row) -> Loaded:
    """Read a row of a loading statement or of the claim."""
    reassigned_at = row.get("reassigned_at")
    return Loaded(
        transaction=transaction_of(row),
        read_at=row.get("read_at") or row["claimed_at"],
        options=row["options"],
        route=Route(
            region=row.get("region"),
            cloud_api=row.get("cloud_api"),
            till_prints=row.get("till_prints"),
            address=row.get("address"),
            store=row.get("store"),
            reassigned=reassigned_at is not None and row["sent_at"] is not None and reassigned_at > row["sent_at"],
        ),
        send_by=row["send_by"],
        command=CommandKind(row["command_kind"]) if row.get("command_kind") else None,
        command_due_at=row.get("command_due_at"),
        row=row,
    )


def ring_of(row: Row) -> Ring:
    """Read what a statement says is to be rung."""
    return Ring(
        command_id=row["command_id"],
        kind=CommandKind(row["kind"]),
        payment_id=row["payment_id"],
        reference=row["reference"],
        poi_id=row["poi_id"],
        transport=Transport(row["transport"]),
    )


def detail_parameters(evidence: Evidence) -> dict[str, Any]:
    """Salt and hash what a journal line rests on; the salt keeps a guessed detail from being confirmed by its hash."""
    detail = to_detail(evidence)
    salt = secrets.token_hex(16)
    return {"detail": Jsonb(detail), "salt": salt, "detail_hash": detail_hash(salt, detail)}


def detail_hash(salt: str, detail: Mapping[str, Any]) -> str:
    """SHA-256 over the salt and the detail in canonical JSON."""
    text = json.dumps(detail, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(f"{salt}|{text}".encode()).hexdigest()


def record_parameters(
    decision: Decision,
    evidence: Evidence,
    loaded: Loaded,
    done: Loaded | None,
    done_id: int | None,
    *,
    subscription: Subscription,
) -> dict[str, Any]:
    """Spell a decision about what was loaded for the RECORD statement."""
    before, after = decision.before, decision.after
    result = result_after(decision, evidence, loaded.row["result"])
    values = {
        **_shown_of(after),
        "id": after.id,
        "expected_sequence": before.sequence,
        "at": loaded.read_at,
        "evidence": kind_of(evidence),
        "event": decision.event.value,
        "before": before.state.value,
        "digest": evidence.digest,
        "abort_asked": after.abort_asked,
        "refused_with": after.refused_with,
        "not_found_at": after.not_found_at,
        "checked_at": after.checked_at,
        "checks": after.checks,
        "asked_since_unknown": after.asked_since_unknown,
        "sentinel": after.sentinel,
        "books": Jsonb(_books_json(after.books)) if after.books else None,
        "result": Jsonb(result) if result != loaded.row["result"] else None,
        "obsolete": [kind.value for kind in decision.obsolete],
        "done_id": done_id,
        "done_due_at": done.command_due_at if done else None,
        "kinds": [plan.kind.value for plan in decision.commands],
        "waits": [plan.after_s for plan in decision.commands],
        "alarm": decision.alarm and decision.alarm.value,
        "frees": frees_terminal(before, after),
        **detail_parameters(evidence),
    }
    return values | _telling(decision, evidence, loaded, subscription)


#: What is kept of a terminal's result, by the names of its evidence: for refunds, books, and the till.
_KEPT: Final = (
    "result", "error_condition", "refusal_reason", "poi_transaction_id", "poi_transaction_at", "online", "auth_code",
    "tip_minor", "cashback_minor", "surcharge_minor", "dcc_amount", "dcc_rate", "dcc_markup", "dcc_accepted",
    "card_brand", "card_last4", "card_entry_mode", "card_funding", "signature",
)  # fmt: skip

#: A terminal's word that became what we believe, and one that says it again.
_CONCLUDING: Final = frozenset({Event.CHARGED, Event.CHARGED_AS_BOOKED, Event.NOT_CHARGED, Event.NOT_PERFORMED})
_AGREEING: Final = frozenset({Event.RESULT_NOTED, Event.BOOKS_DIFFER})


def result_after(decision: Decision, evidence: Evidence, before: Row | None) -> dict[str, Any] | None:
    """What is kept of the terminal's own result after a decision; None where there is none.

    The result that concluded is kept. One that says the same again brings what is not known yet: the books may have
    been faster, or an answer may have been cut short. One that contradicts brings nothing.
    """
    known = dict(before or {})
    if not speaks_for_itself(decision, evidence):
        return known or None
    said = {name: value for name, value in to_detail(evidence).items() if name in _KEPT}
    return said if decision.event in _CONCLUDING else {**said, **known}


def speaks_for_itself(decision: Decision, evidence: Evidence) -> bool:
    """Whether this is the terminal's own result of the payment as we now believe it."""
    if not isinstance(evidence, ResultReported) or decision.after.outcome is None:
        return False
    one_try = may_be_one_try(decision.after.psp_reference, evidence.psp_reference)
    return decision.event in _CONCLUDING or (decision.event in _AGREEING and one_try)


def _shown_of(after: Transaction) -> dict[str, Any]:
    """What is shown of a transaction and a decision may move, by the names of its columns."""
    return {
        "sequence": after.sequence,
        "state": after.state.value,
        "outcome": after.outcome and after.outcome.value,
        "reason": after.reason and after.reason.value,
        "sent_at": after.sent_at,
        "concluded_at": after.concluded_at,
        "reconciled_at": after.reconciled_at,
        "authorised_minor": after.authorised_minor,
        "psp_reference": after.psp_reference,
        "tender_reference": after.tender_reference,
        "late": after.late,
        "provisional": after.provisional,
    }


def shown_after(decision: Decision, evidence: Evidence, loaded: Loaded) -> dict[str, Any]:
    """Show the payment as it is after a decision."""
    moved = _shown_of(decision.after)
    answer_by = loaded.row["answer_by"] or moved["sent_at"]
    result = result_after(decision, evidence, loaded.row["result"])
    return payment_json({**loaded.row, **moved, "answer_by": answer_by, "result": result})


def _telling(decision: Decision, evidence: Evidence, loaded: Loaded, subscription: Subscription) -> dict[str, Any]:
    """What the caller is told of a decision; nothing where nobody listens."""
    before, after = decision.before, decision.after
    told = f"payment.{after.state.value}"
    same_money = (before.outcome, before.authorised_minor) == (after.outcome, after.authorised_minor)
    agreed = after.state is State.RECONCILED and same_money
    if loaded.row["callback_url"] is None or not decision.told or not subscription.wants(told, agreed=agreed):
        return {"told": None, "told_data": None}
    return {"told": told, "told_data": Json(shown_after(decision, evidence, loaded))}


def frees_terminal(before: Transaction, after: Transaction) -> bool:
    """Whether the terminal's next payment may start: its turn came, or the unknown one before it was asked about."""
    left_the_queue = before.stage in {Stage.QUEUED, Stage.SENT} and after.stage is not before.stage
    no_longer_unknown = before.stage is Stage.UNKNOWN and after.stage is not Stage.UNKNOWN
    return left_the_queue or no_longer_unknown or (after.asked_since_unknown and not before.asked_since_unknown)


def _books(value: Mapping[str, Any]) -> Books:
    amount = value.get("amount")
    return Books(
        authorised=value["authorised"],
        psp_reference=value.get("psp_reference"),
        amount=Money(amount["currency"], amount["minor"]) if amount else None,
        effective_at=value.get("effective_at"),
    )


def _books_json(books: Books) -> dict[str, Any]:
    amount = {"currency": books.amount.currency, "minor": books.amount.minor} if books.amount else None
    return {
        "authorised": books.authorised,
        "psp_reference": books.psp_reference,
        "amount": amount,
        "effective_at": books.effective_at,
    }
