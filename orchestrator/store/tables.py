"""The tables. SQLModel defines them; the hot path reads and writes them with the plain statements of ``statements``.

What code might forget, the schema enforces here and in the triggers of the first migration. A constraint may refuse
intake and claims, never what ``record`` learned. Those of terminals are in ``tables_terminals``.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    String,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel

from orchestrator.commands import CommandKind
from orchestrator.model import CHARGED_OUTCOMES, Outcome, Reason, State, Transport
from orchestrator.store.columns import flag, instant, is_one_of, short_text
from orchestrator.store.words import COUNTED_LINES


class PaymentRow(SQLModel, table=True):
    """One payment: what was asked, and what we believe."""

    __tablename__ = "payments"
    __table_args__ = (
        UniqueConstraint("merchant_account", "idempotency_key", name="payments_idempotency"),
        UniqueConstraint("poi_id", "service_id", name="payments_service_id"),
        CheckConstraint(is_one_of("state", State), name="payments_state"),
        CheckConstraint(is_one_of("outcome", Outcome), name="payments_outcome"),
        CheckConstraint(is_one_of("reason", Reason), name="payments_reason"),
        CheckConstraint(is_one_of("transport", Transport), name="payments_transport"),
        CheckConstraint(
            "(outcome IS NOT NULL) = (state IN ('confirmed', 'reconciled'))", name="payments_outcome_by_state"
        ),
        CheckConstraint("(concluded_at IS NOT NULL) = (outcome IS NOT NULL)", name="payments_concluded"),
        CheckConstraint("(reconciled_at IS NOT NULL) = (state = 'reconciled')", name="payments_reconciled"),
        CheckConstraint(
            f"(authorised_minor IS NOT NULL) = coalesce({is_one_of('outcome', CHARGED_OUTCOMES)}, false)",
            name="payments_authorised",
        ),
        CheckConstraint("(answer_by IS NOT NULL) = (sent_at IS NOT NULL)", name="payments_answer_by"),
        CheckConstraint(
            "holds_terminal IS NULL OR (holds_terminal = poi_id AND state = 'pending' AND sent_at IS NOT NULL)",
            name="payments_holds_its_terminal",
        ),
        CheckConstraint("amount_minor > 0", name="payments_amount"),
        CheckConstraint("currency ~ '^[A-Z]{3}$'", name="payments_currency"),
        CheckConstraint(r"reference ~ '^[ -9;-\[\]-~]{1,80}$'", name="payments_reference"),
        CheckConstraint("(override_by IS NULL) = (override_reason IS NULL)", name="payments_override"),
        CheckConstraint("sequence >= 1", name="payments_sequence"),
        Index(
            "payments_terminal_holder",
            "holds_terminal",
            unique=True,
            postgresql_where=text("holds_terminal IS NOT NULL"),
        ),
        Index(
            "payments_queue",
            "poi_id",
            "number",
            postgresql_where=text("state = 'pending' AND sent_at IS NULL"),
        ),
        Index("payments_unknown", "poi_id", "number", postgresql_where=text("state = 'unknown'")),
        Index(
            "payments_reference",
            "merchant_account",
            "reference",
            "number",
            postgresql_ops={"reference": "varchar_pattern_ops"},
        ),
        Index(
            "payments_sale_reference",
            "merchant_account",
            text("(options ->> 'sale_reference_id')"),
            "number",
            postgresql_where=text("options ->> 'sale_reference_id' IS NOT NULL"),
        ),
        Index("payments_newest", "merchant_account", "number"),
        Index("payments_psp_reference", "psp_reference", postgresql_where=text("psp_reference IS NOT NULL")),
        Index("payments_terminal_newest", "poi_id", "number"),
        Index(
            "payments_last4",
            "merchant_account",
            text("(result ->> 'card_last4')"),
            "number",
            postgresql_where=text("result ->> 'card_last4' IS NOT NULL"),
        ),
        Index("payments_tender_reference", "tender_reference", postgresql_where=text("tender_reference IS NOT NULL")),
        Index(
            "payments_doubtful",
            "merchant_account",
            "number",
            postgresql_where=text("state = 'unknown' OR (state = 'confirmed' AND (late OR provisional))"),
        ),
    )

    id: UUID = Field(sa_column=Column(Uuid, primary_key=True))
    number: int = Field(sa_column=Column(BigInteger, Identity(always=True), unique=True, nullable=False))
    merchant_account: str = Field(sa_column=short_text(80))
    idempotency_key: str = Field(sa_column=short_text(255))
    fingerprint: str = Field(sa_column=short_text(64))
    reference: str = Field(sa_column=short_text(80))
    poi_id: str = Field(sa_column=short_text(64))
    sale_id: str = Field(sa_column=short_text(64))
    service_id: str = Field(sa_column=short_text(10))
    transport: str = Field(sa_column=short_text(8))
    currency: str = Field(sa_column=short_text(3))
    amount_minor: int = Field(sa_column=Column(BigInteger, nullable=False))
    send_by: datetime = Field(sa_column=instant(nullable=False))
    created_at: datetime = Field(sa_column=instant(nullable=False, default=True))
    options: dict[str, Any] = Field(sa_column=Column(JSONB, nullable=False, server_default=text("'{}'")))
    callback_url: str | None = Field(sa_column=short_text(500, nullable=True))
    override_by: str | None = Field(sa_column=short_text(120, nullable=True))
    override_reason: str | None = Field(sa_column=short_text(500, nullable=True))
    state: str = Field(sa_column=short_text(16, default=State.PENDING))
    outcome: str | None = Field(sa_column=short_text(24, nullable=True))
    reason: str | None = Field(sa_column=short_text(40, nullable=True))
    sequence: int = Field(sa_column=Column(Integer, nullable=False, server_default=text("1")))
    sent_at: datetime | None = Field(sa_column=instant())
    answer_by: datetime | None = Field(sa_column=instant())
    concluded_at: datetime | None = Field(sa_column=instant())
    reconciled_at: datetime | None = Field(sa_column=instant())
    authorised_minor: int | None = Field(sa_column=Column(BigInteger))
    psp_reference: str | None = Field(sa_column=short_text(64, nullable=True))
    tender_reference: str | None = Field(sa_column=short_text(64, nullable=True))
    late: bool = Field(sa_column=flag())
    provisional: bool = Field(sa_column=flag())
    abort_asked: bool = Field(sa_column=flag())
    refused_with: str | None = Field(sa_column=short_text(200, nullable=True))
    not_found_at: datetime | None = Field(sa_column=instant())
    checked_at: datetime | None = Field(sa_column=instant())
    checks: int = Field(sa_column=Column(Integer, nullable=False, server_default=text("0")))
    asked_since_unknown: bool = Field(sa_column=flag())
    sentinel: bool = Field(sa_column=flag())
    books: dict[str, Any] | None = Field(sa_column=Column(JSONB))
    result: dict[str, Any] | None = Field(sa_column=Column(JSONB))
    refunded_minor: int = Field(sa_column=Column(BigInteger, nullable=False, server_default=text("0")))
    holds_terminal: str | None = Field(sa_column=short_text(64, nullable=True))
    claim_token: UUID | None = Field(sa_column=Column(Uuid))
    trace: str | None = Field(sa_column=short_text(55, nullable=True))  # where it began: a W3C traceparent
    journal_hash: str = Field(sa_column=short_text(64))


class JournalLine(SQLModel, table=True):
    """Why the row says what it says. Append-only; each line's hash covers the one before it."""

    __tablename__ = "journal"
    __table_args__ = (
        Index("journal_digest", "payment_id", "digest", unique=True, postgresql_where=text("digest IS NOT NULL")),
        Index("journal_counted", "number", postgresql_where=text(COUNTED_LINES)),
    )

    payment_id: UUID = Field(sa_column=Column(Uuid, ForeignKey("payments.id"), primary_key=True))
    sequence: int = Field(sa_column=Column(Integer, primary_key=True))
    at: datetime = Field(sa_column=instant(nullable=False))
    evidence: str = Field(sa_column=short_text(40))
    event: str = Field(sa_column=short_text(40))
    before: str | None = Field(sa_column=short_text(16, nullable=True))
    after: str = Field(sa_column=short_text(16))
    digest: str | None = Field(sa_column=short_text(64, nullable=True))
    detail_hash: str = Field(sa_column=short_text(64))
    hash: str = Field(sa_column=short_text(64))
    number: int | None = Field(sa_column=Column(BigInteger, server_default=text("nextval('journal_number')")))


