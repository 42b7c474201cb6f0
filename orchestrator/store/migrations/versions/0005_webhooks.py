"""the platform's webhooks"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "webhooks",
        sa.Column("number", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("live", sa.Boolean(), nullable=True),
        sa.Column("event_code", sa.String(length=80), nullable=False),
        sa.Column("success", sa.Boolean(), nullable=True),
        sa.Column("merchant_account", sa.String(length=256), nullable=True),
        sa.Column("psp_reference", sa.String(length=256), nullable=True),
        sa.Column("original_reference", sa.String(length=256), nullable=True),
        sa.Column("reference", sa.String(length=256), nullable=True),
        sa.Column("currency", sa.String(length=3), nullable=True),
        sa.Column("amount_minor", sa.BigInteger(), nullable=True),
        sa.Column("happened_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("reason", sa.String(length=256), nullable=True),
        sa.Column("terminal_id", sa.String(length=64), nullable=True),
        sa.Column("tender_reference", sa.String(length=64), nullable=True),
        sa.Column("action", sa.String(length=16), nullable=True),
        sa.Column("unreadable", sa.Boolean(), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("last_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("times", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("became", sa.String(length=16), nullable=True),
        sa.Column("processed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("failed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("payment_id", sa.Uuid(), nullable=True),
        sa.Column("refund_id", sa.Uuid(), nullable=True),
        sa.CheckConstraint(
            "became IN ('recorded', 'difference', 'noted', 'unknown', 'ignored', 'misdirected')",
            name="webhooks_became",
        ),
        sa.CheckConstraint("(became IS NULL) = (processed_at IS NULL)", name="webhooks_processed"),
        sa.CheckConstraint("(amount_minor IS NULL) = (currency IS NULL)", name="webhooks_amount"),
        sa.PrimaryKeyConstraint("number"),
        sa.UniqueConstraint("digest"),
    )
    _indexes()
    op.create_table(
        "webhook_quarantine",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("size_bytes", sa.Integer(), nullable=False),
        sa.Column("header", sa.String(length=64), nullable=True),
        sa.Column("body", sa.LargeBinary(), nullable=True),
        sa.Column("times", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("first_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("last_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("digest"),
    )
    op.create_index("webhook_quarantine_newest", "webhook_quarantine", ["last_at"])


def _indexes() -> None:
    partial = {
        "webhooks_unprocessed": ("number", "became IS NULL"),
        "webhooks_psp_reference": ("psp_reference", "psp_reference IS NOT NULL"),
        "webhooks_reports": ("number", "event_code = 'REPORT_AVAILABLE'"),
    }
    for name, (column, where) in partial.items():
        op.create_index(name, "webhooks", [column], postgresql_where=sa.text(where))
    op.create_index("webhooks_newest", "webhooks", ["merchant_account", "number"])
    op.create_index("webhooks_age", "webhooks", ["received_at"])


def downgrade() -> None:
    message = "what was recorded is not thrown away"
    raise NotImplementedError(message)
