"""What the shell asks of the database, by name."""

from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from psycopg.types.json import Jsonb

from orchestrator.decide import Decision
from orchestrator.errors import ConcurrentUpdate, NotFound
from orchestrator.evidence import Evidence, SendStarted
from orchestrator.meaning import Alarm
from orchestrator.store import statements
from orchestrator.store.database import Conflict, Database
from orchestrator.store.receipts import KEEP
from orchestrator.store.rows import (
    Loaded,
    Ring,
    Row,
    detail_parameters,
    loaded_of,
    record_parameters,
    ring_of,
)
from orchestrator.subscription import REJECTED, USUAL, Subscription

#: Whoever commits a due command rings it at once; the sweep rings again when it is still there after this.
RING_AFTER_COMMIT_S: Final = 5.0

#: And again after this, as long as it is not done.
RING_AGAIN_S: Final = 30.0

#: Most commands that one sweep rings.
SWEEP_LIMIT: Final = 500


class Repeated(Exception):
    """This evidence was recorded before; it was counted."""


class Store:
    """The hot path: accept, claim, load, record, ring."""

    def __init__(self, database: Database, subscription: Subscription = USUAL) -> None:
        self.database = database
        self.subscription = subscription

    def accept(self, parameters: dict[str, Any]) -> Row:
        """Insert a submission under its sale's lock; the row says what became of it.

        Raises:
            Conflict: two submissions met on the idempotency key or on the ServiceID; decide again.
        """
        parameters = {**parameters, "options": Jsonb(parameters["options"]), "ring_again_s": RING_AFTER_COMMIT_S}
        row = self.database.last_of([(statements.LOCK_SALE, parameters), (statements.ACCEPT, parameters)])
        return row or {}

    def claim(self, command_id: int, token: UUID, window_s: float) -> Loaded | None:
        """Take the one-way step before the first byte; None when this command may not send, now or ever."""
        parameters = {
            "command_id": command_id,
            "token": token,
            "window_s": window_s,
            **detail_parameters(SendStarted()),
        }
        try:
            row = self.database.one(statements.CLAIM, parameters)
        except Conflict:  # two claims met on the terminal: the other one holds it
            return None
        return loaded_of(row) if row else None

    def claimed_with(self, token: UUID) -> Loaded | None:
        """Find out whether a claim whose commit was in doubt took place."""
        row = self.database.one(statements.CLAIMED_WITH, {"token": token})
        return loaded_of(row) if row else None

    def park_send(self, command_id: int, look_again_s: float) -> None:
        """Let a send wait for its turn."""
        self.database.run(statements.PARK_SEND, {"command_id": command_id, "look_again_s": look_again_s})

    def load(self, payment_id: UUID) -> Loaded | None:
        """Read a payment."""
        row = self.database.one(statements.LOAD, {"id": payment_id})
        return loaded_of(row) if row else None

    def load_by_service_id(self, poi_id: str, service_id: str) -> Loaded | None:
        """Read the payment that a terminal's message names."""
        row = self.database.one(statements.LOAD_BY_SERVICE_ID, {"poi_id": poi_id, "service_id": service_id})
        return loaded_of(row) if row else None

    def load_for(self, command_id: int) -> Loaded | None:
        """Read the payment of a command that is due; None when the command was done, or is not due."""
        row = self.database.one(statements.LOAD_FOR_COMMAND, {"command_id": command_id})
        return loaded_of(row) if row and row["is_due"] else None

    def record(
        self,
        decision: Decision,
        evidence: Evidence,
        loaded: Loaded,
        done: Loaded | None,
        done_id: int | None,
        *,
        receipts: Sequence[Mapping[str, Any]] = (),
    ) -> list[Ring]:
        """Write a decision, and the receipts that came with it; return what is to be rung.

        Raises:
            ConcurrentUpdate: somebody moved the row first.
            Repeated: this very evidence is in the journal already.
        """
        parameters = record_parameters(decision, evidence, loaded, done, done_id, subscription=self.subscription)
        parameters["ring_again_s"] = RING_AFTER_COMMIT_S
        try:
            if receipts:
                kept = {**parameters, "receipts": Jsonb(receipts)}
                rows = self.database.first_of([(statements.RECORD, parameters), (KEEP, kept)])
            else:
                rows = self.database.all(statements.RECORD, parameters)
        except Conflict as conflict:
            if conflict.constraint != "journal_digest":
                raise ConcurrentUpdate from None
            self.database.run(statements.COUNT_REPEAT, parameters)
            raise Repeated from None
        if not rows:
            raise ConcurrentUpdate
        return [ring_of(row) for row in rows if row["command_id"] is not None]

    def ring_due(self) -> Sequence[Ring]:
        """Take what is due and was not done; two sweeps never take the same."""
        parameters = {"ring_again_s": RING_AGAIN_S, "limit": SWEEP_LIMIT}
        return [ring_of(row) for row in self.database.all(statements.RING_DUE, parameters)]

    def put_off(self, command_id: int, retry_s: float) -> int:
        """Let a command whose performing failed wait; return how often it has failed."""
        row = self.database.one(statements.PUT_OFF, {"command_id": command_id, "retry_s": retry_s})
        return int(row["attempts"]) if row else 0

    def raise_alarm(self, command_id: int, alarm: Alarm) -> None:
        """Tell a person about a command that keeps failing."""
        self.database.run(statements.RAISE_ALARM, {"command_id": command_id, "name": alarm.value})

    def row(self, payment_id: UUID) -> Row:
        """Read a payment's row as it is shown.

        Raises:
            NotFound: there is no such payment.
        """
        row = self.database.one(statements.LOAD, {"id": payment_id})
        if row is None:
            raise NotFound
        return row

    def keep_stray(
        self,
        *,
        digest: str,
        why: str,
        poi_id: str | None,
        sale_id: str | None,
        service_id: str | None,
        payment_id: UUID | None = None,
    ) -> None:
        """Keep the header of a message that we could not place."""
        parameters = {
            "digest": digest, "why": why, "poi_id": poi_id and poi_id[:64], "sale_id": sale_id and sale_id[:64],
            "service_id": service_id and service_id[:64],
            "payment_id": payment_id,
        }  # fmt: skip
        self.database.run(statements.KEEP_STRAY, parameters)

    def tag_keys(self) -> list[bytes]:
        """The keys that our tags may have been signed with, newest first."""
        return [bytes(row["key"]) for row in self.database.all(statements.TAG_KEYS, {})]

    def keep_rejection(self, **rejection: Any) -> tuple[Row, list[Ring]]:
        """Keep a refusal of a submission that came by task; what is to be rung where its caller is told."""
        if not self.subscription.wants(REJECTED):
            rejection["callback_url"] = None
        row = self.database.one(statements.KEEP_REJECTION, {**rejection, "ring_again_s": RING_AFTER_COMMIT_S}) or {}
        return row, [ring_of(row)] if row["command_id"] else []

    def schema_revision(self) -> str | None:
        """Name the schema's revision."""
        row = self.database.one("SELECT version_num FROM alembic_version", {})
        return row["version_num"] if row else None
