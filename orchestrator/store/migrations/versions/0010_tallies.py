"""tallies that metrics read, and signs of life"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_COUNTED = sa.text("number IS NOT NULL AND event NOT IN ('accepted', 'send_started')")


def upgrade() -> None:
    # Each step bears repetition: making an index concurrently commits what came before it, and may have to be tried
    # again. What reads tables comes first, while payments go on: writing a line waits for what alters journals.
    _tables()
    for statement in _BEGIN_HERE:
        op.execute(statement)
    # A line has a number from here on; those that are there are not counted.
    for journal in ("journal", "refund_journal"):
        op.execute(f"CREATE SEQUENCE IF NOT EXISTS {journal}_number")
        op.add_column(journal, sa.Column("number", sa.BigInteger(), nullable=True), if_not_exists=True)
        op.alter_column(journal, "number", server_default=sa.text(f"nextval('{journal}_number')"))
    with op.get_context().autocommit_block():
        op.execute("SET lock_timeout = '10min'")  # whoever waits for a concurrent index stops nobody
        for journal in ("journal", "refund_journal"):
            # One that failed half-way leaves an index behind that nobody uses.
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {journal}_counted")
            op.create_index(
                f"{journal}_counted", journal, ["number"], postgresql_where=_COUNTED, postgresql_concurrently=True
            )
        op.execute("SET lock_timeout = '2s'")  # as the migrations after this one expect it


def _tables() -> None:
    op.create_table(
        "tallies",
        sa.Column("name", sa.String(length=60), nullable=False),
        sa.Column("labels", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("name", "labels"),
        if_not_exists=True,
    )
    op.create_table(
        "tally_marks",
        sa.Column("feed", sa.String(length=24), nullable=False),
        sa.Column("mark", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("feed"),
        if_not_exists=True,
    )
    op.create_table(
        "tally_steps",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("name", sa.String(length=60), nullable=False),
        sa.Column("labels", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        if_not_exists=True,
    )
    op.create_table(
        "pulses",
        sa.Column("name", sa.String(length=24), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("worker", sa.String(length=120), nullable=True),
        sa.PrimaryKeyConstraint("name"),
        if_not_exists=True,
        postgresql_with={"fillfactor": 50},  # updated in place, for ever
    )


#: Counters begin at nothing. What is still to be delivered counts as made, so that its delivery will be one.
_BEGIN_HERE = (
    """
    INSERT INTO tally_marks (feed, mark)
    SELECT 'payments', coalesce(max(number), 0) FROM payments
    UNION ALL SELECT 'refunds', coalesce(max(number), 0) FROM refunds
    UNION ALL SELECT 'lines', 0
    UNION ALL SELECT 'refund_lines', 0
    UNION ALL SELECT 'alarms', coalesce(max(id), 0) FROM alarms
    UNION ALL SELECT 'tellings', coalesce(max(number), 0) FROM tellings
    UNION ALL SELECT 'rejections', coalesce(max(id), 0) FROM rejections
    UNION ALL SELECT 'webhooks', coalesce(max(number), 0) FROM webhooks
    ON CONFLICT DO NOTHING
    """,
    """
    INSERT INTO tallies (name, labels, value)
    SELECT 'callbacks_made', '{}', count(*) FROM tellings WHERE delivered_at IS NULL
    ON CONFLICT DO NOTHING
    """,
)


def downgrade() -> None:
    message = "what was recorded is not thrown away"
    raise NotImplementedError(message)