class JournalDetail(SQLModel, table=True):
    """What a line rests on; in a table of its own, so that retention may empty it while the proof stays."""

    __tablename__ = "journal_details"

    payment_id: UUID = Field(sa_column=Column(Uuid, primary_key=True))
    sequence: int = Field(sa_column=Column(Integer, primary_key=True))
    salt: str = Field(sa_column=short_text(32))
    detail: dict[str, Any] = Field(sa_column=Column(JSONB, nullable=False))


class Repeat(SQLModel, table=True):
    """Evidence that reached us again: counted, not journalled."""

    __tablename__ = "journal_repeats"

    payment_id: UUID = Field(sa_column=Column(Uuid, ForeignKey("payments.id"), primary_key=True))
    digest: str = Field(sa_column=Column(String(64), primary_key=True))
    times: int = Field(sa_column=Column(Integer, nullable=False, server_default=text("1")))
    last_at: datetime = Field(sa_column=instant(nullable=False, default=True))


class CommandRow(SQLModel, table=True):
    """Something that we must do. A row that is gone was done; at most one of a kind is open for a payment or refund.

    A telling that belongs to neither is named itself.
    """

    __tablename__ = "commands"
    __table_args__ = (
        UniqueConstraint("payment_id", "kind", name="commands_one_of_a_kind"),
        UniqueConstraint("refund_id", "kind", name="commands_one_of_a_kind_of_a_refund"),
        CheckConstraint(is_one_of("kind", CommandKind), name="commands_kind"),
        CheckConstraint("num_nonnulls(payment_id, refund_id, telling_id) = 1", name="commands_purpose"),
        Index("commands_ring_at", "ring_at"),
    )

    id: int = Field(sa_column=Column(BigInteger, Identity(always=True), primary_key=True))
    payment_id: UUID | None = Field(sa_column=Column(Uuid, ForeignKey("payments.id")))
    refund_id: UUID | None = Field(sa_column=Column(Uuid, ForeignKey("refunds.id")))
    telling_id: UUID | None = Field(sa_column=Column(Uuid, ForeignKey("tellings.id")))
    kind: str = Field(sa_column=short_text(16))
    due_at: datetime = Field(sa_column=instant(nullable=False))
    ring_at: datetime = Field(sa_column=instant(nullable=False))
    attempts: int = Field(sa_column=Column(Integer, nullable=False, server_default=text("0")))


