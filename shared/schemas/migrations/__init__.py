"""Migrations: the history of each store's schema, in a folder each, and the upgrade to the newest revision."""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import TYPE_CHECKING

from sqlalchemy import Connection

from shared.database import engines, sqlite
from shared.domain.projections import PROJECTIONS
from shared.personal.ciphers import Blind
from shared.projection import Bar
from shared.schemas import check, projection_tables
from shared.schemas.migrations import hashing, rekeying
from shared.stores.event_store import seal

if TYPE_CHECKING:
    from alembic.config import Config

NEW_RULE_OF_KEYS = "0004"
"""The revision of the event store with which the rule of unique keys changed."""

HASHED_KEYS = {"event_store": ("0007", hashing.hash_unique_keys), "inbox": ("0004", hashing.hash_idempotency_keys)}
"""The revisions from which on keys that may tell of people are hashed, by store, and what hashes older ones."""

HASHES = "0006"
"""The revision of the event store from which on each event has a hash."""


def upgrade(
    url: str,
    store: str,
    bar: Bar = lambda _: nullcontext(lambda _done, _all: None),
    blind: Callable[[], Blind] = lambda: Blind(b""),
) -> bool:
    """Bring a store to the newest revision, from an empty database, tables without a revision or an older revision.

    All or nothing. Returns whether there was anything to do. Safe to run again, and from several processes at once.
    `blind` gives what hashes the keys of an older store. Raises WrongSchema if the schema is newer.
    """
    with engines.briefly(engines.writer(url, lock=store, create=True)) as engine:
        if engines.is_local(url):
            sqlite.keep_a_write_ahead_log(engine)
        with engine.begin() as connection:
            wrong = check.compare(connection, store)
            if wrong and wrong.is_newer:
                raise wrong
            if wrong:
                _upgrade(connection, store, check.REVISIONS[store])
                _amend(connection, store, wrong.found or "", bar, blind)
            if store == "event_store" and check.REVISIONS[store] >= HASHES:
                seal(connection, bar)  # also what a worker of an older version has appended since
    return bool(wrong)


def _amend(connection: Connection, store: str, found: str, bar: Bar, blind: Callable[[], Blind]) -> None:
    """Correct the rows that older versions wrote. Not in projections' tables of another shape: they are rebuilt."""
    needed = check.REVISIONS[store]
    if store == "event_store" and found < NEW_RULE_OF_KEYS <= needed:
        rekeying.make_keys_anew(connection, bar)
    for which_store, (revision, hash_keys) in HASHED_KEYS.items():
        if store == which_store and found < revision <= needed:
            hash_keys(connection, blind(), bar)
    for which in PROJECTIONS.values() if store == "read_model" else ():
        for revision, amend in which.amend.items():
            if found < revision <= needed:
                projection_tables.extend(connection, which)
                if projection_tables.are(connection, which.tables):
                    amend(connection, bar)


def at_each_revision(store: str) -> Iterator[Connection]:
    """Connections to a store in memory, as it is on SQLite, at one revision after the other."""
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
    """Alembic's configuration, as in alembic.ini: an installed package doesn't have that file."""
    from alembic.config import Config  # noqa: PLC0415

    config = Config(ini_section=store, attributes={"connection": connection})
    config.set_main_option("script_location", "shared:schemas/migrations")
    config.set_main_option("path_separator", "newline")
    config.set_main_option("version_locations", f"shared:schemas/migrations/{store}")
    return config
