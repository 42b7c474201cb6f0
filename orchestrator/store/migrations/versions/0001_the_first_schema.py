"""the first schema"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "api_keys",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("key_hash", sa.String(length=64), nullable=False),
        sa.Column("merchant_account", sa.String(length=80), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("created_by", sa.String(length=120), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("role IN ('viewer', 'submit', 'operate', 'finance', 'admin')", name="api_keys_role"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("key_hash"),
    )
    op.create_table(
        "journal_details",
        sa.Column("payment_id", sa.Uuid(), nullable=False),
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("salt", sa.String(length=32), nullable=False),
        sa.Column("detail", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.PrimaryKeyConstraint("payment_id", "sequence"),
    )
    op.create_table(
        "payments",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.BigInteger(), sa.Identity(always=True), nullable=False),
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
        sa.Column("options", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("callback_url", sa.String(length=500), nullable=True),
        sa.Column("override_by", sa.String(length=120), nullable=True),
        sa.Column("override_reason", sa.String(length=500), nullable=True),
        sa.Column("state", sa.String(length=16), server_default="pending", nullable=False),
        sa.Column("outcome", sa.String(length=24), nullable=True),
        sa.Column("reason", sa.String(length=40), nullable=True),
        sa.Column("sequence", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("answer_by", sa.DateTime(timezone=True), nullable=True),
        sa.Column("concluded_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("reconciled_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("authorised_minor", sa.BigInteger(), nullable=True),
        sa.Column("psp_reference", sa.String(length=64), nullable=True),
        sa.Column("tender_reference", sa.String(length=64), nullable=True),
        sa.Column("late", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("provisional", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("abort_asked", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("refused_with", sa.String(length=200), nullable=True),
        sa.Column("not_found_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("checked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("checks", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("asked_since_unknown", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("sentinel", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("books", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("holds_terminal", sa.String(length=64), nullable=True),
        sa.Column("claim_token", sa.Uuid(), nullable=True),
        sa.Column("journal_hash", sa.String(length=64), nullable=False),
        sa.CheckConstraint(
            "(authorised_minor IS NOT NULL) = coalesce(outcome IN ('approved', 'partially_approved'), false)",
            name="payments_authorised",
        ),
        sa.CheckConstraint(
            "(outcome IS NOT NULL) = (state IN ('confirmed', 'reconciled'))", name="payments_outcome_by_state"
        ),
        sa.CheckConstraint("(reconciled_at IS NOT NULL) = (state = 'reconciled')", name="payments_reconciled"),
        sa.CheckConstraint("currency ~ '^[A-Z]{3}$'", name="payments_currency"),
        sa.CheckConstraint(
            "holds_terminal IS NULL OR (holds_terminal = poi_id AND state = 'pending' AND sent_at IS NOT NULL)",
            name="payments_holds_its_terminal",
        ),
        sa.CheckConstraint(
            "outcome IN ('approved', 'partially_approved', 'declined', 'cancelled', 'aborted', 'not_performed')",
            name="payments_outcome",
        ),
        sa.CheckConstraint(
            "reason IN ('no_answer', 'contradiction', 'never_sent', 'expired', 'aborted_before_send', 'not_delivered', 'refused_by_platform', 'not_found', 'terminal_busy', 'terminal_unavailable', 'not_allowed', 'books', 'absent_from_report', 'ruled')",
            name="payments_reason",
        ),
        sa.CheckConstraint("reference ~ '^[ -9;-\\[\\]-~]{1,80}$'", name="payments_reference"),
        sa.CheckConstraint("state IN ('pending', 'unknown', 'confirmed', 'reconciled')", name="payments_state"),
        sa.CheckConstraint("transport IN ('async', 'sync', 'local')", name="payments_transport"),
        sa.CheckConstraint("(answer_by IS NOT NULL) = (sent_at IS NOT NULL)", name="payments_answer_by"),
        sa.CheckConstraint("(concluded_at IS NOT NULL) = (outcome IS NOT NULL)", name="payments_concluded"),
        sa.CheckConstraint("(override_by IS NULL) = (override_reason IS NULL)", name="payments_override"),
        sa.CheckConstraint("amount_minor > 0", name="payments_amount"),
        sa.CheckConstraint("sequence >= 1", name="payments_sequence"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("merchant_account", "idempotency_key", name="payments_idempotency"),
        sa.UniqueConstraint("number"),
        sa.UniqueConstraint("poi_id", "service_id", name="payments_service_id"),
    )
    op.create_index("payments_newest", "payments", ["merchant_account", "number"], unique=False)
    op.create_index(
        "payments_psp_reference",
        "payments",
        ["psp_reference"],
        unique=False,
        postgresql_where=sa.text("psp_reference IS NOT NULL"),
    )
    op.create_index(
        "payments_queue",
        "payments",
        ["poi_id", "number"],
        unique=False,
        postgresql_where=sa.text("state = 'pending' AND sent_at IS NULL"),
    )
    op.create_index("payments_sale", "payments", ["merchant_account", "reference"], unique=False)
    op.create_index(
        "payments_terminal_holder",
        "payments",
        ["holds_terminal"],
        unique=True,
        postgresql_where=sa.text("holds_terminal IS NOT NULL"),
    )
    op.create_index(
        "payments_unknown",
        "payments",
        ["poi_id", "number"],
        unique=False,
        postgresql_where=sa.text("state = 'unknown'"),
    )
    op.create_table(
        "rejections",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("merchant_account", sa.String(length=80), nullable=False),
        sa.Column("idempotency_key", sa.String(length=255), nullable=False),
        sa.Column("reference", sa.String(length=80), nullable=False),
        sa.Column("problem", sa.String(length=40), nullable=False),
        sa.Column("field", sa.String(length=80), nullable=True),
        sa.Column("detail", sa.String(length=500), nullable=False),
        sa.Column("payment_id", sa.Uuid(), nullable=True),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("rejections_merchant", "rejections", ["merchant_account", "id"], unique=False)
    op.create_table(
        "strays",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("why", sa.String(length=80), nullable=False),
        sa.Column("poi_id", sa.String(length=64), nullable=True),
        sa.Column("sale_id", sa.String(length=64), nullable=True),
        sa.Column("service_id", sa.String(length=64), nullable=True),
        sa.Column("times", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("first_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("last_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("digest"),
    )
    op.create_table(
        "tag_keys",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("dropped_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "terminals",
        sa.Column("poi_id", sa.String(length=64), nullable=False),
        sa.Column("merchant_account", sa.String(length=80), nullable=False),
        sa.Column("store", sa.String(length=80), nullable=True),
        sa.Column("transport", sa.String(length=8), nullable=False),
        sa.Column("region", sa.String(length=8), nullable=True),
        sa.Column("cloud_api", sa.String(length=8), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("reassigned_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("removed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("held_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("held_by", sa.String(length=120), nullable=True),
        sa.Column("hold_reason", sa.String(length=500), nullable=True),
        sa.CheckConstraint("transport IN ('async', 'sync', 'local')", name="terminals_transport"),
        sa.PrimaryKeyConstraint("poi_id"),
    )
    op.create_table(
        "alarms",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("payment_id", sa.Uuid(), nullable=True),
        sa.Column("name", sa.String(length=40), nullable=False),
        sa.Column("sequence", sa.Integer(), nullable=True),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["payment_id"],
            ["payments.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("alarms_open", "alarms", ["at"], unique=False, postgresql_where=sa.text("closed_at IS NULL"))
    op.create_index("alarms_payment", "alarms", ["payment_id"], unique=False)
    op.create_table(
        "commands",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("payment_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ring_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.CheckConstraint(
            "kind IN ('send', 'expire', 'expect_answer', 'check_status', 'send_abort', 'tell_caller')",
            name="commands_kind",
        ),
        sa.ForeignKeyConstraint(
            ["payment_id"],
            ["payments.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("payment_id", "kind", name="commands_one_of_a_kind"),
    )
    op.create_index("commands_ring_at", "commands", ["ring_at"], unique=False)
    op.create_table(
        "journal",
        sa.Column("payment_id", sa.Uuid(), nullable=False),
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("evidence", sa.String(length=40), nullable=False),
        sa.Column("event", sa.String(length=40), nullable=False),
        sa.Column("before", sa.String(length=16), nullable=True),
        sa.Column("after", sa.String(length=16), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=True),
        sa.Column("detail_hash", sa.String(length=64), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(
            ["payment_id"],
            ["payments.id"],
        ),
        sa.PrimaryKeyConstraint("payment_id", "sequence"),
    )
    op.create_index(
        "journal_digest",
        "journal",
        ["payment_id", "digest"],
        unique=True,
        postgresql_where=sa.text("digest IS NOT NULL"),
    )
    op.create_table(
        "journal_repeats",
        sa.Column("payment_id", sa.Uuid(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("times", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("last_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["payment_id"],
            ["payments.id"],
        ),
        sa.PrimaryKeyConstraint("payment_id", "digest"),
    )
    for statement in (*_IMMUTABLE_JOURNAL, *_ONE_WAY_SEND):
        op.execute(statement)


#: The journal can only grow; nobody edits history, whatever their statement.
_IMMUTABLE_JOURNAL = (
    """
    CREATE FUNCTION journal_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN RAISE EXCEPTION 'the journal refuses %: its lines are never changed', TG_OP; END $$
    """,
    """
    CREATE TRIGGER journal_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON journal
    FOR EACH STATEMENT EXECUTE FUNCTION journal_is_append_only()
    """,
)

#: A claim is one-way: what was sent once can never be queued again, and no payment disappears.
_ONE_WAY_SEND = (
    """
    CREATE FUNCTION a_sent_payment_stays_sent() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN RAISE EXCEPTION 'payment % was sent once; it cannot be sent again', OLD.id; END $$
    """,
    """
    CREATE TRIGGER payments_sent_once BEFORE UPDATE ON payments FOR EACH ROW
    WHEN (OLD.sent_at IS NOT NULL AND NEW.sent_at IS DISTINCT FROM OLD.sent_at)
    EXECUTE FUNCTION a_sent_payment_stays_sent()
    """,
    """
    CREATE TRIGGER payments_never_back_to_pending BEFORE UPDATE ON payments FOR EACH ROW
    WHEN (OLD.state <> 'pending' AND NEW.state = 'pending')
    EXECUTE FUNCTION a_sent_payment_stays_sent()
    """,
    """
    CREATE FUNCTION payments_are_kept() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN RAISE EXCEPTION 'payments are never deleted'; END $$
    """,
    """
    CREATE TRIGGER payments_kept BEFORE DELETE OR TRUNCATE ON payments
    FOR EACH STATEMENT EXECUTE FUNCTION payments_are_kept()
    """,
)


def downgrade() -> None:
    message = "there is nothing before the first schema"
    raise NotImplementedError(message)
