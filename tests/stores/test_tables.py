"""The tables of projections are made by `cqrs init`, and held against the code when a role starts."""

from typing import Any

import pytest
from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Date,
    DateTime,
    Double,
    Enum,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    String,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    func,
    text,
)

from cli.stores.init import init
from shared import projection
from shared.database import engines
from shared.database.statements import BigInt, insert_rows
from shared.domain.projections import PROJECTIONS
from shared.domain.users.read_models import emails
from shared.projection import Projection
from shared.schemas import check, projection_tables
from shared.schemas.projection_tables import WrongTable
from shared.settings import Settings
from tests.support.command_line import cqrs, told
from tests.support.service import environment, start
from tests.support.stores import Stores, accept, create, deactivate
from workers.projecting import runner

TYPES: list[Any] = [BigInt, Integer, String, String(50), Text, Boolean, Float, Float(24), Double, Numeric(10, 2)]
TYPES += [Date, DateTime, DateTime(timezone=True), LargeBinary, JSON, Uuid, Enum("a", "b", name="letters")]

REBUILD = "the read model's table emails isn't as this version makes it: run `cqrs projections rebuild emails`"

CHANGES = {
    "a column less": ["ALTER TABLE emails DROP COLUMN last_name"],
    "another name": ["ALTER TABLE emails RENAME COLUMN last_name TO surname"],
    "another type": [
        "ALTER TABLE emails DROP COLUMN version",
        "ALTER TABLE emails ADD COLUMN version TEXT NOT NULL DEFAULT ''",
    ],
    "another order": [
        "ALTER TABLE emails DROP COLUMN last_name",
        "ALTER TABLE emails ADD COLUMN last_name VARCHAR NOT NULL DEFAULT ''",
    ],
    "no index": ["DROP INDEX emails_by_key"],
    "one more that is unique": ["CREATE UNIQUE INDEX more ON emails (email)"],
    "another index": ["DROP INDEX emails_by_key", "CREATE UNIQUE INDEX emails_by_key ON emails (key)"],
}


def change(settings: Settings, *statements: str, of: str = "emails") -> None:
    with engines.writing(settings.read_model_of(of), lock=of) as connection:
        for statement in statements:
            connection.execute(text(statement))


def replace_by(settings: Settings, table: Table) -> None:
    change(settings, "DROP TABLE emails")
    with engines.briefly(engines.writer(settings.read_model_of("emails"), lock="emails")) as engine:
        table.create(engine)


def wrong(settings: Settings, of: str = "emails") -> str | None:
    url = settings.read_model_of(of)
    with engines.reading(url) as connection:
        found = projection_tables.compare(connection, check.projections(settings, "read_model", url))
    return str(found) if found else None


@pytest.mark.both_engines
@pytest.mark.parametrize("what", CHANGES)
def test_a_table_of_another_shape_is_to_be_rebuilt(stores: Stores, what: str) -> None:
    assert wrong(stores.settings) is None
    change(stores.settings, *CHANGES[what])
    assert wrong(stores.settings) == REBUILD


@pytest.mark.both_engines
def test_a_table_without_its_primary_key_is_to_be_rebuilt(stores: Stores) -> None:
    columns = [Column(each.name, each.type, nullable=False) for each in emails.table.columns]
    without = Table("emails", MetaData(), *columns)
    Index("emails_by_key", without.c.key)
    replace_by(stores.settings, without)
    assert wrong(stores.settings) == REBUILD


@pytest.mark.both_engines
@pytest.mark.parametrize("nullable", [True, False])
def test_a_column_more_does_no_harm_if_it_may_be_empty(stores: Stores, nullable: bool) -> None:
    """A newer version made it, and this one is started again before it is replaced."""
    newer = emails.table.to_metadata(MetaData())
    newer.append_column(Column("name", String, nullable=nullable))
    Index("emails_by_name", newer.c.name)
    replace_by(stores.settings, newer)
    assert wrong(stores.settings) == (None if nullable else REBUILD)


def without_the_newest_column(settings: Settings) -> None:
    """As the version before made the tables."""
    for name in ("users", "emails"):
        change(settings, f"DROP INDEX IF EXISTS {name}_inactive", f"ALTER TABLE {name} DROP COLUMN active", of=name)


