"""The check of the stores' schemas, with which each role starts: a role that finds another schema ends."""

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
from shared.stores import event_store, inbox, subjects

REVISIONS = {"inbox": "0005", "event_store": "0007", "read_model": "0005", "subjects": "0001"}
"""The last revision in each folder of shared/schemas/migrations: written down here, since roles don't load Alembic."""

RECHECK_EVERY = 1.0
"""Seconds after which a store that didn't answer is asked again."""

Store = tuple[str, str]
"""A key of REVISIONS, and the URL of the database."""


class WrongSchema(Plain):
    """A store is at another revision than this version needs. The message says what to do, in one line."""

    def __init__(self, store: str, found: str | None, needed: str) -> None:
        self.found = found
        self.is_newer = found is not None and found > needed
        if self.is_newer:
            what = f"is at revision {found}, which this version doesn't know: it is newer"
        elif found:
            what = f"is at revision {found}, this version needs {needed}: run `cqrs init`"
        else:
            what = "has no schema yet: run `cqrs init`"
        super().__init__(f"the {store.replace('_', ' ')} {what}")


def locks(settings: Settings) -> dict[str, dict[str, str]]:
    """For each store the locks at which its writers take turns, each with the URL of the database that it is in."""
    return {
        "inbox": {inbox.LOCK: settings.inbox},
        "event_store": {event_store.LOCK: settings.event_store},
        "read_model": {name: settings.read_model_of(name) for name in PROJECTIONS},
        "subjects": {subjects.LOCK: settings.subjects},
    }


def stores(settings: Settings) -> list[Store]:
    """Each store with the URL of its database; the read model may be in several."""
    return list(dict.fromkeys((store, url) for store, its in locks(settings).items() for url in its.values()))


def projections(settings: Settings, store: str, url: str) -> list[Projection]:
    """The projections that have their tables in this database of this store."""
    if store != "read_model":
        return []
    return [which for which in PROJECTIONS.values() if settings.read_model_of(which.name) == url]


def compare(connection: Connection, store: str) -> WrongSchema | None:
    """What is wrong with a store's revision; None if it is the one that this version needs."""
    found, needed = revision(connection, store), REVISIONS[store]
    return None if found == needed else WrongSchema(store, found, needed)


def revision(connection: Connection, store: str) -> str | None:
    """The revision that a store is at; None if it has no schema yet."""
    found: str | None = None
    if inspect(connection).has_table(name := f"{store}_schema"):
        found = connection.execute(select(column("version_num")).select_from(table(name))).scalar()
    return found


def look(settings: Settings, store: str, url: str, known: Types[Any] | None = None) -> Exception | None:
    """What is wrong with a store, in one line that says what to do; None if nothing is.

    Looks at the revision, at the projections' tables and, if `known` is given, for events that aren't in `known`.
    """
    with engines.reading(url) as connection:
        if wrong := compare(connection, store):
            return wrong
        if store == "subjects":
            return subjects.wrong_master_key(connection, settings)
        if known is not None and store == "event_store":
            return event_shapes.compare(connection, known)
        return projection_tables.compare(connection, projections(settings, store, url))


def check(settings: Settings, known: Types[Any] | None = None) -> None:
    """End this process, with one line on stderr and exit code 1, if a store isn't what this version needs.

    `known`: the events that the role can read, given if the role must be able to read every event. A store that
    doesn't answer is no reason to end: a thread asks it again until it does.
    """
    if silent := _silent(stores(settings), settings, known):
        threading.Thread(target=_check_later, args=[silent, settings, known], name="schema", daemon=True).start()


def _check_later(silent: list[Store], settings: Settings, known: Types[Any] | None) -> None:
    while silent:
        time.sleep(RECHECK_EVERY)
        silent = _silent(silent, settings, known)


def _silent(asked: list[Store], settings: Settings, known: Types[Any] | None) -> list[Store]:
    """Those of the stores that don't answer. Ends the process if one is wrong."""
    silent = []
    for store, url in asked:
        try:
            if wrong := look(settings, store, url, known):
                refusal.end(str(wrong))
        except DBAPIError:
            silent.append((store, url))
    return silent
