"""refunds"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("payments", sa.Column("refunded_minor", sa.BigInteger(), server_default=sa.text("0"), nullable=False))
    _refunds()
    _journal()
    op.create_table(
        "refunds_elsewhere",
        sa.Column("payment_id", sa.Uuid(), nullable=False),
        sa.Column("psp_reference", sa.String(length=64), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("paid_back", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("effective_at", sa.String(length=40), nullable=True),
        sa.CheckConstraint("amount_minor > 0", name="refunds_elsewhere_amount"),
        sa.ForeignKeyConstraint(["payment_id"], ["payments.id"]),
        sa.PrimaryKeyConstraint("payment_id", "psp_reference"),
    )
    _commands_and_tellings()
    op.add_column("alarms", sa.Column("refund_id", sa.Uuid(), nullable=True))
    op.create_foreign_key(None, "alarms", "refunds", ["refund_id"], ["id"])
    for statement in _ONE_WAY:
        op.execute(statement)


def _refunds() -> None:
    op.create_table(
        "refunds",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("payment_id", sa.Uuid(), nullable=True),
        sa.Column("merchant_account", sa.String(length=80), nullable=False),
        sa.Column("idempotency_key", sa.String(length=255), nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("reference", sa.String(length=80), nullable=False),
        sa.Column("poi_id", sa.String(length=64), nullable=False),
        sa.Column("sale_id", sa.String(length=64), nullable=False),
        sa.Column("service_id", sa.String(length=10), nullable=False),
        sa.Column("transport", sa.String(length=8), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("send_by", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("callback_url", sa.String(length=500), nullable=True),
        sa.Column("asked_by", sa.String(length=120), nullable=False),
        sa.Column("needs_approval", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("approved_by", sa.String(length=120), nullable=True),
        sa.Column("state", sa.String(length=16), server_default="pending", nullable=False),
        sa.Column("outcome", sa.String(length=24), nullable=True),
        sa.Column("reason", sa.String(length=40), nullable=True),
        sa.Column("sequence", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("answer_by", sa.DateTime(timezone=True), nullable=True),
        sa.Column("concluded_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("reconciled_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("psp_reference", sa.String(length=64), nullable=True),
        sa.Column("refused_with", sa.String(length=200), nullable=True),
        sa.Column("not_found_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("checks", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("sentinel", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("books", postgresql.JSONB(), nullable=True),
        sa.Column("holds_terminal", sa.String(length=64), nullable=True),
        sa.Column("claim_token", sa.Uuid(), nullable=True),
        sa.Column("journal_hash", sa.String(length=64), nullable=False),
        *_REFUND_CHECKS,
        sa.ForeignKeyConstraint(["payment_id"], ["payments.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("number"),
        sa.UniqueConstraint("merchant_account", "idempotency_key", name="refunds_idempotency"),
        sa.UniqueConstraint("poi_id", "service_id", name="refunds_service_id"),
    )
    op.create_index(
        "refunds_terminal_holder",
        "refunds",
        ["holds_terminal"],
        unique=True,
        postgresql_where=sa.text("holds_terminal IS NOT NULL"),
    )
    op.create_index("refunds_payment", "refunds", ["payment_id", "number"])
    op.create_index("refunds_reference_of_merchant", "refunds", ["merchant_account", "reference"])
    op.create_index("refunds_newest", "refunds", ["merchant_account", "number"])
    op.create_index(
        "refunds_psp_reference",
        "refunds",
        ["psp_reference"],
        postgresql_where=sa.text("psp_reference IS NOT NULL"),
    )
    op.create_index(
        "refunds_open", "refunds", ["merchant_account", "number"], postgresql_where=sa.text("outcome IS NULL")
    )


_REFUND_CHECKS = (
    sa.CheckConstraint("state IN ('pending', 'unknown', 'confirmed', 'reconciled')", name="refunds_state"),
    sa.CheckConstraint(
        "outcome IN ('refunded', 'cancelled', 'declined', 'failed', 'reversed')", name="refunds_outcome"
    ),
    sa.CheckConstraint(
        "reason IN ('pending_approval', 'received', 'no_answer', 'expired', 'not_delivered', 'refused_by_platform',"
        " 'not_found', 'terminal_busy', 'terminal_unavailable', 'not_allowed', 'unknown_original', 'stopped', 'voided')",
        name="refunds_reason",
    ),
    sa.CheckConstraint("transport IN ('async', 'sync', 'local')", name="refunds_transport"),
    sa.CheckConstraint(
        "(outcome IS NOT NULL) = (state IN ('confirmed', 'reconciled'))", name="refunds_outcome_by_state"
    ),
    sa.CheckConstraint("(concluded_at IS NOT NULL) = (outcome IS NOT NULL)", name="refunds_concluded"),
    sa.CheckConstraint("(reconciled_at IS NOT NULL) = (state = 'reconciled')", name="refunds_reconciled"),
    sa.CheckConstraint("(answer_by IS NOT NULL) = (sent_at IS NOT NULL)", name="refunds_answer_by"),
    sa.CheckConstraint(
        "reason IS DISTINCT FROM 'pending_approval' OR (needs_approval AND approved_by IS NULL AND sent_at IS NULL)",
        name="refunds_pending_approval",
    ),
    sa.CheckConstraint("approved_by <> asked_by", name="refunds_two_people"),
    sa.CheckConstraint("NOT needs_approval OR payment_id IS NULL", name="refunds_approval_of_unreferenced"),
    sa.CheckConstraint(
        "holds_terminal IS NULL OR (holds_terminal = poi_id AND payment_id IS NULL AND state = 'pending')",
        name="refunds_holds_its_terminal",
    ),
    sa.CheckConstraint("amount_minor > 0", name="refunds_amount"),
    sa.CheckConstraint("currency ~ '^[A-Z]{3}$'", name="refunds_currency"),
    sa.CheckConstraint("reference ~ '^[ -9;-\\[\\]-~]{1,80}$'", name="refunds_reference"),
    sa.CheckConstraint("sequence >= 1", name="refunds_sequence"),
)


def _journal() -> None:
    op.create_table(
        "refund_journal",
        sa.Column("refund_id", sa.Uuid(), nullable=False),
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("evidence", sa.String(length=40), nullable=False),
        sa.Column("event", sa.String(length=40), nullable=False),
        sa.Column("before", sa.String(length=16), nullable=True),
        sa.Column("after", sa.String(length=16), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=True),
        sa.Column("detail_hash", sa.String(length=64), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(["refund_id"], ["refunds.id"]),
        sa.PrimaryKeyConstraint("refund_id", "sequence"),
    )
    op.create_index(
        "refund_journal_digest",
        "refund_journal",
        ["refund_id", "digest"],
        unique=True,
        postgresql_where=sa.text("digest IS NOT NULL"),
    )
    op.create_table(
        "refund_journal_details",
        sa.Column("refund_id", sa.Uuid(), nullable=False),
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("salt", sa.String(length=32), nullable=False),
        sa.Column("detail", postgresql.JSONB(), nullable=False),
        sa.PrimaryKeyConstraint("refund_id", "sequence"),
    )
    op.create_table(
        "refund_journal_repeats",
        sa.Column("refund_id", sa.Uuid(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("times", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("last_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["refund_id"], ["refunds.id"]),
        sa.PrimaryKeyConstraint("refund_id", "digest"),
    )


def _commands_and_tellings() -> None:
    for table in ("commands", "tellings"):
        op.add_column(table, sa.Column("refund_id", sa.Uuid(), nullable=True))
        op.create_foreign_key(None, table, "refunds", ["refund_id"], ["id"])
    op.create_unique_constraint("commands_one_of_a_kind_of_a_refund", "commands", ["refund_id", "kind"])
    op.drop_constraint("commands_purpose", "commands")
    op.create_check_constraint("commands_purpose", "commands", "num_nonnulls(payment_id, refund_id, telling_id) = 1")
    op.drop_constraint("commands_kind", "commands")
    op.create_check_constraint(
        "commands_kind",
        "commands",
        "kind IN ('send', 'expire', 'expect_answer', 'check_status', 'send_abort', 'tell_caller',"
        " 'send_refund', 'check_refund', 'expect_refund')",
    )
    op.create_unique_constraint("tellings_sequence_of_a_refund", "tellings", ["refund_id", "sequence"])
    op.drop_constraint("tellings_of_a_payment", "tellings")
    op.create_check_constraint(
        "tellings_subject", "tellings", "num_nonnulls(payment_id, refund_id) = num_nonnulls(sequence)"
    )


#: As for payments: a journal only grows, what was sent once is never sent again, and no refund disappears.
_ONE_WAY = (
    """
    CREATE TRIGGER refund_journal_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON refund_journal
    FOR EACH STATEMENT EXECUTE FUNCTION journal_is_append_only()
    """,
    """
    CREATE FUNCTION a_sent_refund_stays_sent() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN RAISE EXCEPTION 'refund % was sent once; it cannot be sent again', OLD.id; END $$
    """,
    """
    CREATE TRIGGER refunds_sent_once BEFORE UPDATE ON refunds FOR EACH ROW
    WHEN (OLD.sent_at IS NOT NULL AND NEW.sent_at IS DISTINCT FROM OLD.sent_at)
    EXECUTE FUNCTION a_sent_refund_stays_sent()
    """,
    """
    CREATE FUNCTION refunds_are_kept() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN RAISE EXCEPTION 'refunds are never deleted'; END $$
    """,
    """
    CREATE TRIGGER refunds_kept BEFORE DELETE OR TRUNCATE ON refunds
    FOR EACH STATEMENT EXECUTE FUNCTION refunds_are_kept()
    """,
)


def downgrade() -> None:
    message = "what was recorded is not thrown away"
    raise NotImplementedError(message)
