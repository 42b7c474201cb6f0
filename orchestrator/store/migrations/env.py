"""Alembic's environment: the connection comes from ``orchestrator.store.schema``."""

from alembic import context
from sqlmodel import SQLModel

from orchestrator.store import (  # noqa: F401  -- importing registers the tables
    tables,
    tables_books,
    tables_people,
    tables_refunds,
    tables_retention,
    tables_rulings,
    tables_tallies,
    tables_terminals,
    tables_webhooks,
)

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=SQLModel.metadata,
    compare_type=True,
    transaction_per_migration=True,  # the locks of one are given back before the next begins
)
with context.begin_transaction():
    context.run_migrations()