@pytest.mark.both_engines
def test_a_column_with_a_default_is_added_by_init_to_the_rows_that_are_there(stores: Stores) -> None:
    accept(stores, create("1@example.com"), create("2@example.com"), deactivate(2))
    stores.handler.handle()
    runner.catch_up(stores.events, stores.read_model, PROJECTIONS["users"])
    change(stores.settings, "UPDATE users SET active = true WHERE user_id = 2", of="users")
    without_the_newest_column(stores.settings)
    said = "the read model's table users isn't as this version makes it: run `cqrs init`"
    assert wrong(stores.settings, of="users") == said
    assert f"cqrs: {said}\n" in cqrs(stores.settings, "init", "--check", code=1)
    init(stores.settings)
    assert wrong(stores.settings, of="users") is wrong(stores.settings) is None
    with engines.reading(stores.settings.read_model_of("users")) as connection:
        assert projection_tables.are(connection, PROJECTIONS["users"].tables)
        assert list(connection.execute(text("SELECT user_id FROM users WHERE active ORDER BY user_id"))) == [(1,), (2,)]
    assert told(stores.settings, "projections", "rebuild", "users", "--check", code=1)["tables"]["users"]["rows"] == 1


@pytest.mark.both_engines
def test_the_version_before_works_on_with_the_column_of_this_one(stores: Stores) -> None:
    table = PROJECTIONS["users"].tables[0]
    columns = [Column(each.name, each.type, primary_key=each.primary_key, nullable=False) for each in table.columns]
    older = Table("users", MetaData(), *columns[:-1])
    with stores.read_model.begin() as connection:
        which = Projection(name="users", tables=[older], events={}, project=print)
        assert projection_tables.compare(connection, [which]) is None
        insert_rows(connection, older, [(1, "John", "Doe", "1@example.com", 1)])
        assert [row.active for row in connection.execute(table.select())] == [True]


@pytest.mark.both_engines
@pytest.mark.parametrize("what", ["a column less", "another order"])
def test_nothing_is_added_to_a_table_that_differs_otherwise(stores: Stores, what: str) -> None:
    without_the_newest_column(stores.settings)
    change(stores.settings, *CHANGES[what])
    with pytest.raises(WrongTable, match="rebuild emails"):
        init(stores.settings)
    assert wrong(stores.settings) == REBUILD


@pytest.mark.both_engines
def test_a_table_that_is_missing_is_made_by_init(stores: Stores) -> None:
    change(stores.settings, "DROP TABLE emails")
    assert wrong(stores.settings) == "the read model has no table emails yet: run `cqrs init`"
    init(stores.settings)
    assert wrong(stores.settings) is None


@pytest.mark.both_engines
def test_a_table_that_was_lost_with_its_rows_is_not_made_empty(stores: Stores) -> None:
    accept(stores, create())
    stores.handler.handle()
    change(stores.settings, "UPDATE checkpoints SET position = 1 WHERE projection = 'emails'", "DROP TABLE emails")
    with pytest.raises(WrongTable, match="rebuild emails"):
        init(stores.settings)
    assert wrong(stores.settings) == REBUILD


@pytest.mark.both_engines
def test_every_type_and_index_that_a_table_may_have_is_found_as_it_was_made(stores: Stores) -> None:
    columns = [Column(f"c{number}", type) for number, type in enumerate(TYPES)]
    table = Table("all_types", MetaData(), Column("id", String, primary_key=True), *columns, UniqueConstraint("c3"))
    Index("plain", table.c.c1, table.c.c2)
    Index("partial", table.c.c1, sqlite_where=text("c1 > 0"), postgresql_where=text("c1 > 0"))
    Index("lower", func.lower(table.c.id))
    which = Projection(name="users", tables=[table], events={}, project=print)
    with stores.read_model.begin() as connection:
        table.create(connection)
    with stores.read_model.connect() as connection:
        assert projection_tables.compare(connection, [which]) is None


def test_a_file_that_has_the_tables_of_others_too_is_as_good(stores: Stores) -> None:
    """As `cqrs init` made them once."""
    projection.metadata.create_all(stores.read_model)
    init(stores.settings)
    assert wrong(stores.settings, of="users") is None


@pytest.mark.processes
@pytest.mark.both_engines
def test_a_role_says_what_to_do_and_ends(stores: Stores) -> None:
    change(stores.settings, *CHANGES["a column less"])
    process = start(["api"], stores.settings.data_dir, environment(stores.settings))
    assert process.wait(60) == 1
    assert stores.settings.data_dir.with_suffix(".log").read_text().endswith(f"cqrs: {REBUILD}\n")


def test_init_says_what_to_do_in_one_line(stores: Stores) -> None:
    change(stores.settings, *CHANGES["a column less"])
    assert cqrs(stores.settings, "init", code=1) == f"cqrs: {REBUILD}\n"


def test_a_file_has_the_tables_of_its_projection_only(settings: Settings) -> None:
    init(settings)
    for name, which in PROJECTIONS.items():
        with engines.reading(settings.read_model_of(name)) as connection:
            found = set(connection.scalars(text("SELECT name FROM sqlite_schema WHERE type = 'table'")))
        assert found == {
            "advances",
            "checkpoints",
            "rebuilds",
            "stops",
            "read_model_schema",
            *(table.name for table in which.tables),
        }
