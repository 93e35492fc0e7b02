"""Whether a store holds only the tables, indexes and triggers that this version makes.

Triggers, views and expressions are code, which would run.
"""

import itertools
import re
from collections.abc import Iterator, Sequence
from functools import cache
from typing import NamedTuple

from sqlalchemy import Connection, text

from cli.stores.snapshots import Snapshots
from shared import projection
from shared.database import engines, sqlite
from shared.domain.projections import PROJECTIONS
from shared.projection import Projection
from shared.schemas import check as schema
from shared.schemas import migrations
from shared.schemas.folding import Wrong
from shared.settings import Settings
from shared.stores import event_store, sessions, subjects

TOKEN = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|\w+|[^\w\s]""")
NAME = re.compile(r"""'[^']*'|"[^"]*"|[\w,]+""")

FORMER = {"attempts", "commands_by_stream", "streams", "sweeps"}
"""Tables and indexes that stores from before there were revisions may still have."""

STATISTICS = {"sqlite_sequence", "sqlite_stat1", "sqlite_stat4"}
"""Tables that SQLite makes by itself."""

CODE = {"as", "case", "check", "collate", "generated", "on", "references", "select"}
"""Words with which a table is more than names and types of columns."""

ON_SQLITE = text("SELECT type, name, tbl_name, coalesce(sql, '') FROM sqlite_schema")
ON_POSTGRESQL = text("""
    WITH ours AS (SELECT oid, relname, relkind FROM pg_class WHERE relnamespace = current_schema()::regnamespace)
    SELECT 'trigger', tgname, relname, prosrc
        FROM pg_trigger JOIN ours ON ours.oid = tgrelid JOIN pg_proc ON pg_proc.oid = tgfoid WHERE NOT tgisinternal
    UNION ALL SELECT 'rule', rulename, relname, '' FROM pg_rewrite JOIN ours ON ours.oid = ev_class
        WHERE rulename <> '_RETURN'
    UNION ALL SELECT 'policy', polname, relname, '' FROM pg_policy JOIN ours ON ours.oid = polrelid
    UNION ALL SELECT 'view', relname, relname, '' FROM ours WHERE relkind IN ('v', 'm', 'f')
""")

METADATA = {"inbox": sessions.table.metadata, "event_store": event_store.metadata, "subjects": subjects.metadata}


class Object(NamedTuple):
    """A table, index, trigger, view, rule or policy; `sql` is the statement that made it, in words."""

    type: str
    name: str
    table: str
    sql: tuple[str, ...]


def check(settings: Settings, stores: Snapshots) -> Iterator[int]:
    """Yields how many objects each store has. Raises Wrong at an object that this version doesn't make."""
    connections = {settings.inbox: stores.inbox, settings.event_store: stores.log, settings.subjects: stores.people}
    connections |= {settings.read_model_of(name): each for name, each in stores.read_models.items()}
    for store, url in schema.stores(settings):
        if url in connections:
            yield _check(connections[url], settings, store, url)


def check_file(settings: Settings, store: str, url: str) -> None:
    """Check a file that may come from anywhere: its objects and its pages. Raises Wrong."""
    with engines.reading(url) as connection:
        _check(connection, settings, store, url)
        found = str(connection.exec_driver_sql("PRAGMA integrity_check(1)").scalar())
        if found != "ok":
            filled = schema.projections(settings, store, url)
            raise Wrong(f"{_name(store, filled)} is damaged: {' '.join(found.split())}")


def _check(connection: Connection, settings: Settings, store: str, url: str) -> int:
    filled = schema.projections(settings, store, url)
    if connection.dialect.name == "sqlite":
        found, known = _found(connection), _on_sqlite(store)
    else:
        found, known = _found_on_postgresql(connection, store), _on_postgresql()
    for each in sorted(found - known):
        if not _is_harmless(each, known, more_indexes=bool(filled)):
            raise Wrong(f"{_name(store, filled)} has the {each.type} {each.name!r}, which this version doesn't know")
    return len(found)


def _name(store: str, projections: Sequence[Projection]) -> str:
    alone = [f" {each.name}" for each in projections if len(projections) == 1]
    return "".join(["the ", store.replace("_", " "), *alone])


def _found(connection: Connection) -> set[Object]:
    rows = connection.execute(ON_SQLITE)
    return {Object(type, name, table, _words(sql)) for type, name, table, sql in rows}


@cache
def _on_sqlite(store: str) -> set[Object]:
    """The objects of a store at any revision, since a backup may be older. Once each read model had all tables."""
    known: set[Object] = set()
    for connection in migrations.at_each_revision(store):
        known |= _found(connection)
    if store != "read_model":
        return known
    with engines.briefly(sqlite.in_memory()) as engine, engine.begin() as connection:
        for each in PROJECTIONS.values():
            projection.metadata.create_all(connection, tables=each.tables)
        return known | _found(connection)


def _found_on_postgresql(connection: Connection, store: str) -> set[Object]:
    """Objects that belong to the store's tables; the database may have others."""
    tables = METADATA.get(store, projection.metadata).tables
    rows = connection.execute(ON_POSTGRESQL)
    return {Object(type, name, table, _words(sql)) for type, name, table, sql in rows if table in tables}


def _on_postgresql() -> set[Object]:
    from shared.schemas.migrations.event_store.r0001_tables import APPEND_ONLY  # noqa: PLC0415 it loads Alembic

    _, body, _ = APPEND_ONLY["postgresql"][0].split("$$")
    return {Object("trigger", name, "events", _words(body)) for name in ("events_refuse", "events_refuse_update")}


def _is_harmless(each: Object, known: set[Object], *, more_indexes: bool) -> bool:
    """Whether an older version or SQLite itself made the object, and there is no code in it.

    `more_indexes`: a newer version that runs beside this one may have made some.
    """
    names = {other.name for other in known} | FORMER | STATISTICS
    if each.type == "table":
        return each.name in names and _is_plain_table(each)
    if each.type == "index" and each.table in names:
        by_itself = not each.sql and each.name.startswith("sqlite_autoindex_")
        return by_itself or (_is_plain_index(each) and (more_indexes or each.name in names))
    return False


def _is_plain_table(each: Object) -> bool:
    """Whether a table has only columns, types, keys, and values that are written out."""
    beginning, rest = each.sql[:4], each.sql[4:]
    named = [("create", "table", name, "(") for name in (each.name.casefold(), f'"{each.name}"')]
    if beginning not in named or CODE & {*rest}:
        return False
    return all(itertools.starmap(_is_plain, zip(("(", *rest), rest, (*rest[1:], ""), strict=False)))


def _is_plain(before: str, word: str, after: str) -> bool:
    """Whether a word is harmless: a name, or a bracket that lists columns or has a type's length."""
    if word == "(":
        return before in {"key", "unique"} or (before != "default" and after.isdecimal())
    return bool(NAME.fullmatch(word)) or word == ")"


def _is_plain_index(each: Object) -> bool:
    """Whether an index is one of columns, for all rows."""
    made = " ".join(each.sql)
    return bool(re.fullmatch(r"create (unique )?index \S+ on \S+ \( (\w+|\"[^\"]*\")( , (\w+|\"[^\"]*\"))* \)", made))


def _words(sql: str) -> tuple[str, ...]:
    return tuple(word if word[0] in "'\"" else word.casefold() for word in TOKEN.findall(sql))