class TellingRow(SQLModel, table=True):
    """An event that a caller is to be told, as it was when it happened. Its id is the same on every attempt."""

    __tablename__ = "tellings"
    __table_args__ = (
        UniqueConstraint("payment_id", "sequence", name="tellings_sequence"),
        UniqueConstraint("refund_id", "sequence", name="tellings_sequence_of_a_refund"),
        CheckConstraint("num_nonnulls(payment_id, refund_id) = num_nonnulls(sequence)", name="tellings_subject"),
        CheckConstraint("delivered_at IS NULL OR parked_at IS NULL", name="tellings_end"),
        Index(
            "tellings_head",
            "payment_id",
            "sequence",
            postgresql_where=text("delivered_at IS NULL AND parked_at IS NULL"),
        ),
        Index("tellings_newest", "merchant_account", "number"),
        Index(
            "tellings_of_neither",
            "delivered_at",
            postgresql_where=text("payment_id IS NULL AND refund_id IS NULL"),
        ),
        Index("tellings_parked", "merchant_account", "number", postgresql_where=text("parked_at IS NOT NULL")),
        Index(
            "tellings_waiting",
            "merchant_account",
            "number",
            postgresql_where=text("delivered_at IS NULL AND parked_at IS NULL"),
        ),
        Index("tellings_type", "merchant_account", "type", "number"),
    )

    id: UUID = Field(sa_column=Column(Uuid, primary_key=True, server_default=text("gen_random_uuid()")))
    number: int = Field(sa_column=Column(BigInteger, Identity(always=True), unique=True, nullable=False))
    payment_id: UUID | None = Field(sa_column=Column(Uuid, ForeignKey("payments.id")))
    refund_id: UUID | None = Field(sa_column=Column(Uuid, ForeignKey("refunds.id")))
    merchant_account: str = Field(sa_column=short_text(80))
    sequence: int | None = Field(sa_column=Column(Integer))
    type: str = Field(sa_column=short_text(40))
    at: datetime = Field(sa_column=instant(nullable=False))
    url: str = Field(sa_column=short_text(500))
    data: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))
    attempts: int = Field(sa_column=Column(Integer, nullable=False, server_default=text("0")))
    next_at: datetime = Field(sa_column=instant(nullable=False, default=True))
    delivered_at: datetime | None = Field(sa_column=instant())
    parked_at: datetime | None = Field(sa_column=instant())
    last_status: int | None = Field(sa_column=Column(Integer))
    last_error: str | None = Field(sa_column=short_text(40, nullable=True))


