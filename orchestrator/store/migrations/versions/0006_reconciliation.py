"""reconciliation"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _differences()
    _runs()


def _differences() -> None:
    op.create_table(
        "differences",
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("number", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("identity", sa.String(length=64), nullable=False),
        sa.Column("facts", sa.String(length=64), nullable=False),
        sa.Column("merchant_account", sa.String(length=80), nullable=False),
        sa.Column("kind", sa.String(length=24), nullable=False),
        sa.Column("payment_id", sa.Uuid(), nullable=True),
        sa.Column("refund_id", sa.Uuid(), nullable=True),
        sa.Column("psp_reference", sa.String(length=64), nullable=True),
        sa.Column("reference", sa.String(length=80), nullable=True),
        sa.Column("ours", postgresql.JSONB(), nullable=True),
        sa.Column("theirs", postgresql.JSONB(), nullable=True),
        sa.Column("source", sa.String(length=200), nullable=False),
        sa.Column("found_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("state", sa.String(length=16), server_default="open", nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("changed_by", sa.String(length=120), nullable=True),
        sa.Column("note", sa.String(length=500), nullable=True),
        sa.Column("history", postgresql.JSONB(), server_default=sa.text("'[]'"), nullable=False),
        sa.CheckConstraint(
            "kind IN ('missing_there', 'missing_here', 'ambiguous', 'orphan', 'amount_differs', 'currency_differs', 'state_differs', 'duplicate_line', 'refund_elsewhere', 'refund_differs', 'capture_failed', 'expired', 'chargeback')",
            name="differences_kind",
        ),
        sa.CheckConstraint("state IN ('open', 'explained', 'closed')", name="differences_state"),
        sa.ForeignKeyConstraint(["payment_id"], ["payments.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("identity"),
        sa.UniqueConstraint("number"),
    )
    op.create_index("differences_newest", "differences", ["merchant_account", "number"])
    op.create_index(
        "differences_open",
        "differences",
        ["merchant_account", "number"],
        postgresql_where=sa.text("state = 'open'"),
    )
    op.create_index(
        "differences_payment",
        "differences",
        ["payment_id"],
        postgresql_where=sa.text("payment_id IS NOT NULL"),
    )


def _runs() -> None:
    op.create_table(
        "reconciliation_runs",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("merchant_account", sa.String(length=80), nullable=False),
        sa.Column("first_day", sa.Date(), nullable=False),
        sa.Column("last_day", sa.Date(), nullable=False),
        sa.Column("started_by", sa.String(length=120), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("state", sa.String(length=16), server_default="queued", nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("progress", postgresql.JSONB(), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("reports", postgresql.JSONB(), server_default=sa.text("'[]'"), nullable=False),
        sa.Column("problems", postgresql.JSONB(), server_default=sa.text("'[]'"), nullable=False),
        sa.Column("summary", postgresql.JSONB(), nullable=True),
        sa.CheckConstraint(
            "state IN ('queued', 'running', 'done', 'refused', 'failed')", name="reconciliation_runs_state"
        ),
        sa.CheckConstraint("first_day <= last_day", name="reconciliation_runs_period"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("number"),
    )
    op.create_index("reconciliation_runs_newest", "reconciliation_runs", ["merchant_account", "number"])
    op.create_index(
        "reconciliation_runs_one_waits",
        "reconciliation_runs",
        ["merchant_account", "first_day", "last_day"],
        unique=True,
        postgresql_where=sa.text("state = 'queued'"),
    )
    op.create_table(
        "reconciliation_found",
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("difference_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(["difference_id"], ["differences.id"]),
        sa.ForeignKeyConstraint(["run_id"], ["reconciliation_runs.id"]),
        sa.PrimaryKeyConstraint("run_id", "difference_id"),
    )


def downgrade() -> None:
    message = "what was recorded is not thrown away"
    raise NotImplementedError(message)
