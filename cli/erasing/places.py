"""The places of an installation: the bytes of files, and the rows of tables on PostgreSQL."""

import bz2
import gzip
import lzma
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

from sqlalchemy import Connection

from cli.erasing.values import Value
from cli.errors import Refused
from shared.database import engines

BLOCK = 2**22
"""Bytes of a file that are searched at once."""

UNPACKED: Mapping[bytes, Callable[..., Any]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}
"""How compressed files are opened, by the bytes that they begin with."""

PACKED = {b"PK\x03\x04": "a zip archive", b"\x28\xb5\x2f\xfd": "zstd", b"PGDMP": "a dump in pg_dump's own format"}
"""What is compressed in ways that aren't looked through."""

COLUMNS = """
    SELECT table_schema, table_name, column_name, data_type = 'bytea'
    FROM information_schema.columns JOIN information_schema.tables USING (table_catalog, table_schema, table_name)
    WHERE table_schema NOT IN ('pg_catalog', 'information_schema') AND table_type = 'BASE TABLE'
      AND data_type IN ('bytea', 'text', 'character varying', 'character', 'json', 'jsonb', 'xml', 'ARRAY',
                        'USER-DEFINED')
    ORDER BY 1, 2, ordinal_position
"""


class Looked(NamedTuple):
    """A place that was looked through: how much of it, what was found, and what couldn't be looked through."""

    place: str
    amount: int
    unit: str
    found: tuple[str, ...]
    unread: str = ""


def files_in(place: Path) -> list[Path]:
    """All files of a folder, or the one that it is. Links aren't followed."""
    if place.is_file():
        return [place]
    return sorted(path for path in place.rglob("*") if path.is_file() and not path.is_symlink())


def look_through_file(path: Path, values: Sequence[Value]) -> Looked:
    """Look for each form of the values in a file, unpacked if it is compressed in a usual way."""
    try:
        with path.open("rb") as file:
            begin = file.read(16)
        if why := next((why for magic, why in PACKED.items() if begin.startswith(magic)), ""):
            return Looked(str(path), 0, "bytes", (), f"{why}: unpack it first")
        unpack = next((how for magic, how in UNPACKED.items() if begin.startswith(magic)), None)
        with unpack(path) if unpack else path.open("rb") as file:
            return Looked(str(path), *_look_through(file, values))
    except FileNotFoundError:
        return Looked(str(path), 0, "bytes", ())  # a log that was emptied
    except (OSError, EOFError, lzma.LZMAError) as error:
        return Looked(str(path), 0, "bytes", (), str(error))


def _look_through(file: IO[bytes], values: Sequence[Value]) -> tuple[int, str, tuple[str, ...]]:
    forms = [(value.name, form) for value in values for form in value.forms]
    overlap = max((len(form) for _, form in forms), default=1) - 1
    found: dict[str, int] = {}
    rest, size = b"", 0
    while block := file.read(BLOCK):
        searched = rest + block
        for name, form in forms:
            if name not in found and (at := searched.find(form)) >= 0:
                found[name] = size - len(rest) + at
        size += len(block)
        rest = searched[-overlap:] if overlap else b""
    return size, "bytes", tuple(f"{name} at byte {at:,}" for name, at in found.items())


def look_through_tables(url: str, values: Sequence[Value]) -> Iterator[Looked]:
    """Look for each form of the values in every text and every bytea of a database on PostgreSQL."""
    with engines.snapshot(url) as connection:
        columns: dict[tuple[str, str], list[tuple[str, bool]]] = {}
        for schema, table, column, is_binary in connection.exec_driver_sql(COLUMNS):
            columns.setdefault((schema, table), []).append((column, is_binary))
        for (schema, table), its in columns.items():
            yield _look_through_table(connection, schema, table, its, values)


def _look_through_table(
    connection: Connection, schema: str, table: str, columns: list[tuple[str, bool]], values: Sequence[Value]
) -> Looked:
    quote = connection.dialect.identifier_preparer.quote_identifier
    where = f"{quote(schema)}.{quote(table)}"
    found: list[str] = []
    for column, is_binary in columns:
        shown = quote(column) if is_binary else f"convert_to({quote(column)}::text, 'UTF8')"
        for name, form in {(value.name, form) for value in values for form in value.forms}:
            query = f"SELECT EXISTS (SELECT FROM {where} WHERE position(%s::bytea IN {shown}) > 0)"  # noqa: S608
            if connection.exec_driver_sql(query, (form,)).scalar():
                found.append(f"{name} in column {column}")
    rows = connection.exec_driver_sql(f"SELECT count(*) FROM {where}").scalar_one()  # noqa: S608
    return Looked(f"{schema}.{table}", int(rows), "rows", tuple(dict.fromkeys(found)))


def shown_by(ask: Callable[[str], bytes], paths: Sequence[str], values: Sequence[Value]) -> Iterator[Looked]:
    """Look for the values in what an API answers at these paths; `ask` gives the bytes of an answer."""
    for path in paths:
        try:
            body = ask(path)
        except Refused as error:
            yield Looked(f"GET {path}", 0, "bytes", (), str(error))
            continue
        found = tuple(value.name for value in values if any(form in body for form in value.forms))
        yield Looked(f"GET {path}", len(body), "bytes", tuple(dict.fromkeys(found)))
