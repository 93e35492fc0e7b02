"""The watch over rules: a note of the command being decided outlives the process that a rule ends."""

import ctypes
import faulthandler
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import NamedTuple

from sqlalchemy import Connection

from shared.database.keepalive import Life
from shared.plain import Plain
from shared.stores.deciding import NOBODY, SOMEBODY, Note

LIMIT_SECONDS = 5.0
"""How long deciding one command may take; then the process ends itself."""


class Died(Plain):
    """The process that was deciding the command is gone."""

    def __init__(self) -> None:
        super().__init__("it ended the process that was deciding on it")


class Hung(Plain):
    """Deciding the command took too long. The exception's note, if it has one, says where."""

    def __init__(self, where: str = "") -> None:
        super().__init__(f"deciding took longer than {LIMIT_SECONDS:g} s")
        if where:
            self.add_note(where)


class Suspect(NamedTuple):
    """The command that was being decided when a process ended. Its seq is `SOMEBODY` if the note doesn't name it."""

    seq: int
    error: Exception


class Watch:
    """Records which command is being decided. Only the holder of the event store's lock may use it."""

    def __init__(self, note: Note) -> None:
        self._note = note
        self._exactly = True
        self._life = Life()

    def suspect(self, connection: Connection) -> Suspect | None:
        """The command that a process was deciding when it ended; None if none did since the last `deciding`."""
        seq, where = self._note.read(connection)
        return None if seq == NOBODY else Suspect(seq, Hung(where) if where else Died())

    @contextmanager
    def deciding(self, connection: Connection, *, exactly: bool) -> Iterator[None]:
        """Wraps calls of `on`. Clears the suspect. `exactly`: record every command, even at a round trip each."""
        self._exactly = exactly or self._note.cheap
        self._note.write(connection, NOBODY if self._exactly else SOMEBODY)
        _end_at_alarm()
        faulthandler.register(signal.SIGALRM, file=self._note.trace, chain=True)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            faulthandler.unregister(signal.SIGALRM)
            if not connection.invalidated:  # else the error under way would become another, which is no trouble
                self.clear(connection)

    def clear(self, connection: Connection) -> None:
        """Record that no command is being decided."""
        self._note.write(connection, NOBODY)

    def on(self, connection: Connection, seq: int) -> None:
        """Record the next command. If it hangs, an alarm has faulthandler write where, and ends the process."""
        if self._exactly:
            self._note.write(connection, seq)
        else:
            self.show_life(connection)
        signal.setitimer(signal.ITIMER_REAL, LIMIT_SECONDS)

    def show_life(self, connection: Connection) -> None:
        """Keep a database server from ending the transaction, if the note is on one."""
        if not self._note.cheap:
            self._life.show(connection)


@cache
def _end_at_alarm() -> None:
    """Have an alarm end the process after faulthandler's trace.

    The default doesn't end process 1, which a worker is in a container.
    """
    libc = ctypes.CDLL(None)
    libc.signal(signal.SIGALRM, libc._exit)  # noqa: SLF001
