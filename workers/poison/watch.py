"""Watching the rules: which command is being decided stands in a note, which outlives the process that a rule ends."""

import ctypes
import faulthandler
import os
import signal
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import NamedTuple

from sqlalchemy import Connection

from shared.database.keepalive import Life
from shared.errors.reasons import Plain
from shared.stores.deciding import NOBODY, SOMEBODY, Note
from shared.telemetry import logs

LIMIT = 5.0
"""Seconds that deciding on one command may take; then the process ends itself."""

AT_ONCE = 16
"""Probes that run side by side."""

SURVIVED = 77
"""The exit code of a probe that got through; a rule that ends its process may use any, 0 above all."""


class Died(Plain):
    """The process that was deciding is gone."""


class Hung(Plain):
    """Deciding took too long. The note says where."""


class Suspect(NamedTuple):
    """The command that was being decided when a process ended; `SOMEBODY`, if the note tells no more."""

    seq: int
    error: Exception


class Watch:
    """For who holds the event store's lock."""

    def __init__(self, note: Note) -> None:
        self._note = note
        self._exactly = True
        self._life = Life()

    def suspect(self, connection: Connection) -> Suspect | None:
        """Left by a process that ended while it was deciding; None if none did since the last `deciding`."""
        seq, where = self._note.read(connection)
        return None if seq == NOBODY else Suspect(seq, _hung(where) if where else _died())

    @contextmanager
    def deciding(self, connection: Connection, *, exactly: bool) -> Iterator[None]:
        """Around `on`. Forgets the suspect. `exactly`: each command is noted, even if that is a trip to a server."""
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
                self.forget(connection)

    def forget(self, connection: Connection) -> None:
        """Nothing is being decided."""
        self._note.write(connection, NOBODY)

    def on(self, connection: Connection, seq: int) -> None:
        """Note the command that is next. If it hangs, an alarm has faulthandler write where, and ends the process."""
        if self._exactly:
            self._note.write(connection, seq)
        else:
            self.show_life(connection)
        signal.setitimer(signal.ITIMER_REAL, LIMIT)

    def show_life(self, connection: Connection) -> None:
        if not self._note.cheap:
            self._life.show(connection)


def probe(rules: Mapping[int, Callable[[], object]], show_life: Callable[[], None]) -> dict[int, Exception]:
    """What rules would do to this process, by their keys, each tried in one of its own; none of those it survives."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # if it was ignored, nobody could wait for a process
    found: dict[int, Exception | None] = {}
    running: dict[int, int] = {}
    for key, rule in rules.items():
        if len(running) == AT_ONCE:
            found |= _end_of(running)
            show_life()
        running[_start(rule)] = key
    while running:
        found |= _end_of(running)
        show_life()
    return {key: error for key, error in found.items() if error}


def _start(rule: Callable[[], object]) -> int:
    """Returns the process, which ends in `LIMIT` at the latest."""
    if not (child := _fork()):
        try:
            logs.silence()  # what it raises is told when it is done for good
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.setitimer(signal.ITIMER_REAL, LIMIT)
            rule()
            os._exit(SURVIVED)
        finally:
            os._exit(1)
    return child


def _end_of(running: dict[int, int]) -> dict[int, Exception | None]:
    """Wait for the first that was started."""
    process = next(iter(running))
    key = running.pop(process)
    match os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]):
        case code if code == SURVIVED:
            return {key: None}
        case code if code == -signal.SIGALRM:
            return {key: _hung()}
        case _:
            return {key: _died()}


def _died() -> Died:
    return Died("it ended the process that was deciding on it")


def _hung(where: str = "") -> Hung:
    error = Hung(f"deciding took longer than {LIMIT:g} s")
    if where:
        error.add_note(where)
    return error


@cache
def _end_at_alarm() -> None:
    """What faulthandler calls last. By default a signal doesn't end process 1, as which a container runs a worker."""
    libc = ctypes.CDLL(None)
    libc.signal(signal.SIGALRM, libc._exit)  # noqa: SLF001


def _fork() -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads in this process: the child needs none of them
        return os.fork()
