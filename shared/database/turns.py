"""Turns: the writers of one SQLite file within a process, one after the other.

SQLite's own waiting sleeps, up to 100 ms at a time, also when the lock has long been free. Threads of one process need
not: whoever ends a transaction wakes the next. Processes still wait for each other at the file's lock.
"""

import os
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Any
from weakref import WeakValueDictionary


class Turn:
    """The turn at one file. A connection has it from the beginning of its transaction to the end."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._holder: Any = None

    def take(self, connection: Any, *, within: float) -> bool:
        """Take the turn for a connection, within so many seconds; returns whether it has it. 0: at once or not."""
        if not self._lock.acquire(timeout=within):
            return False
        self._holder = connection
        return True

    def leave(self, connection: Any) -> None:
        """Give the turn up, if the connection has it."""
        if self._holder is connection:
            self._holder = None
            self._lock.release()

    def leaving(self, end: Callable[[Any], None]) -> Callable[[Any], None]:
        """`end`, which commits or rolls back a connection's transaction; the turn is given up once none is open."""

        def end_and_leave(connection: Any) -> None:
            driver = connection.dbapi_connection
            try:
                end(connection)
            finally:
                if not driver.in_transaction:
                    self.leave(driver)

        return end_and_leave

    def begin_anew(self) -> None:
        """Forget who has the turn: in a forked process, the thread that would give it up is not there."""
        self._lock, self._holder = Lock(), None


_turns: WeakValueDictionary[Path, Turn] = WeakValueDictionary()


def turn_at(path: Path) -> Turn:
    """The turn at a file, the same for all engines of this process."""
    return _turns.setdefault(path, Turn())


def _begin_all_anew() -> None:
    for each in list(_turns.values()):
        each.begin_anew()


os.register_at_fork(after_in_child=_begin_all_anew)
