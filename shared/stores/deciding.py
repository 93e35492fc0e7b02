"""Notes that outlive a process and its transaction: what the holder of the event store's lock was deciding on."""

import os
import re
import sys
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from sqlalchemy import Connection, Select, bindparam, column, func, literal_column, select, table
from sqlalchemy import Sequence as NumberSequence

from shared.database import engines, sqlite
from shared.database.statements import fetch
from shared.stores.event_store import metadata

DECIDING = NumberSequence("deciding", metadata=metadata, start=0, minvalue=0)

NOBODY = 0

SOMEBODY = 2**63 - 1
"""In a seq's place: a command is being decided, and it is not told which."""

HEADER = 21
"""Bytes of a file's first line: the seq, padded, and its end. Behind it stands where the rule hung, if it did."""


class Noted(NamedTuple):
    """A command's seq, and where its rule hung, if that is known."""

    seq: int
    where: str = ""


class Note(Protocol):
    """For who holds the event store's lock, and for nobody else: there is one for all workers."""

    cheap: bool
    """A microsecond to write; not a trip to a server."""

    def read(self, connection: Connection) -> Noted: ...

    def write(self, connection: Connection, seq: int) -> None: ...

    @property
    def trace(self) -> int:
        """The file descriptor to which is written where a rule hangs."""
        ...


def note_of(url: str) -> Note:
    """The note of an event store."""
    return FileNote(sqlite.path_of(url)) if engines.is_local(url) else SequenceNote()


class FileNote:
    """A file beside the store's, like SQLite's own."""

    cheap = True

    def __init__(self, store: Path) -> None:
        self._file = self.of(store)

    @staticmethod
    def of(store: Path) -> Path:
        return store.with_name(f"{store.name}-deciding")

    def read(self, _: Connection) -> Noted:
        header, __, where = os.pread(self.trace, 2**16, 0).decode(errors="replace").partition("\n")
        if not re.fullmatch(r" *[1-9][0-9]{0,17}", header):  # after a power failure it may be anything
            return Noted(NOBODY)
        return Noted(int(header), where)

    def write(self, _: Connection, seq: int) -> None:
        os.pwrite(self.trace, b"%*d\n" % (HEADER - 1, seq), 0)
        if seq == NOBODY:
            os.ftruncate(self.trace, HEADER)

    @cached_property
    def trace(self) -> int:
        fd = os.open(self._file, os.O_RDWR | os.O_CREAT, 0o600)
        os.lseek(fd, HEADER, os.SEEK_SET)
        return fd


class SequenceNote:
    """A sequence of PostgreSQL: what is set there is seen by others at once, and is not undone with the transaction."""

    cheap = False

    def read(self, connection: Connection) -> Noted:
        return Noted(*fetch(connection, _last_value)[0])

    def write(self, connection: Connection, seq: int) -> None:
        fetch(connection, _set_value, seq=seq)

    @property
    def trace(self) -> int:
        return sys.stderr.fileno()


_last_value: Select[Any] = select(column("last_value")).select_from(table(DECIDING.name))
_set_value: Select[Any] = select(func.setval(literal_column(f"'{DECIDING.name}'"), bindparam("seq")))
