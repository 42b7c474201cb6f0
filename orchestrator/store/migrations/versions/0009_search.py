"""what payments are searched by, what needs attention, and who closed an alarm

Each index is made concurrently, so that payments go on meanwhile; whoever waits for that stops nobody, so it may take
its time. ``payments_reference`` takes the place of ``payments_sale``: it serves the same equality, beginnings too, and
gives the payments of one reference newest first; a payment has as many entries to write as before.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

LAST4 = sa.text("(result ->> 'card_last4')")
WITH_LAST4 = sa.text("result ->> 'card_last4' IS NOT NULL")
DOUBTFUL = sa.text("state = 'unknown' OR (state = 'confirmed' AND (late OR provisional))")


def upgrade() -> None:
    # Each step bears repetition: making an index concurrently commits what came before it.
    op.add_column("alarms", sa.Column("closed_by", sa.String(length=120), nullable=True), if_not_exists=True)
    op.add_column("alarms", sa.Column("closed_reason", sa.String(length=500), nullable=True), if_not_exists=True)
    with op.get_context().autocommit_block():
        op.execute("SET lock_timeout = '10min'")
        made: dict[str, Any] = {"postgresql_concurrently": True, "if_not_exists": True}
        op.create_index(
            "payments_reference",
            "payments",
            ["merchant_account", "reference", "number"],
            postgresql_ops={"reference": "varchar_pattern_ops"},
            **made,
        )
        op.create_index("payments_terminal_newest", "payments", ["poi_id", "number"], **made)
        op.create_index(
            "payments_last4", "payments", ["merchant_account", LAST4, "number"], postgresql_where=WITH_LAST4, **made
        )
        op.create_index(
            "payments_tender_reference",
            "payments",
            ["tender_reference"],
            postgresql_where=sa.text("tender_reference IS NOT NULL"),
            **made,
        )
        op.create_index(
            "payments_doubtful", "payments", ["merchant_account", "number"], postgresql_where=DOUBTFUL, **made
        )
        op.create_index(
            "refunds_unknown",
            "refunds",
            ["merchant_account", "number"],
            postgresql_where=sa.text("state = 'unknown'"),
            **made,
        )
        op.drop_index("payments_sale", "payments", postgresql_concurrently=True, if_exists=True)
        op.execute("SET lock_timeout = '2s'")  # as the migrations after this one expect it


def downgrade() -> None:
    message = "what was recorded is not thrown away"
    raise NotImplementedError(message)
