"""what a second person agrees to, and what a payment's page is read by"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Each step bears repetition: making an index concurrently commits what came before it.
    op.add_column("ruling_proposals", sa.Column("verdict", postgresql.JSONB(), nullable=True), if_not_exists=True)
    with op.get_context().autocommit_block():
        op.execute("SET lock_timeout = '10min'")  # whoever waits for a concurrent index stops nobody
        index("webhooks_payment", "webhooks", "payment_id")
        index("webhooks_refund", "webhooks", "refund_id")
        index("alarms_refund", "alarms", "refund_id")
        op.execute("SET lock_timeout = '2s'")  # as the migrations after this one expect it


def index(name: str, table: str, column: str) -> None:
    """Make an index of what has this, while others write."""
    where = sa.text(f"{column} IS NOT NULL")
    op.create_index(name, table, [column], postgresql_where=where, postgresql_concurrently=True, if_not_exists=True)


def downgrade() -> None:
    message = "what was recorded is not thrown away"
    raise NotImplementedError(message)
