"""A database may hold code: a backup with any that this version doesn't know isn't restored, and verify tells."""

import hashlib
import json
import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pysqlite3.dbapi2 as sqlite3
import pytest
from sqlalchemy import Engine, text

from cli.stores import schemas
from cli.stores.snapshots import snapshots
from shared.database import engines, sqlite
from shared.domain.projections import PROJECTIONS
from shared.schemas import check, migrations
from shared.schemas.folding import Wrong
from shared.settings import Settings
from tests.stores.test_schema import BEFORE_REVISIONS
from tests.support.command_line import cqrs, told
from tests.support.stores import Stores, elsewhere, refusing

UNKNOWN = {
    "trigger": "CREATE TRIGGER evil AFTER INSERT ON {} BEGIN SELECT 1; END",
    "view": "CREATE VIEW evil AS SELECT 1",
    "virtual table": "CREATE VIRTUAL TABLE evil USING fts5(x)",
    "table": "CREATE TABLE evil (x)",
    "index of an expression": "CREATE INDEX evil ON {} (abs(length({})))",
    "index of some rows": "CREATE INDEX evil ON {} ({}) WHERE {} <> 'x'",
}  # fmt: skip

TABLES = {"inbox": "commands", "event_store": "events", "read_model": "users"}

REPLACED = [
    "CREATE TABLE users (user_id INTEGER, first_name TEXT, more INTEGER AS (abs(user_id)))",
    "CREATE TABLE users (user_id INTEGER, first_name TEXT CHECK (length(first_name) < 3))",
    "CREATE TABLE users (user_id INTEGER DEFAULT (random()))",
    "CREATE TABLE users (user_id INTEGER REFERENCES users (user_id) ON DELETE CASCADE)",
    "CREATE VIEW users AS SELECT 1 AS user_id",
    "CREATE VIRTUAL TABLE users USING fts5(user_id)",
]

HARMLESS = [
    "CREATE TABLE users (user_id INTEGER, \"check\" VARCHAR(9) DEFAULT 'a', PRIMARY KEY (user_id), UNIQUE (user_id))",
    "ALTER TABLE users ADD COLUMN more INTEGER",
    "CREATE INDEX more ON users (user_id, more)",
    "ANALYZE",
]


@pytest.fixture
def backup(stores: Stores, tmp_path: Path) -> Path:
    cqrs(stores.settings, "backup", str(tmp_path / "backup"))
    return tmp_path / "backup"


def at(folder: Path) -> Settings:
    return Settings(data_dir=folder, _env_file=None)


