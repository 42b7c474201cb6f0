"""what callers are to be told"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "tellings",
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("number", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("payment_id", sa.Uuid(), nullable=True),
        sa.Column("merchant_account", sa.String(length=80), nullable=False),
        sa.Column("sequence", sa.Integer(), nullable=True),
        sa.Column("type", sa.String(length=40), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("url", sa.String(length=500), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("next_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("delivered_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("parked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_status", sa.Integer(), nullable=True),
        sa.Column("last_error", sa.String(length=40), nullable=True),
        sa.CheckConstraint("(payment_id IS NULL) = (sequence IS NULL)", name="tellings_of_a_payment"),
        sa.CheckConstraint("delivered_at IS NULL OR parked_at IS NULL", name="tellings_end"),
        sa.ForeignKeyConstraint(["payment_id"], ["payments.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("number"),
        sa.UniqueConstraint("payment_id", "sequence", name="tellings_sequence"),
    )
    op.create_index(
        "tellings_head",
        "tellings",
        ["payment_id", "sequence"],
        unique=False,
        postgresql_where=sa.text("delivered_at IS NULL AND parked_at IS NULL"),
    )
    op.create_index("tellings_newest", "tellings", ["merchant_account", "number"], unique=False)
    op.create_index(
        "tellings_parked",
        "tellings",
        ["merchant_account", "number"],
        unique=False,
        postgresql_where=sa.text("parked_at IS NOT NULL"),
    )
    op.alter_column("commands", "payment_id", nullable=True)
    op.add_column("commands", sa.Column("telling_id", sa.Uuid(), nullable=True))
    op.create_foreign_key(None, "commands", "tellings", ["telling_id"], ["id"])
    op.create_check_constraint("commands_purpose", "commands", "(payment_id IS NULL) = (telling_id IS NOT NULL)")


def downgrade() -> None:
    message = "what callers were told is not thrown away"
    raise NotImplementedError(message)
