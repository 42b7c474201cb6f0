"""Refunds in the database: accept, claim, load, record, find."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.types.json import Json, Jsonb

from orchestrator.commands import CommandKind
from orchestrator.errors import ConcurrentUpdate
from orchestrator.evidence import Evidence, SendStarted, kind_of
from orchestrator.model import Money, State, Transport
from orchestrator.refunds.decide import RefundDecision
from orchestrator.refunds.model import Refund, RefundBooks, RefundOutcome, RefundReason, RefundStage
from orchestrator.store import refund_statements as statements
from orchestrator.store.database import Conflict, Database
from orchestrator.store.rows import Ring, Route, Row, detail_parameters, ring_of
from orchestrator.store.store import RING_AFTER_COMMIT_S, Repeated
from orchestrator.subscription import USUAL, Subscription
from orchestrator.views import refund_json


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedRefund:
    """A refund as read at ``read_at`` (the database's clock), with what a request to its terminal needs."""

    refund: Refund
    read_at: datetime
    send_by: datetime
    route: Route
    command: CommandKind | None = None
    command_due_at: datetime | None = None
    row: Row = field(repr=False)


@dataclass(frozen=True, slots=True)
class Original:
    """How a reversal names the payment, verbatim. ``whole``: the refund is all of it, and the first."""

    transaction_id: str
    transaction_at: str
    whole: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RefundFilter:
    """What a list of refunds is narrowed to; None does not narrow. The names are columns."""

    merchant_account: str | None = None
    reference: str | None = None
    poi_id: str | None = None
    state: str | None = None
    outcome: str | None = None
    psp_reference: str | None = None
    payment_id: UUID | None = None


def refund_of(row: Row) -> Refund:
    """Read a row of ``refunds``."""
    books = row["books"]
    return Refund(
        id=row["id"],
        payment_id=row["payment_id"],
        reference=row["reference"],
        merchant_account=row["merchant_account"],
        poi_id=row["poi_id"],
        sale_id=row["sale_id"],
        service_id=row["service_id"],
        amount=Money(row["currency"], row["amount_minor"]),
        transport=Transport(row["transport"]),
        sequence=row["sequence"],
        state=State(row["state"]),
        outcome=RefundOutcome(row["outcome"]) if row["outcome"] else None,
        reason=RefundReason(row["reason"]) if row["reason"] else None,
        sent_at=row["sent_at"],
        concluded_at=row["concluded_at"],
        reconciled_at=row["reconciled_at"],
        psp_reference=row["psp_reference"],
        approved_by=row["approved_by"],
        refused_with=row["refused_with"],
        not_found_at=row["not_found_at"],
        checks=row["checks"],
        sentinel=row["sentinel"],
        books=RefundBooks(**books) if books else None,
    )


@dataclass(frozen=True, slots=True)
class RefundStore:
    """What the shell asks of the database about refunds."""

    database: Database
    subscription: Subscription = USUAL

    def accept(self, parameters: Mapping[str, Any]) -> Row:
        """Insert a refund under its payment's lock; the row says what became of it.

        Raises:
            Conflict: two submissions met on the idempotency key or on the ServiceID; decide again.
        """
        values = {**parameters, "ring_again_s": RING_AFTER_COMMIT_S}
        return self.database.last_of([(statements.LOCK_PAYMENT, values), (statements.ACCEPT, values)]) or {}

    def original(self, refund_id: UUID) -> Original | None:
        """Read how the payment of a refund is named to a terminal; None while nobody has told."""
        row = self.database.one(statements.ORIGINAL, {"id": refund_id})
        if row is None or row["poi_transaction_id"] is None or row["poi_transaction_at"] is None:
            return None
        return Original(row["poi_transaction_id"], row["poi_transaction_at"], row["whole"])

    def take_terminal(self, command_id: int) -> bool:
        """Take the terminal for an unreferenced refund; false while it is a payment's, or another refund's."""
        try:
            return self.database.run(statements.TAKE_TERMINAL, {"command_id": command_id}) > 0
        except Conflict:
            return False

    def give_terminal_back(self, command_id: int) -> list[Ring]:
        """Give it back unused; return the payment that is to be rung."""
        values = {"command_id": command_id, "ring_again_s": RING_AFTER_COMMIT_S}
        return [ring_of(row) for row in self.database.all(statements.GIVE_TERMINAL_BACK, values)]

    def claim(self, command_id: int, token: UUID, window_s: float) -> LoadedRefund | None:
        """Take the one-way step before the first byte; None when this command may not send, now or ever."""
        values = {"command_id": command_id, "token": token, "window_s": window_s, **detail_parameters(SendStarted())}
        row = self.database.one(statements.CLAIM, values)
        return _loaded(row) if row else None

    def claimed_with(self, token: UUID) -> LoadedRefund | None:
        """Find out whether a claim whose commit was in doubt took place."""
        row = self.database.one(statements.CLAIMED_WITH, {"token": token})
        return _loaded(row) if row else None

    def park(self, command_id: int, look_again_s: float) -> None:
        """Let a send wait for its turn."""
        self.database.run(statements.PARK, {"command_id": command_id, "look_again_s": look_again_s})

    def load(self, refund_id: UUID) -> LoadedRefund | None:
        """Read a refund."""
        row = self.database.one(statements.LOAD, {"id": refund_id})
        return _loaded(row) if row else None

    def load_for(self, command_id: int) -> LoadedRefund | None:
        """Read the refund of a command that is due; None when the command was done, or is not due."""
        row = self.database.one(statements.LOAD_FOR_COMMAND, {"command_id": command_id})
        return _loaded(row) if row and row["is_due"] else None

    def record(
        self,
        decision: RefundDecision,
        evidence: Evidence,
        loaded: LoadedRefund,
        done: LoadedRefund | None,
        done_id: int | None,
    ) -> list[Ring]:
        """Write a decision; return what is to be rung.

        Raises:
            ConcurrentUpdate: somebody moved the row first.
            Repeated: this very evidence is in the journal already.
        """
        values = _record_parameters(decision, evidence, loaded, self.subscription)
        values |= {"done_id": done_id, "done_due_at": done.command_due_at if done else None}
        try:
            rows = self.database.all(statements.RECORD, values)
        except Conflict as conflict:
            if conflict.constraint != "refund_journal_digest":
                raise ConcurrentUpdate from None
            self.database.run(statements.COUNT_REPEAT, values)
            raise Repeated from None
        if not rows:
            raise ConcurrentUpdate
        return [ring_of(row) for row in rows if row["command_id"] is not None]

    def find(
        self,
        merchant_account: str,
        *,
        psp_reference: str | None = None,
        reference: str | None = None,
        original_psp: str | None = None,
        amount: Money | None = None,
    ) -> list[UUID]:
        """Return the refunds that an entry in the books can mean: none was made elsewhere, several are a difference.

        ``psp_reference`` is the modification's own, ``reference`` what it names as the merchant's, ``original_psp`` the
        PSP reference of the payment.
        """
        values = {
            "merchant_account": merchant_account, "psp_reference": psp_reference, "reference": reference,
            "original_psp": original_psp, "currency": amount and amount.currency,
            "amount_minor": amount and amount.minor,
        }  # fmt: skip
        return [row["id"] for row in self.database.all(statements.FIND, values)]

    def made_elsewhere(
        self,
        payment_id: UUID,
        psp_reference: str,
        amount_minor: int,
        *,
        paid_back: bool = True,
        effective_at: str | None = None,
    ) -> None:
        """Keep that a payment was paid back without us, or that this failed later: it changes what is left to refund.

        Safe to repeat; ``psp_reference`` is the modification's own, ``effective_at`` as ``views.instant`` spells it.
        """
        values = {
            "payment_id": payment_id, "psp_reference": psp_reference, "amount_minor": amount_minor,
            "paid_back": paid_back, "effective_at": effective_at,
        }  # fmt: skip
        self.database.last_of([(statements.LOCK_PAYMENT, values), (statements.MADE_ELSEWHERE, values)])

    def row(self, refund_id: UUID) -> Row | None:
        """Read a refund's row as it is shown."""
        return self.database.one(statements.LOAD, {"id": refund_id})

    def of_payment(self, payment_id: UUID) -> list[dict[str, Any]]:
        """Read the refunds of a payment, oldest first."""
        return self.database.all(statements.OF_PAYMENT, {"payment_id": payment_id})

    def many(self, narrowed: RefundFilter, before_number: int | None, limit: int) -> list[dict[str, Any]]:
        """Read refunds, newest first, older than ``before_number``."""
        values = {
            name: value for name in RefundFilter.__slots__ if (value := getattr(narrowed, name)) is not None
        }  # fmt: skip
        conditions = [f"{name} = %({name})s" for name in values]
        if before_number is not None:
            conditions.append("number < %(before_number)s")
        where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
        query = f"SELECT * FROM refunds {where} ORDER BY number DESC LIMIT %(limit)s"
        return self.database.all(query, {**values, "before_number": before_number, "limit": limit})

    def journal(self, refund_id: UUID, after: int, limit: int) -> Sequence[Row]:
        """Read journal lines in ascending order, with what they rest on where retention has kept it."""
        return self.database.all(statements.JOURNAL, {"id": refund_id, "after": after, "limit": limit})


def _loaded(row: Row) -> LoadedRefund:
    reassigned_at = row.get("reassigned_at")
    return LoadedRefund(
        refund=refund_of(row),
        read_at=row["read_at"],
        send_by=row["send_by"],
        route=Route(
            region=row.get("region"),
            cloud_api=row.get("cloud_api"),
            address=row.get("address"),
            store=row.get("store"),
            reassigned=reassigned_at is not None and row["sent_at"] is not None and reassigned_at > row["sent_at"],
        ),
        command=CommandKind(row["command_kind"]) if row.get("command_kind") else None,
        command_due_at=row.get("command_due_at"),
        row=row,
    )


def _record_parameters(
    decision: RefundDecision, evidence: Evidence, loaded: LoadedRefund, subscription: Subscription
) -> dict[str, Any]:
    before, after = decision.before, decision.after
    books = after.books
    values = {
        **_shown_of(after),
        "id": after.id,
        "expected_sequence": before.sequence,
        "at": loaded.read_at,
        "evidence": kind_of(evidence),
        "event": decision.event.value,
        "before": before.state.value,
        "digest": evidence.digest,
        "refused_with": after.refused_with,
        "not_found_at": after.not_found_at,
        "checks": after.checks,
        "sentinel": after.sentinel,
        "books": Jsonb({name: getattr(books, name) for name in RefundBooks.__slots__}) if books else None,
        "holds": after.stage in {RefundStage.QUEUED, RefundStage.SENT},
        "frees": after.payment_id is None and after.stage not in {RefundStage.QUEUED, RefundStage.SENT},
        "paid_back_minor": decision.paid_back_minor,
        "obsolete": [kind.value for kind in decision.obsolete],
        "kinds": [plan.kind.value for plan in decision.commands],
        "waits": [plan.after_s for plan in decision.commands],
        "alarm": decision.alarm and decision.alarm.value,
        "ring_again_s": RING_AFTER_COMMIT_S,
        **detail_parameters(evidence),
    }
    return values | _telling(decision, loaded, subscription)


def _shown_of(after: Refund) -> dict[str, Any]:
    """What is shown of a refund and a decision may move, by the names of its columns."""
    return {
        "sequence": after.sequence,
        "state": after.state.value,
        "outcome": after.outcome and after.outcome.value,
        "reason": after.reason and after.reason.value,
        "sent_at": after.sent_at,
        "concluded_at": after.concluded_at,
        "reconciled_at": after.reconciled_at,
        "psp_reference": after.psp_reference,
        "approved_by": after.approved_by,
    }


def shown_after(decision: RefundDecision, loaded: LoadedRefund) -> dict[str, Any]:
    """Show the refund as it is after a decision."""
    moved = _shown_of(decision.after)
    return refund_json({**loaded.row, **moved, "answer_by": loaded.row["answer_by"] or moved["sent_at"]})


def _telling(decision: RefundDecision, loaded: LoadedRefund, subscription: Subscription) -> dict[str, Any]:
    """What the caller is told of a decision; nothing where nobody listens."""
    before, after = decision.before, decision.after
    told = f"refund.{after.state.value}"
    agreed = after.state is State.RECONCILED and before.outcome is after.outcome
    if loaded.row["callback_url"] is None or not decision.told or not subscription.wants(told, agreed=agreed):
        return {"told": None, "told_data": None}
    return {"told": told, "told_data": Json(shown_after(decision, loaded))}
