"""Notes of the command that is being decided, by which a rule that ended its process is found.

A note outlives the process and the transaction that wrote it.
"""

import os
import re
import sys
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import Connection, Select, bindparam, column, func, literal_column, select, table
from sqlalchemy import Sequence as NumberSequence

from shared.database import engines, sqlite
from shared.database.statements import fetch
from shared.stores.event_store import metadata

DECIDING = NumberSequence("deciding", metadata=metadata, start=0, minvalue=0)

NOBODY = 0
"""Written in place of a seq: no command is being decided."""

SOMEBODY = 2**63 - 1
"""Written in place of a seq: a command is being decided, and the note doesn't say which."""

HEADER_BYTES = 21
"""Bytes of the first line of a note's file: the seq, padded. The lines after it say where a rule hung."""


class Noted(NamedTuple):
    """A command's seq, and where its rule hung, if that is known."""

    seq: int
    where: str = ""


class FileNote:
    """The note of a SQLite store: a file beside the store's own, like those that SQLite makes."""

    cheap = True
    """Writing the note takes a microsecond."""

    def __init__(self, store: Path) -> None:
        self._file = self.of(store)

    @staticmethod
    def of(store: Path) -> Path:
        """The note's file for a store's file."""
        return store.with_name(f"{store.name}-deciding")

    def read(self, _: Connection) -> Noted:
        """What was written last; NOBODY if the file is unreadable: after a power failure it may hold anything."""
        header, __, where = os.pread(self.trace, 2**16, 0).decode(errors="replace").partition("\n")
        return Noted(int(header), where) if re.fullmatch(r" *[1-9][0-9]{0,17}", header) else Noted(NOBODY)

    def write(self, _: Connection, seq: int) -> None:
        """Note that the command with this seq is being decided."""
        os.pwrite(self.trace, b"%*d\n" % (HEADER_BYTES - 1, seq), 0)
        if seq == NOBODY:
            os.ftruncate(self.trace, HEADER_BYTES)

    @cached_property
    def trace(self) -> int:
        """The file descriptor for the traceback of a rule that hangs."""
        fd = os.open(self._file, os.O_RDWR | os.O_CREAT, 0o600)
        os.lseek(fd, HEADER_BYTES, os.SEEK_SET)
        return fd


class SequenceNote:
    """The note of a PostgreSQL store: a sequence, whose value other connections see at once and no rollback undoes."""

    cheap = False
    """Writing the note takes a round trip to the server."""

    def read(self, connection: Connection) -> Noted:
        """What was written last."""
        return Noted(*fetch(connection, _last_value)[0])

    def write(self, connection: Connection, seq: int) -> None:
        """Note that the command with this seq is being decided."""
        fetch(connection, _set_value, seq=seq)

    @property
    def trace(self) -> int:
        """The file descriptor for the traceback of a rule that hangs."""
        return sys.stderr.fileno()


Note = FileNote | SequenceNote
"""Records which command is being decided. Only the holder of the event store's lock may use it."""


def note_of(url: str) -> Note:
    """The note of an event store."""
    return FileNote(sqlite.path_of(url)) if engines.is_local(url) else SequenceNote()


_last_value: Select[Any] = select(column("last_value")).select_from(table(DECIDING.name))
_set_value: Select[Any] = select(func.setval(literal_column(f"'{DECIDING.name}'"), bindparam("seq")))
