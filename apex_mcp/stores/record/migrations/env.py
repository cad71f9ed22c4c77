"""Alembic's entry point: runs the migrations on the connection that `schema.migrate` hands over."""

from typing import Any

from alembic import context

connection: Any = context.config.attributes["connection"]
context.configure(connection=connection, transaction_per_migration=True)
with context.begin_transaction():
    context.run_migrations()
