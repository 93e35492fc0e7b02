"""`cqrs projections rebuild`, `pause` and `resume`: a read model made anew while the one before it serves."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Engine, text

from shared import database, projection
from shared.projection import Stands
from shared.read_models import PROJECTIONS
from tests.command_line import told
from tests.helpers import Stores, accept, create, update
from workers import projections

pytestmark = pytest.mark.both_engines


@pytest.fixture
def used(stores: Stores) -> Stores:
    """Five users, one of them moved; every read model shows it."""
    happen(stores)
    for name in PROJECTIONS:
        catch_up(stores, name)
    return stores


def happen(stores: Stores) -> None:
    accept(stores, *(create(f"{n}@example.com") for n in range(1, 6)), update(3, "new@example.com"))
    while stores.handler.handle():
        pass


@contextmanager
def writing(stores: Stores, name: str) -> Iterator[Engine]:
    engine = database.writer(stores.settings.read_model_of(name), lock=name, durable=False)
    with database.briefly(engine):
        yield engine


def catch_up(stores: Stores, name: str) -> None:
    with writing(stores, name) as engine:
        while projections.catch_up(stores.events, engine, PROJECTIONS[name]):
            pass


def write(stores: Stores, name: str, statement: str) -> None:
    with writing(stores, name) as engine, engine.begin() as connection:
        connection.execute(text(statement))


def rows(stores: Stores, what: str) -> list[tuple[Any, ...]]:
    """Of the users' read model."""
    with database.reader(stores.settings.read_model_of("users")).connect() as connection:
        return [tuple(row) for row in connection.execute(text(f"SELECT {what} FROM users ORDER BY user_id"))]


def stands(stores: Stores, name: str = "users") -> Stands:
    with database.reader(stores.settings.read_model_of(name)).connect() as connection:
        return projection.stands(connection, name)


def is_clean(stores: Stores) -> bool:
    """Nothing is left beside the read model."""
    if stores.events.name == "sqlite":
        return not [each for each in stores.settings.data_dir.glob("*-rebuild*") if not each.name.endswith("-lock")]
    with database.reader(stores.settings.read_model).connect() as connection:
        return not connection.scalar(text("SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'rebuild%'"))


@pytest.mark.parametrize("name", PROJECTIONS)
def test_a_read_model_that_was_damaged_is_as_the_log_has_it(used: Stores, name: str) -> None:
    table = {"users": "users", "emails": "emails", "stats": "daily"}[name]
    write(used, name, f"DELETE FROM {table}")
    done = told(used.settings, "projections", "rebuild", name)
    assert (done["position"], done["differ"], done["switched"]["position"]) == (6, True, 6)
    assert told(used.settings, "verify")["well"]
    assert is_clean(used)
