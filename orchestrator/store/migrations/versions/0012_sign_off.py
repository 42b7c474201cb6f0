"""the sign-off of runs, how terminals were when somebody looked, and what the console's lists are read by"""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

REGISTERED = sa.text("removed_at IS NULL")
WAITING = sa.text("delivered_at IS NULL AND parked_at IS NULL")
#: Character by character, whatever the database's language: so that a beginning is a range.
BY_CHARACTER = {"poi_id": "varchar_pattern_ops"}


def upgrade() -> None:
    with op.get_context().autocommit_block():
        op.execute("SET lock_timeout = '10min'")  # whoever waits for an index stops nobody
        index("reconciliation_runs_days", "reconciliation_runs", "merchant_account", "last_day")
        index("differences_state_of", "differences", "merchant_account", "state", "number")
        index("differences_kind_of", "differences", "merchant_account", "kind", "state", "number")
        index("terminals_of_merchant", "terminals", "merchant_account", "poi_id", where=REGISTERED, ops=BY_CHARACTER)
        index(
            "terminals_of_store", "terminals", "merchant_account", "store", "poi_id",
            where=REGISTERED, ops=BY_CHARACTER,
        )  # fmt: skip
        index("tellings_waiting", "tellings", "merchant_account", "number", where=WAITING)
        index("tellings_type", "tellings", "merchant_account", "type", "number")
        op.execute("SET lock_timeout = '2s'")  # as the migrations after this one expect it
    op.add_column("terminals", sa.Column("look", postgresql.JSONB(), nullable=True))
    op.add_column("terminals", sa.Column("looked_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("reconciliation_runs", sa.Column("signed_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("reconciliation_runs", sa.Column("signed_by", sa.String(length=120), nullable=True))
    op.add_column("reconciliation_runs", sa.Column("sign_note", sa.String(length=500), nullable=True))
    op.add_column("reconciliation_runs", sa.Column("signed_open", sa.Integer(), nullable=True))
    op.add_column("reconciliation_runs", sa.Column("signed_own", sa.Integer(), nullable=True))
    op.create_check_constraint(
        "reconciliation_runs_signed",
        "reconciliation_runs",
        "num_nonnulls(signed_at, signed_by, signed_open, signed_own) IN (0, 4)"
        " AND (signed_at IS NULL OR state = 'done')"
        " AND (coalesce(signed_open, 0) = 0 OR sign_note IS NOT NULL)",
        postgresql_not_valid=True,
    )
    op.execute("ALTER TABLE reconciliation_runs VALIDATE CONSTRAINT reconciliation_runs_signed")


def index(name: str, table: str, *columns: str, where: Any = None, ops: Any = None) -> None:
    """Make an index while others write."""
    op.create_index(
        name,
        table,
        list(columns),
        postgresql_where=where,
        postgresql_ops=ops or {},
        postgresql_concurrently=True,
        if_not_exists=True,
    )


def downgrade() -> None:
    message = "what was recorded is not thrown away"
    raise NotImplementedError(message)
