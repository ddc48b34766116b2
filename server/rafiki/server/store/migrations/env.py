"""What Alembic runs for `upgrade`: the revisions, on the connection it was given."""

from alembic import context

from rafiki.server.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
