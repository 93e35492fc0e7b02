"""The watch over rules: a note of the command being decided outlives the process that a rule ends."""

import ctypes
import faulthandler
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import NamedTuple

from sqlalchemy import Connection

from shared.database.keepalive import Life
from shared.errors.reasons import is_ours, place
from shared.plain import Plain
from shared.stores.deciding import NOBODY, SOMEBODY, Note

LIMIT_SECONDS = 5.0
"""How long deciding one command may take; then the process ends itself."""


FRAME = re.compile(r'^ +File "(.*)", line (\d+) in (\S+)$', re.MULTILINE)
"""A frame in faulthandler's trace, which begins with the innermost: its file, line and function."""


class Died(Plain):
    """The process that was deciding the command is gone."""

    def __init__(self) -> None:
        super().__init__("it ended the process that was deciding on it")


class Hung(Plain):
    """Deciding the command took too long. `trace`: what faulthandler wrote, "" if it isn't known where it hung."""

    def __init__(self, trace: str = "") -> None:
        super().__init__(f"deciding took longer than {LIMIT_SECONDS:g} s{_where(trace)}")
        if trace:
            self.add_note(trace)


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


def _where(trace: str) -> str:
    """Where it hung, in the innermost code that is no library's."""
    frames = FRAME.findall(trace.partition("Current thread")[2])
    ours = [frame for frame in frames if is_ours(frame[0])] or frames
    return next((f" in {place(function, file, int(line))}" for file, line, function in ours), "")


@cache
def _end_at_alarm() -> None:
    """Have an alarm end the process after faulthandler's trace.

    The default doesn't end process 1, which a worker is in a container.
    """
    libc = ctypes.CDLL(None)
    libc.signal(signal.SIGALRM, libc._exit)  # noqa: SLF001
