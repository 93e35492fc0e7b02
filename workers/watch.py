"""Watching the rules: which command is being decided stands in a file, which outlives the process that a rule ends."""

import ctypes
import faulthandler
import logging
import os
import re
import signal
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

LIMIT = 5.0
"""Seconds that deciding on one command may take; then the process ends itself."""

AT_ONCE = 16
"""Probes that run side by side."""

SURVIVED = 77
"""The exit code of a probe that got through; a rule that ends its process may use any, 0 above all."""

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

    def suspect(self) -> Suspect | None:
        """Left by a process that ended while it was deciding; None if none did since the last `deciding`."""
        header, _, where = os.pread(self._fd, 2**16, 0).decode(errors="replace").partition("\n")
        if not re.fullmatch(r" *[1-9][0-9]{0,17}", header):  # after a power failure it may be anything
            return None
        return Suspect(int(header), _hung(where) if where else _died())

    @contextmanager
    def deciding(self) -> Iterator[None]:
        """Around `on`. Forgets the suspect."""
        self.forget()
        faulthandler.register(signal.SIGALRM, file=self._fd, chain=True)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            faulthandler.unregister(signal.SIGALRM)
            self.forget()

    def forget(self) -> None:
        """Nothing is being decided."""
        self._note(0)
        os.ftruncate(self._fd, HEADER)

    def on(self, seq: int) -> None:
        """Note the command that is next. If it hangs, an alarm has faulthandler write where, and ends the process."""
        self._note(seq)
        signal.setitimer(signal.ITIMER_REAL, LIMIT)

    @cached_property
    def _fd(self) -> int:
        # What faulthandler calls last. By default a signal doesn't end process 1, as which a container runs a worker.
        libc = ctypes.CDLL(None)
        libc.signal(signal.SIGALRM, libc._exit)  # noqa: SLF001
        fd = os.open(self._file, os.O_RDWR | os.O_CREAT, 0o644)
        os.lseek(fd, HEADER, os.SEEK_SET)
        return fd

    def _note(self, seq: int) -> None:
        os.pwrite(self._fd, b"%*d\n" % (HEADER - 1, seq), 0)


def probe(rules: Mapping[int, Callable[[], object]]) -> dict[int, Exception]:
    """What rules would do to this process, by their keys, each tried in one of its own; none of those it survives."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # if it was ignored, nobody could wait for a process
    found: dict[int, Exception | None] = {}
    running: dict[int, int] = {}
    for key, rule in rules.items():
        if len(running) == AT_ONCE:
            found |= _end_of(running)
        running[_start(rule)] = key
    while running:
        found |= _end_of(running)
    return {key: error for key, error in found.items() if error}


def _start(rule: Callable[[], object]) -> int:
    """Returns the process, which ends in `LIMIT` at the latest."""
    if not (child := _fork()):
        try:
            logging.disable()  # what it raises is told when it is done for good
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


def _fork() -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads in this process: the child needs none of them
        return os.fork()
