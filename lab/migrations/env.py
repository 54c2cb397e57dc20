"""Alembic's entry: apply the migrations on the connection that `lab.store_engine.migrate` hands over."""

from alembic import context

from lab.store_tables import metadata

connection = context.config.attributes["connection"]
# One transaction for all of it: SQLite, too, undoes DDL.
context.configure(connection=connection, target_metadata=metadata, transactional_ddl=True)
context.run_migrations()
