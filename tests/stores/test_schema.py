"""The stores' schemas: `cqrs init` brings them to the newest revision; a role that finds another one refuses."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pysqlite3.dbapi2 as sqlite3
import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, make_url, text
from sqlalchemy.exc import DBAPIError

from cli.stores.init import init
from shared import projection
from shared.database import engines, sqlite
from shared.schemas import check, migrations
from shared.schemas.check import REVISIONS
from shared.settings import Settings
from shared.stores import event_store, inbox, subjects
from tests.support.command_line import cqrs
from tests.support.service import clean_environment, eventually, free_port, start
from tests.support.stores import Stores, hashed

ROOT = Path(__file__).parents[2]

METADATA = {
    "inbox": inbox.metadata,
    "event_store": event_store.metadata,
    "read_model": projection.metadata,
    "subjects": subjects.metadata,
}

API = ["api"]
WORKER = ["celery", "--quiet", "--app", "workers.app", "worker", "-Q", "commands"]

BEFORE_REVISIONS = """
    CREATE TABLE events (position INTEGER NOT NULL, stream VARCHAR NOT NULL, version INTEGER NOT NULL,
        type VARCHAR NOT NULL, data TEXT NOT NULL, metadata TEXT NOT NULL, recorded_at VARCHAR NOT NULL,
        PRIMARY KEY (position));
    CREATE UNIQUE INDEX events_by_stream ON events (stream, version);
    CREATE INDEX events_by_type ON events (type, position);
    CREATE TRIGGER events_refuse_update BEFORE UPDATE ON events
        BEGIN SELECT RAISE(ABORT, 'events are append-only'); END;
    CREATE TABLE streams (stream VARCHAR NOT NULL, version INTEGER NOT NULL, PRIMARY KEY (stream));
    CREATE TABLE outcomes (seq INTEGER NOT NULL, status VARCHAR NOT NULL, version INTEGER, position INTEGER,
        problem TEXT, handled_at VARCHAR NOT NULL, PRIMARY KEY (seq));
    INSERT INTO events VALUES (1, 'user-1', 1, 'UserCreated', '{}', '{}', '2026-01-01T00:00:00Z');
    INSERT INTO outcomes VALUES (1, 'succeeded', 1, 1, NULL, '2026-01-01T00:00:00Z');