class AlarmRow(SQLModel, table=True):
    """Something that a person has to look at."""

    __tablename__ = "alarms"
    __table_args__ = (
        Index("alarms_open", "at", postgresql_where=text("closed_at IS NULL")),
        Index("alarms_payment", "payment_id"),
        Index("alarms_refund", "refund_id", postgresql_where=text("refund_id IS NOT NULL")),
    )

    id: int = Field(sa_column=Column(BigInteger, Identity(always=True), primary_key=True))
    payment_id: UUID | None = Field(sa_column=Column(Uuid, ForeignKey("payments.id")))
    refund_id: UUID | None = Field(sa_column=Column(Uuid, ForeignKey("refunds.id")))
    poi_id: str | None = Field(sa_column=short_text(64, nullable=True))  # of an alarm about a terminal
    name: str = Field(sa_column=short_text(40))
    sequence: int | None = Field(sa_column=Column(Integer))
    at: datetime = Field(sa_column=instant(nullable=False, default=True))
    closed_at: datetime | None = Field(sa_column=instant())
    closed_by: str | None = Field(sa_column=short_text(120, nullable=True))  # null: closed by what mended its cause
    closed_reason: str | None = Field(sa_column=short_text(500, nullable=True))


class ApiKeyRow(SQLModel, table=True):
    """An API key, by the SHA-256 of its 256 random bits."""

    __tablename__ = "api_keys"
    __table_args__ = (
        CheckConstraint("role IN ('viewer', 'submit', 'operate', 'finance', 'admin')", name="api_keys_role"),
    )

    id: UUID = Field(sa_column=Column(Uuid, primary_key=True))
    key_hash: str = Field(sa_column=Column(String(64), nullable=False, unique=True))
    merchant_account: str = Field(sa_column=short_text(80))
    role: str = Field(sa_column=short_text(16))
    created_by: str = Field(sa_column=short_text(120))
    created_at: datetime = Field(sa_column=instant(nullable=False, default=True))
    revoked_at: datetime | None = Field(sa_column=instant())


class RejectionRow(SQLModel, table=True):
    """A refused submission that came by task: kept 30 days, and does not consume its idempotency key."""

    __tablename__ = "rejections"
    __table_args__ = (Index("rejections_merchant", "merchant_account", "id"),)

    id: int = Field(sa_column=Column(BigInteger, Identity(always=True), primary_key=True))
    merchant_account: str = Field(sa_column=short_text(80))
    idempotency_key: str = Field(sa_column=short_text(255))
    reference: str = Field(sa_column=short_text(80))
    problem: str = Field(sa_column=short_text(40))
    field: str | None = Field(sa_column=short_text(80, nullable=True))
    detail: str = Field(sa_column=short_text(500))
    payment_id: UUID | None = Field(sa_column=Column(Uuid))
    at: datetime = Field(sa_column=instant(nullable=False, default=True))


class StrayRow(SQLModel, table=True):
    """A message that we could not place, or not process: its header alone, never its body."""

    __tablename__ = "strays"

    digest: str = Field(sa_column=Column(String(64), primary_key=True))
    why: str = Field(sa_column=short_text(80))
    poi_id: str | None = Field(sa_column=short_text(64, nullable=True))
    sale_id: str | None = Field(sa_column=short_text(64, nullable=True))
    service_id: str | None = Field(sa_column=short_text(64, nullable=True))
    times: int = Field(sa_column=Column(Integer, nullable=False, server_default=text("1")))
    first_at: datetime = Field(sa_column=instant(nullable=False, default=True))
    last_at: datetime = Field(sa_column=instant(nullable=False, default=True))


class TagKeyRow(SQLModel, table=True):
    """A key for the tag that our payment requests carry; the newest signs, all verify."""

    __tablename__ = "tag_keys"

    id: int = Field(sa_column=Column(BigInteger, Identity(always=True), primary_key=True))
    key: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    created_at: datetime = Field(sa_column=instant(nullable=False, default=True))
    dropped_at: datetime | None = Field(sa_column=instant())
