"""where a trace goes on after a wait"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Nullable and without a default: no row is rewritten, and processes of the release before go on inserting.
    for table in ("payments", "refunds"):
        op.add_column(table, sa.Column("trace", sa.String(length=55), nullable=True))


def downgrade() -> None:
    message = "what was recorded is not thrown away"
    raise NotImplementedError(message)