"""
"""An event store of the first days."""

CREATED = """INSERT INTO events VALUES (1, 'user-1', 1, 'UserCreated',
    '{"user_id"\\:1,"first_name"\\:"A","last_name"\\:"B","email"\\:"a@example.com"}', '{}', '2026')"""


@pytest.fixture
def another(engine: str, new_database: Callable[..., dict[str, Any]], tmp_path: Path) -> Settings:
    """A place for stores beside those of `settings`."""
    urls = new_database() if engine == "postgresql" else {}
    return Settings(data_dir=tmp_path / "another", _env_file=None, **urls)


@pytest.fixture
def new(made: Callable[[Path], Settings], tmp_path: Path) -> Settings:
    """Stores as `cqrs init` leaves them."""
    return made(tmp_path / "new")


def shape(settings: Settings) -> dict[str, Any]:
    """What there is to be seen of each table."""
    tables: dict[str, Any] = {}
    for _, url in check.stores(settings):
        with read(url) as connection:
            found = inspect(connection)
            for name in set(found.get_table_names()) - {f"{store}_schema" for store in REVISIONS}:
                tables[name] = {
                    "columns": {
                        each["name"]: (str(each["type"]), each["nullable"]) for each in found.get_columns(name)
                    },
                    "key": found.get_pk_constraint(name)["constrained_columns"],
                    "unique": sorted(each["column_names"] for each in found.get_unique_constraints(name)),
                    "indexes": {each["name"]: index(each) for each in found.get_indexes(name)},
                    "options": found.get_table_options(name),
                }
    return tables


def index(found: Any) -> tuple[Any, ...]:
    """Its columns, whether it is unique, and for which rows it is."""
    options = found["dialect_options"]
    return found["column_names"], bool(found["unique"]), {name: str(option) for name, option in options.items()}


@contextmanager
def read(url: str) -> Iterator[Any]:
    with engines.reading(url) as connection:
        yield connection


def write(url: str, *statements: str) -> None:
    with engines.writing(url, lock="test", create=True) as connection:
        for statement in statements:
            connection.execute(text(statement))


def rows(url: str, statement: str) -> list[tuple[Any, ...]]:
    with read(url) as connection:
        return [tuple(row) for row in connection.execute(text(statement))]


def set_revision(url: str, store: str, revision: str) -> None:
    write(url, f"UPDATE {store}_schema SET version_num = '{revision}'")


def environment(settings: Settings) -> dict[str, str]:
    return settings.variables() | {"CQRS_API_PORT": str(free_port())}


def begin_init(settings: Settings) -> "subprocess.Popen[str]":
    settings.data_dir.mkdir(mode=0o700, exist_ok=True)
    return subprocess.Popen(
        [sys.executable, "-m", "cli", "init"],
        cwd=settings.data_dir,
        env=clean_environment() | environment(settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.parametrize("store", REVISIONS)
def test_roles_need_the_newest_revision_that_alembic_knows(store: str) -> None:
    config = Config(ROOT / "alembic.ini", ini_section=store)
    assert ScriptDirectory.from_config(config).get_heads() == [REVISIONS[store]]


@pytest.mark.both_engines
def test_the_histories_make_the_tables_of_the_code(new: Settings, another: Settings) -> None:
    another.data_dir.mkdir()
    for store, url in check.stores(another):
        with engines.briefly(engines.writer(url, lock="test", create=True)) as engine:
            METADATA[store].create_all(engine)
    assert shape(new) == shape(another)


@pytest.mark.both_engines
def test_a_log_can_not_be_changed(new: Settings, engine: str) -> None:
    write(new.event_store, "INSERT INTO events VALUES (1, 'a-1', 1, 'A', '{}', '{}', '2026', 1, 'hash')")
    before = rows(new.event_store, "SELECT * FROM events")
    truncate = ["TRUNCATE events"] if engine == "postgresql" else []
    for change in ["UPDATE events SET type = 'B'", "DELETE FROM events", *truncate]:
        with pytest.raises(DBAPIError, match="append-only"):
            write(new.event_store, change)
    assert rows(new.event_store, "SELECT * FROM events") == before


def test_a_data_dir_from_before_there_were_revisions_is_adopted(settings: Settings, new: Settings) -> None:
    settings.data_dir.mkdir()
    with closing(sqlite3.connect(sqlite.path_of(settings.event_store))) as old:
        old.executescript(BEFORE_REVISIONS)
    write(settings.inbox, "CREATE TABLE sequences (name VARCHAR NOT NULL, value INTEGER NOT NULL, PRIMARY KEY (name))")
    write(settings.inbox, "INSERT INTO sequences VALUES ('seq', 1)")
    init(settings)
    assert shape(settings) == shape(new)
    assert rows(settings.event_store, "SELECT position, stream, schema_version FROM events") == [(1, "user-1", 1)]
    assert rows(settings.event_store, "SELECT seq, status FROM outcomes") == [(1, "succeeded")]
    assert rows(settings.inbox, "SELECT * FROM sequences") == [("seq", 1)]


@pytest.mark.both_engines
@pytest.mark.parametrize("half_way", [False, True])
def test_an_older_schema_becomes_the_newest_and_keeps_its_data(
    settings: Settings, new: Settings, monkeypatch: pytest.MonkeyPatch, half_way: bool
) -> None:
    """Half-way, the version before has noted nothing yet."""
    monkeypatch.setitem(REVISIONS, "event_store", "0001")
    settings.data_dir.mkdir()
    for store, url in check.stores(settings):
        migrations.upgrade(url, store)
    write(settings.event_store, CREATED, "INSERT INTO unique_keys VALUES ('email', 'a@example.com', 'user-1')")
    monkeypatch.undo()
    if half_way and engines.is_local(settings.event_store):
        write(settings.event_store, "DELETE FROM event_store_schema", "DROP INDEX outcomes_failed")
    init(settings)
    assert shape(settings) == shape(new)
    assert rows(settings.event_store, "SELECT * FROM event_store_schema") == [(REVISIONS["event_store"],)]
    assert rows(settings.event_store, "SELECT value FROM unique_keys") == [tuple(hashed(settings, "a@example.com"))]


@pytest.mark.long
@pytest.mark.processes
@pytest.mark.both_engines
def test_several_may_start_at_once(settings: Settings, new: Settings) -> None:
    processes = [begin_init(settings) for _ in range(3)]
    said = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], said
    assert shape(settings) == shape(new)


@pytest.mark.both_engines
def test_a_revision_that_fails_leaves_everything_as_it_was(settings: Settings) -> None:
    settings.data_dir.mkdir()
    write(settings.event_store, "CREATE VIEW set_aside AS SELECT 1 AS stream")  # in the way of the last index
    with pytest.raises(DBAPIError, match=r"set_aside|indexed"):
        migrations.upgrade(settings.event_store, "event_store")
    assert tables(settings.event_store) == set()
    write(settings.event_store, "DROP VIEW set_aside")
    migrations.upgrade(settings.event_store, "event_store")
    assert {"events", "outcomes", "set_aside", "event_store_schema"} <= tables(settings.event_store)


def tables(url: str) -> set[str]:
    with read(url) as connection:
        return set(inspect(connection).get_table_names())


@pytest.mark.both_engines
@pytest.mark.parametrize("store", REVISIONS)
@pytest.mark.parametrize(
    ("found", "told"),
    [
        (None, "has no schema yet: run `cqrs init`"),
        ("0000", "is at revision 0000, this version needs {}: run `cqrs init`"),
        ("9999", "is at revision 9999, which this version doesn't know: it is newer"),
    ],
)
def test_what_is_wrong_is_told_with_what_to_do(settings: Settings, store: str, found: str | None, told: str) -> None:
    settings.data_dir.mkdir()
    url = dict(check.stores(settings))[store]
    migrations.upgrade(url, store)
    set_revision(url, store, found) if found else write(url, f"DROP TABLE {store}_schema")
    with read(url) as connection:
        wrong = check.compare(connection, store)
    assert str(wrong) == f"the {store.replace('_', ' ')} {told.format(REVISIONS[store])}"


@pytest.mark.both_engines
def test_init_refuses_a_newer_schema_and_changes_nothing(new: Settings) -> None:
    set_revision(new.inbox, "inbox", "9999")
    said = cqrs(new, "init", code=1)
    assert said == "cqrs: the inbox is at revision 9999, which this version doesn't know: it is newer\n"
    assert rows(new.inbox, "SELECT * FROM inbox_schema") == [("9999",)]


@pytest.mark.processes
@pytest.mark.parametrize("engine", ["postgresql"], indirect=True)
@pytest.mark.parametrize(
    ("role", "store", "revision"),
    [(API, "event_store", "0001"), (WORKER, "inbox", "9999")],
    ids=["api, older", "worker, newer"],
)
def test_a_role_refuses_an_older_and_a_newer_schema(new: Settings, role: list[str], store: str, revision: str) -> None:
    url = dict(check.stores(new))[store]
    set_revision(url, store, revision)
    with read(url) as connection:
        wrong = check.compare(connection, store)
    process = start(role, new.data_dir, environment(new))
    assert process.wait(60) == 1
    said = new.data_dir.with_suffix(".log").read_text()
    assert said.endswith(f"cqrs: {wrong}\n")
    assert "Traceback" not in said


@contextmanager
def away(url: str) -> Iterator[None]:
    """Nobody can reach the database."""
    if engines.is_local(url):
        file = sqlite.path_of(url)
        hidden = file.rename(file.with_suffix(".away"))
        yield
        hidden.rename(file)
        return
    parsed = make_url(url)
    name, server = parsed.database, parsed.set(drivername="postgresql", database="postgres").render_as_string()
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f'ALTER DATABASE "{name}" RENAME TO "{name}_away"')
        yield
        connection.execute(f'ALTER DATABASE "{name}_away" RENAME TO "{name}"')


@pytest.mark.processes
@pytest.mark.both_engines
@pytest.mark.parametrize("role", [API, WORKER], ids=["api", "worker"])
def test_p8_a_role_starts_without_a_store_and_refuses_it_once_it_can_be_asked(new: Settings, role: list[str]) -> None:
    set_revision(new.event_store, "event_store", "9999")
    with away(new.event_store):
        process = start(role, new.data_dir, environment(new))
        eventually(lambda: any(thread.id for thread in process.threads()[1:]), within=30)
        assert process.poll() is None
    assert process.wait(60) == 1
    assert "cqrs: the event store is at revision 9999" in new.data_dir.with_suffix(".log").read_text()


def test_init_says_where_the_data_is_without_the_password(settings: Settings, postgres: Any) -> None:
    url = make_url(postgres.database())
    secret = url.set(password="secret").update_query_dict({"password": "secret"}).render_as_string(hide_password=False)
    said = cqrs(settings.model_copy(update={"event_store_url": secret, "subjects_url": settings.subjects}), "init")
    told = url.render_as_string().replace("@", ":***@") + "?password=***"
    assert said == f"cqrs: the data is in {settings.data_dir} and {told}\n"


@pytest.mark.both_engines
def test_each_store_tells_its_revision_and_how_large_it_is(stores: Stores) -> None:
    for store, url in check.stores(stores.settings):
        with engines.reading(url) as connection:
            assert check.revision(connection, store) == REVISIONS[store]
            assert 10_000 < engines.size(connection, url) < 100_000_000


def test_init_tells_in_one_line_that_a_database_is_not_there(settings: Settings, postgres: Any) -> None:
    url = make_url(postgres.database()).set(database="nowhere").render_as_string()
    there = settings.model_copy(update={"event_store_url": url, "subjects_url": settings.subjects})
    said = cqrs(there, "init", code=1)
    assert said.count("\n") == 1, said
    assert "the database does not exist" in said


@pytest.mark.parametrize("engine", ["postgresql"], indirect=True)
@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_init_refuses_a_database_that_can_not_hold_every_character(
    settings: Settings, postgres: Any, encoding: str
) -> None:
    url = postgres.database("template0", encoding)
    there = settings.model_copy(update={"event_store_url": url, "subjects_url": settings.subjects})
    assert cqrs(there, "init", code=1) == f"cqrs: {url} has the encoding {encoding}; it must be UTF8\n"
