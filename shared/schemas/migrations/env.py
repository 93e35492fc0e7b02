"""Alembic's environment: runs revisions in the transaction that `upgrade` gives."""

from alembic import context
from alembic.util import CommandError

connection = context.config.attributes.get("connection")
if connection is None:
    raise CommandError("Alembic must not touch the stores itself: run `cqrs init`")
context.configure(connection=connection, version_table=f"{context.config.config_ini_section}_schema")
context.run_migrations()
