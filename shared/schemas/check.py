"""What each store's schema must be, and what becomes of a role that finds another: it ends."""

import threading
import time
from typing import Any

from sqlalchemy import Connection, column, inspect, select, table
from sqlalchemy.exc import DBAPIError

from shared.database import engines
from shared.domain.projections import PROJECTIONS
from shared.errors import refusal
from shared.messages import Types
from shared.plain import Plain
from shared.projection import Projection
from shared.schemas import event_shapes, projection_tables
from shared.settings import Settings
from shared.stores import event_store, inbox

REVISIONS = {"inbox": "0003", "event_store": "0004", "read_model": "0003"}
"""The last one in each folder of shared/schemas/migrations: roles don't load Alembic. Projections' tables have none."""

EVERY = 1.0
"""Seconds after which a store that can't be asked is asked again."""

Store = tuple[str, str]
"""A key of REVISIONS, and the URL of the database."""


class WrongSchema(Plain):
    """Its message says what to do, in one line."""

    def __init__(self, store: str, found: str | None, needed: str) -> None:
        name = f"the {store.replace('_', ' ')}"
        self.found = found
        self.is_newer = found is not None and found > needed
        if self.is_newer:
            what = f"is at revision {found}, which this version doesn't know: it is newer"
        elif found:
            what = f"is at revision {found}, this version needs {needed}: run `cqrs init`"
        else:
            what = "has no schema yet: run `cqrs init`"
        super().__init__(f"{name} {what}")


def compare(connection: Connection, store: str) -> WrongSchema | None:
    """What is wrong with the store's schema, if anything is."""
    found, needed = _revision(connection, store), REVISIONS[store]
    return None if found == needed else WrongSchema(store, found, needed)


def locks(settings: Settings) -> dict[str, dict[str, str]]:
    """For each store the locks at which its writers take turns, each with the URL of the database that it is in."""
    return {
        "inbox": {inbox.LOCK: settings.inbox},
        "event_store": {event_store.LOCK: settings.event_store},
        "read_model": {name: settings.read_model_of(name) for name in PROJECTIONS},
    }


def stores(settings: Settings) -> list[Store]:
    """Each store with the URL of its database; the read model may be in several."""
    return list(dict.fromkeys((store, url) for store, its in locks(settings).items() for url in its.values()))


def look(settings: Settings, store: str, url: str, known: Types[Any] | None = None) -> Exception | None:
    """What is wrong with a store, if anything is, in one line that says what to do.

    Its revision, a table that a projection fills, or events that aren't among those `known`, if given.
    """
    with engines.reading(url) as connection:
        if wrong := compare(connection, store):
            return wrong
        if known is not None and store == "event_store":
            return event_shapes.compare(connection, known)
        return projection_tables.compare(connection, projections(settings, store, url))


def projections(settings: Settings, store: str, url: str) -> list[Projection]:
    """Those that have their tables there."""
    if store != "read_model":
        return []
    return [which for which in PROJECTIONS.values() if settings.read_model_of(which.name) == url]


def check(settings: Settings, known: Types[Any] | None = None) -> None:
    """End this process, with one line on stderr and exit code 1, if a store isn't what this version needs.

    `known`: the events, for a role that must read all of them. A store that can't be asked is in trouble, and no reason
    to end: it is asked again until it can be.
    """
    silent = [store for store in stores(settings) if not _fits(settings, *store, known)]
    if silent:
        threading.Thread(target=_check_later, args=[settings, silent, known], name="schema", daemon=True).start()


def _check_later(settings: Settings, silent: list[Store], known: Types[Any] | None) -> None:
    while silent:
        time.sleep(EVERY)
        silent = [store for store in silent if not _fits(settings, *store, known)]


def _fits(settings: Settings, store: str, url: str, known: Types[Any] | None) -> bool:
    """False if it can't be asked."""
    try:
        wrong = look(settings, store, url, known)
    except DBAPIError:
        return False
    if wrong:
        refusal.end(str(wrong))
    return True


def _revision(connection: Connection, store: str) -> str | None:
    name = f"{store}_schema"
    if not inspect(connection).has_table(name):
        return None
    revision: str | None = connection.execute(select(column("version_num")).select_from(table(name))).scalar()
    return revision
