"""A service that has been used a lot, made in seconds: all stores as handling the commands would leave them."""

from contextlib import closing
from pathlib import Path

import pysqlite3.dbapi2 as sqlite3

from shared.database import engines, sqlite
from shared.domain.projections import PROJECTIONS
from shared.personal.ciphers import Cipher, sealed
from shared.settings import Settings
from shared.stores import event_store
from shared.stores.subjects import Subjects, master_of

AT = "2026-01-31T12:00:00.000000Z"

INDEXES = "SELECT name, sql FROM main.sqlite_schema WHERE type = 'index' AND sql IS NOT NULL"
"""The log's. They are made anew when all is there: much faster."""


def fill(settings: Settings, events: int) -> None:
    """Put so many events, rounded down to a multiple of 3, and all that goes with them into empty stores."""
    connection = sqlite3.connect(sqlite.path_of(settings.event_store), isolation_level=None)
    others = {
        "inbox": settings.inbox,
        "subjects": settings.subjects,
        **{name: settings.read_model_of(name) for name in PROJECTIONS},
    }
    for name, url in others.items():
        connection.execute(f"ATTACH ? AS {name}", (str(sqlite.path_of(url)),))
    for schema in ("main", *others):
        connection.execute(f"PRAGMA {schema}.synchronous = OFF")
        connection.execute(f"PRAGMA {schema}.cache_size = -100000")
    indexes = connection.execute(INDEXES).fetchall()
    for name, _ in indexes:
        connection.execute(f"DROP INDEX {name}")
    with closing(Subjects.of(settings)) as people:
        blind = people.blind
    connection.create_function("wrapped", 2, master_of(settings).wrap)
    connection.create_function("hashed", 1, lambda email: blind("email", email))
    connection.create_function("sealed", 5, _sealed)
    for statement in Path(__file__).with_suffix(".sql").read_text(encoding="utf-8").split(";\n"):
        connection.execute(statement, {"blocks": events // 3, "at": AT})
    for _, sql in indexes:
        connection.execute(sql)
    connection.close()
    with engines.writing(settings.event_store, lock=event_store.LOCK, durable=False) as log:
        event_store.seal(log)


USERS = """
    WITH RECURSIVE numbers (n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM numbers WHERE n < ?)
    INSERT INTO {table} ({columns})
    SELECT n, 'Zoë', 'Müller-Lüdenscheidt', 'person' || n || '@example.com', 1 {key} FROM numbers
"""


def fill_users(settings: Settings, users: int) -> None:
    """Put so many users into the empty read models alone; nobody can be changed."""
    columns = "user_id, first_name, last_name, email, version"
    for name, more, key in (("users", "", ""), ("emails", ", key", ", 'person' || n || '@example.com'")):
        connection = sqlite3.connect(sqlite.path_of(settings.read_model_of(name)), isolation_level=None)
        connection.execute("PRAGMA synchronous = OFF")
        indexes = connection.execute(INDEXES).fetchall()
        for index, _ in indexes:
            connection.execute(f"DROP INDEX {index}")
        connection.execute(USERS.format(table=name, columns=columns + more, key=key), (users,))
        for _, sql in indexes:
            connection.execute(sql)
        connection.close()


def _sealed(key: bytes, place: str, names: str, others: str, personal: str) -> str:
    return sealed(others.encode(), personal.encode(), names, Cipher(key), place).decode()
