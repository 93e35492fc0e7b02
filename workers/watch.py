"""Watching the rules: which command is being decided stands in a file, which outlives the process that a rule ends."""

import faulthandler
import logging
import os
import signal
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

LIMIT = 5.0
"""Seconds that deciding on one command may take, give or take one; then the process ends itself."""

HEADER = 21
"""Bytes: the seq, padded, and a line's end. Behind it stands where the rule hung, if it did."""


class Died(Exception):
    """The process that was deciding is gone."""


class Hung(Exception):
    """Deciding took too long. The note says where."""


class Suspect(NamedTuple):
    """The command that was being decided when a process ended."""

    seq: int
    error: Exception


class Watch:
    """For whoever holds the event store's write lock, and for nobody else: there is one file for all workers."""

    def __init__(self, store: Path) -> None:
        """The file is beside the store's, like SQLite's own."""
        self._file = store.with_name(f"{store.name}-deciding")
        self._armed = 0.0

    def suspect(self) -> Suspect | None:
        """Left by a process that ended while it was deciding; None if none did since the last `deciding`."""
        header, _, where = os.pread(self._fd, 2**16, 0).decode(errors="replace").partition("\n")
        if not header.strip().isdigit() or not int(header):  # after a power failure it may be anything
            return None
        return Suspect(int(header), _hung(where) if where else _died())

    def probe(self, rule: Callable[[], object]) -> Exception | None:
        """What the rule would do to this process, tried in another one; None if that survives it."""
        self.forget()
        if not (child := _fork()):
            try:
                logging.disable()  # what it raises is told when it is done for good
                signal.signal(signal.SIGALRM, signal.SIG_DFL)
                signal.setitimer(signal.ITIMER_REAL, LIMIT)
                rule()
            finally:
                os._exit(0)
        match os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
            case 0:
                return None
            case hung if hung == -signal.SIGALRM:
                return _hung()
            case _:
                return _died()

    @contextmanager
    def deciding(self) -> Iterator[None]:
        """Around `on`. Forgets the suspect."""
        self.forget()
        try:
            yield
        finally:
            self.forget()

    def forget(self) -> None:
        """Nothing is being decided."""
        faulthandler.cancel_dump_traceback_later()
        self._armed = 0.0
        self._note(0)
        os.ftruncate(self._fd, HEADER)

    def on(self, seq: int) -> None:
        """Note the command that is next. If it hangs, faulthandler's thread writes down where and ends the process."""
        self._note(seq)
        if time.monotonic() > self._armed + 1:  # setting it anew for each command would cost more than deciding
            self._armed = time.monotonic()
            os.lseek(self._fd, HEADER, os.SEEK_SET)
            faulthandler.dump_traceback_later(LIMIT, exit=True, file=self._fd)

    @cached_property
    def _fd(self) -> int:
        return os.open(self._file, os.O_RDWR | os.O_CREAT, 0o644)

    def _note(self, seq: int) -> None:
        os.pwrite(self._fd, b"%*d\n" % (HEADER - 1, seq), 0)


def _died() -> Died:
    return Died("it ended the process that was deciding on it")


def _hung(where: str = "") -> Hung:
    error = Hung(f"deciding took longer than {LIMIT:g} s")
    error.add_note(where)
    return error


def _fork() -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads in this process: the child needs none of them
        return os.fork()