def change(file: Path, *statements: str) -> None:
    with closing(sqlite3.connect(str(file), isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


def seal(backup: Path) -> None:
    """As whoever changed it would."""
    manifest = json.loads((backup / "backup.json").read_text())
    for name in ("inbox.db", "events.db"):
        manifest["sha256"][name] = hashlib.sha256((backup / name).read_bytes()).hexdigest()
    (backup / "backup.json").write_text(json.dumps(manifest))


def refused(settings: Settings, backup: Path) -> str:
    before = {path.name: path.read_bytes() for path in settings.data_dir.glob("*.db")}
    said = cqrs(settings, "restore", str(backup), code=1)
    assert said.count("\n") == 1, said
    assert {path.name: path.read_bytes() for path in settings.data_dir.glob("*.db")} == before
    return said.strip()


@pytest.mark.parametrize("store", TABLES)
def test_each_kind_is_told_in_each_store(stores: Stores, store: str) -> None:
    url = dict(check.stores(stores.settings)[:3])[store]
    url = stores.settings.read_model_of("users") if store == "read_model" else url
    schemas.check_file(stores.settings, store, url)
    for kind, statement in UNKNOWN.items():
        column = "version" if store == "read_model" else "stream"
        change(sqlite.path_of(url), statement.format(TABLES[store], column, column))
        with pytest.raises(Wrong, match=f"has the {kind.split()[-1] if 'table' in kind else kind.split()[0]} 'evil"):
            schemas.check_file(stores.settings, store, url)
        change(sqlite.path_of(url), f"DROP {kind.split()[-1] if 'table' in kind else kind.split()[0]} evil")
    schemas.check_file(stores.settings, store, url)


@pytest.mark.parametrize("statement", REPLACED)
def test_a_table_of_ours_that_holds_code_is_told(stores: Stores, statement: str) -> None:
    url = stores.settings.read_model_of("users")
    change(sqlite.path_of(url), "DROP TABLE users", statement)
    with pytest.raises(Wrong, match="'users"):
        schemas.check_file(stores.settings, "read_model", url)


def test_what_holds_no_code_may_be_another_version_s(stores: Stores) -> None:
    url = stores.settings.read_model_of("users")
    for statement in ["DROP TABLE users", *HARMLESS]:
        change(sqlite.path_of(url), statement)
    schemas.check_file(stores.settings, "read_model", url)


def test_an_index_of_ours_with_another_statement_is_told(stores: Stores) -> None:
    file = sqlite.path_of(stores.settings.event_store)
    change(file, "DROP INDEX outcomes_failed", "CREATE INDEX outcomes_failed ON outcomes (seq) WHERE status = 'other'")
    with pytest.raises(Wrong, match="outcomes_failed"):
        schemas.check_file(stores.settings, "event_store", stores.settings.event_store)


def test_a_trigger_of_ours_that_does_something_else_is_told(stores: Stores) -> None:
    its = "CREATE TRIGGER events_refuse_update BEFORE UPDATE ON events BEGIN SELECT 1; END"
    change(sqlite.path_of(stores.settings.event_store), "DROP TRIGGER events_refuse_update", its)
    assert told(stores.settings, "verify", code=1)["wrong"] == (
        "the event store has the trigger 'events_refuse_update', which this version doesn't know"
    )


def test_a_backup_with_code_replaces_nothing_and_none_of_it_runs(
    stores: Stores, made: Callable[[Path], Settings], backup: Path, tmp_path: Path
) -> None:
    here = made(tmp_path / "here")
    ran = "CREATE TRIGGER evil AFTER INSERT ON outcomes BEGIN DELETE FROM unique_keys; END"
    change(backup / "events.db", ran)
    seal(backup)
    assert refused(here, backup) == "cqrs: the event store has the trigger 'evil', which this version doesn't know"


def test_a_backup_whose_pages_do_not_fit_replaces_nothing(
    stores: Stores, made: Callable[[Path], Settings], backup: Path, tmp_path: Path
) -> None:
    change(
        backup / "events.db", "PRAGMA writable_schema = ON", "DELETE FROM sqlite_schema WHERE name = 'events_by_type'"
    )
    seal(backup)
    assert "the event store is damaged" in refused(made(tmp_path / "here"), backup)


@pytest.mark.parametrize("store", check.REVISIONS)
def test_a_store_of_any_revision_is_known(tmp_path: Path, store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for revision in range(1, int(check.REVISIONS[store]) + 1):
        with monkeypatch.context() as patched:
            patched.setitem(check.REVISIONS, store, f"{revision:04}")
            url = f"sqlite:///{tmp_path / f'{revision}.db'}"
            migrations.upgrade(url, store)
        schemas.check_file(at(tmp_path), store, url)


def test_a_store_of_the_first_days_is_known(tmp_path: Path) -> None:
    settings = at(tmp_path)
    with closing(sqlite3.connect(str(tmp_path / "events.db"))) as old:
        old.executescript(BEFORE_REVISIONS)
        old.execute("CREATE TABLE sweeps (seq INTEGER NOT NULL)")
    schemas.check_file(settings, "event_store", settings.event_store)
    migrations.upgrade(settings.event_store, "event_store")
    schemas.check_file(settings, "event_store", settings.event_store)


def test_a_read_model_may_have_the_tables_of_all_projections_as_it_once_had(
    made: Callable[[Path], Settings], tmp_path: Path
) -> None:
    settings = made(tmp_path)
    with closing(sqlite3.connect(str(tmp_path / "read-emails.db"))) as old:
        old.execute("CREATE TABLE users (user_id INTEGER NOT NULL, first_name VARCHAR NOT NULL, PRIMARY KEY (user_id))")
        old.execute("CREATE TABLE daily (date VARCHAR NOT NULL, created INTEGER NOT NULL, PRIMARY KEY (date))")
    schemas.check_file(settings, "read_model", settings.read_model_of("emails"))


@pytest.mark.both_engines
def test_what_the_code_makes_is_known(stores: Stores) -> None:
    with snapshots(stores.settings) as seen:
        assert sum(schemas.check(stores.settings, seen))


@pytest.mark.parametrize("engine", ["postgresql"], indirect=True)
def test_triggers_rules_and_policies_on_a_server_are_told(stores: Stores) -> None:
    def wrong() -> str:
        return str(told(stores.settings, "verify", code=1)["wrong"])

    def do(*statements: str) -> None:
        with stores.events.begin() as connection:
            for statement in statements:
                connection.execute(text(statement))

    with refusing(stores.read_model, "INSERT", "users"):
        assert wrong() == "the read model has the trigger 'no', which this version doesn't know"
    do("CREATE RULE evil AS ON INSERT TO outcomes DO INSTEAD NOTHING")
    assert wrong() == "the event store has the rule 'evil', which this version doesn't know"
    do("DROP RULE evil ON outcomes", "CREATE POLICY evil ON commands USING (false)")
    assert wrong() == "the inbox has the policy 'evil', which this version doesn't know"
    do("DROP POLICY evil ON commands", "CREATE VIEW evil AS SELECT 1")
    assert told(stores.settings, "verify")["well"]
    body = "CREATE OR REPLACE FUNCTION events_refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'"
    do(body)
    assert wrong() == "the event store has the trigger 'events_refuse', which this version doesn't know"


@pytest.mark.parametrize("what", ["link", "pipe", "folder"])
@pytest.mark.parametrize("name", ["events.db", "backup.json"])
def test_what_is_no_file_of_a_backup_is_refused_and_not_waited_for(
    stores: Stores, backup: Path, made: Callable[[Path], Settings], tmp_path: Path, name: str, what: str
) -> None:
    (backup / name).rename(tmp_path / name)
    match what:
        case "link":
            (backup / name).symlink_to(tmp_path / name)
        case "pipe":
            os.mkfifo(backup / name)
        case "folder":
            (backup / name).mkdir()
    said = refused(made(tmp_path / "here"), backup)
    assert said.startswith(
        f"cqrs: {backup} is no backup: " if name == "backup.json" else f"cqrs: {backup / name} is no file of a backup: "
    )


def test_what_else_is_in_a_backup_s_folder_is_left_there(stores: Stores, backup: Path, tmp_path: Path) -> None:
    (backup / "events.db-wal").write_bytes(b"no log")
    (backup / "read-others.db").symlink_to("/dev/zero")
    os.mkfifo(backup / "inbox.db-shm")
    (backup / ".env").write_text("CQRS_MAX_WAIT=long")
    cqrs(elsewhere(stores.settings, tmp_path / "restored"), "restore", str(backup))
    restored = {path.name for path in (tmp_path / "restored").iterdir()}
    read_models = {f"read-{name}.db" for name in PROJECTIONS}
    assert restored == {"inbox.db", "events.db", "subjects.db", "master.key", "up.lock", *read_models}


@pytest.mark.parametrize("lacks", ["taken_at", "last_command", "last_event", "sha256"])
def test_a_note_that_lacks_anything_is_none(stores: Stores, backup: Path, tmp_path: Path, lacks: str) -> None:
    manifest = json.loads((backup / "backup.json").read_text())
    del manifest[lacks]
    (backup / "backup.json").write_text(json.dumps(manifest))
    assert "it has no backup.json that can be read" in refused(at(tmp_path / "restored"), backup)


@pytest.mark.parametrize("make", [engines.reader, lambda url: engines.writer(url, lock="x")])
def test_no_connection_trusts_a_file_s_schema(stores: Stores, make: Callable[[str], Engine]) -> None:
    engine = make(stores.settings.event_store)
    with engines.briefly(engine) as opened, opened.connect() as connection:
        found = [connection.exec_driver_sql(f"PRAGMA {its}").scalar() for its in ("trusted_schema", "cell_size_check")]
    assert found == [0, 1]
