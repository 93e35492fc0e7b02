"""The histories of the stores' schemas, and how a store is brought to the newest revision."""

from collections.abc import Iterator
from contextlib import nullcontext
from typing import TYPE_CHECKING

from sqlalchemy import Connection

from shared.database import engines, sqlite
from shared.schemas import check
from shared.schemas.migrations import rekeying
from shared.schemas.migrations.rekeying import Bar

if TYPE_CHECKING:
    from alembic.config import Config

REKEYED = {"event_store": ("0004", rekeying.unique), "read_model": ("0003", rekeying.of_emails)}
"""The revisions with which the rule of keys changed, and what makes them anew, once the tables are as the code's."""


def upgrade(url: str, store: str, bar: Bar = lambda _: nullcontext(lambda _done, _all: None)) -> bool:
    """All or nothing; from an empty database, from tables that have no revision yet, or from an older revision.

    Returns whether there was anything to do. Safe to run again, and from several processes at once.
    Raises WrongSchema if the schema is newer.
    """
    revision, make_anew = REKEYED.get(store, ("", None))
    with engines.briefly(engines.writer(url, lock=store, create=True)) as engine:
        if engines.is_local(url):
            sqlite.keep_a_write_ahead_log(engine)
        with engine.begin() as connection:
            wrong = check.compare(connection, store)
            if wrong and wrong.is_newer:
                raise wrong
            if wrong:
                _upgrade(connection, store, check.REVISIONS[store])
            if wrong and make_anew and (wrong.found or "") < revision <= check.REVISIONS[store]:
                make_anew(connection, bar)
    return bool(wrong)


def at_each_revision(store: str) -> Iterator[Connection]:
    """A store in memory, as it is on SQLite, at one revision after the other."""
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    with engines.briefly(sqlite.in_memory()) as engine, engine.begin() as connection:
        history = ScriptDirectory.from_config(_config(connection, store)).walk_revisions()
        for revision in reversed([each.revision for each in history]):
            _upgrade(connection, store, revision)
            yield connection


def _upgrade(connection: Connection, store: str, revision: str) -> None:
    # To load Alembic takes a third of a second, and mostly there is nothing to do.
    from alembic import command  # noqa: PLC0415

    command.upgrade(_config(connection, store), revision)


def _config(connection: Connection, store: str) -> "Config":
    """What alembic.ini says, which isn't there where this is installed."""
    from alembic.config import Config  # noqa: PLC0415

    config = Config(ini_section=store, attributes={"connection": connection})
    config.set_main_option("script_location", "shared:schemas/migrations")
    config.set_main_option("path_separator", "newline")
    config.set_main_option("version_locations", f"shared:schemas/migrations/{store}")
    return config
