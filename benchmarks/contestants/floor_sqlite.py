"""What SQLite itself costs: the rows that the event store wrote, inserted anew into tables and indexes like them."""

import time
from pathlib import Path
from typing import Any

import pysqlite3.dbapi2 as sqlite3

from benchmarks.contestants import ours
from shared.schemas import migrations
from shared.stores import event_store


def append(folder: Path, count: int, *, together: int) -> dict[str, float]:
    """Events appended a second, `together` of them in a transaction."""
    ours.append(folder, count, together=together)
    rows = _rows(folder / "events.db")
    floor = folder / "floor.db"
    migrations.upgrade(f"sqlite:///{floor}", "event_store")
    connection = sqlite3.connect(floor, isolation_level=None)
    connection.execute("PRAGMA synchronous = FULL")
    began = time.perf_counter()
    for start in range(0, count, together):
        connection.execute("BEGIN IMMEDIATE")
        for statement, its in rows.items():
            connection.executemany(statement, its[start : start + together])
        connection.execute("COMMIT")
    return {f"append {together}": count / (time.perf_counter() - began)}


def _rows(file: Path) -> dict[str, list[Any]]:
    """The rows by the statement that inserts them. Each event was its stream's first, so every table has as many."""
    store = sqlite3.connect(file)
    found = {}
    for table in event_store.metadata.tables:
        rows = store.execute(f"SELECT * FROM {table}").fetchall()
        if rows:
            found[f"INSERT INTO {table} VALUES ({', '.join('?' * len(rows[0]))})"] = rows
    return found
