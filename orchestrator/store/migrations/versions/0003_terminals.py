"""addresses and keys of terminals, what they show and print, and results in full"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("payments", sa.Column("result", postgresql.JSONB(), nullable=True))
    op.create_index(
        "payments_sale_reference",
        "payments",
        ["merchant_account", sa.text("(options ->> 'sale_reference_id')"), "number"],
        postgresql_where=sa.text("options ->> 'sale_reference_id' IS NOT NULL"),
    )
    op.add_column("terminals", sa.Column("till_prints", sa.Boolean(), nullable=True))
    op.add_column("terminals", sa.Column("address", sa.String(length=255), nullable=True))
    op.add_column("terminals", sa.Column("address_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("terminals", sa.Column("trouble", sa.String(length=16), nullable=True))
    op.add_column("terminals", sa.Column("trouble_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("alarms", sa.Column("poi_id", sa.String(length=64), nullable=True))
    _shared_keys()
    _terminal_events()
    op.create_table(
        "receipts",
        sa.Column("payment_id", sa.Uuid(), nullable=False),
        sa.Column("receipts", postgresql.JSONB(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["payment_id"], ["payments.id"]),
        sa.PrimaryKeyConstraint("payment_id"),
    )


def _shared_keys() -> None:
    op.create_table(
        "shared_keys",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("level", sa.String(length=8), nullable=False),
        sa.Column("merchant_account", sa.String(length=80), nullable=True),
        sa.Column("scope", sa.String(length=80), nullable=True),
        sa.Column("identifier", sa.String(length=80), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("passphrase", sa.String(length=255), nullable=False),
        sa.Column("created_by", sa.String(length=120), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("dropped_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("level IN ('company', 'merchant', 'store', 'terminal')", name="shared_keys_level"),
        sa.CheckConstraint("(level = 'company') = (merchant_account IS NULL)", name="shared_keys_merchant"),
        sa.CheckConstraint("(level IN ('store', 'terminal')) = (scope IS NOT NULL)", name="shared_keys_scope"),
        sa.CheckConstraint("version >= 0", name="shared_keys_version"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "shared_keys_once",
        "shared_keys",
        [
            "level",
            sa.text("coalesce(merchant_account, '')"),
            sa.text("coalesce(scope, '')"),
            "identifier",
            "version",
        ],
        unique=True,
        postgresql_where=sa.text("dropped_at IS NULL"),
    )


def _terminal_events() -> None:
    op.create_table(
        "terminal_events",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("poi_id", sa.String(length=64), nullable=False),
        sa.Column("payment_id", sa.Uuid(), nullable=True),
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.Column("name", sa.String(length=80), nullable=False),
        sa.Column("detail", postgresql.JSONB(), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("kind IN ('display', 'event')", name="terminal_events_kind"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("terminal_events_terminal", "terminal_events", ["poi_id", "id"])
    op.create_index("terminal_events_age", "terminal_events", ["at"])
    op.create_index(
        "terminal_events_payment",
        "terminal_events",
        ["payment_id", "id"],
        postgresql_where=sa.text("payment_id IS NOT NULL"),
    )


def downgrade() -> None:
    message = "what was recorded is not thrown away"
    raise NotImplementedError(message)
