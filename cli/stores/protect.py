"""`cqrs protect`: what versions before wrote in the clear is sealed, as this version seals what is new.

The log's events are rewritten this once. It is all or nothing for the inbox, then for the event store.
"""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

from sqlalchemy import MetaData, text

from cli.errors import Refused
from cli.events import anchors
from cli.lock import alone
from cli.output import bar
from cli.stores import rewriting
from shared.access.principals import operator_here
from shared.database import engines, sqlite
from shared.database.scrubbing import Scrubbing, mark
from shared.database.statements import execute
from shared.operations import clear
from shared.operations.record import LogProtected, record
from shared.schemas import check, rights
from shared.schemas.known import EVENTS, MARKED
from shared.settings import Settings
from shared.stores import event_store, inbox
from shared.stores.subjects import Subjects

IN_THE_CLEAR = "personal data of versions before rests in the clear: stop the service, then run `cqrs protect`"

OTHERS = text("""
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
    AND (usename = current_user
         OR usename IN (SELECT current_user || '_' || role FROM unnest(CAST(:roles AS text[])) AS role))
""")
"""Counts the connections of the service's users; a monitor's, say, don't count."""


def protect(settings: Settings) -> dict[str, Any]:
    """Seal commands and events; returns how many, and the log's head. Safe to run again, also after it was killed.

    Raises Refused if the service runs, or a store isn't of this version; Wrong if anything would be read otherwise
    than before.
    """
    with _stopped(settings):
        with closing(Subjects.of(settings)) as people:
            with engines.writing(settings.inbox, lock=inbox.LOCK) as connection, bar("commands") as show:
                count_commands = rewriting.seal_commands(connection, people, show)
                mark(connection)
            with engines.writing(settings.event_store, lock=event_store.LOCK) as log, bar("events") as show:
                count = rewriting.seal_events(log, people, show)
                rewriting.remove_values(log)
                mark(log)
                if count or count_commands:
                    record(log, LogProtected(events=count, commands=count_commands), by=operator_here())
        _scrub(settings.inbox, inbox.LOCK, inbox.metadata)
        _scrub(settings.event_store, event_store.LOCK, event_store.metadata)
    return {"events": count, "commands": count_commands, "head": anchors.head(settings).model_dump()}


def is_due(settings: Settings) -> bool:
    """Whether anything rests in the clear; as fast however much there is."""
    with engines.reading(settings.event_store) as log, engines.reading(settings.inbox) as connection:
        return clear.is_any(log, connection, MARKED)


@contextmanager
def _stopped(settings: Settings) -> Iterator[None]:
    """The stores, which nobody else uses. Raises Refused, or what is wrong with a store."""
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    with alone(settings):
        for store, url in check.stores(settings):
            if wrong := check.look(settings, store, url, EVENTS):
                raise wrong
        for url in dict.fromkeys((settings.inbox, settings.event_store)):
            if used := _used(url):
                raise Refused(f"{used}: stop the service first")
        yield


def _used(url: str) -> str:
    """Who else uses a store, in words; "" if nobody does."""
    if engines.is_local(url):
        path = sqlite.path_of(url)
        return f"{path} is in use" if sqlite.is_used(path) else ""
    with engines.reading(url) as connection:
        others = connection.scalar(OTHERS, {"roles": list(rights.ROLES)})
        return f"{others} others are connected to the database" if others else ""


def _scrub(url: str, lock: str, tables: MetaData) -> None:
    """Have the engine write the store anew, so that nothing is left of what rows were."""
    with engines.briefly(engines.writer(url, lock=lock)) as engine, engine.connect() as connection:
        if not engines.is_local(url):
            execute(connection, f"VACUUM (FULL) {', '.join(tables.tables)}")
        elif not Scrubbing(engine, ()).look():
            raise Refused(f"{sqlite.path_of(url)} is read by others: stop them, and run it again")
