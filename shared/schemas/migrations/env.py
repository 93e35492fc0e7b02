"""What Alembic runs revisions in: the transaction that `upgrade` gives it."""

from alembic import context
from alembic.util import CommandError

connection = context.config.attributes.get("connection")
if connection is None:
    raise CommandError("only `cqrs init` touches the stores")
context.configure(connection=connection, version_table=f"{context.config.config_ini_section}_schema")
context.run_migrations()
