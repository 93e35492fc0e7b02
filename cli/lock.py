"""The lock of a data dir: one process at a time runs the service there, or replaces its stores."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

from cli.errors import Refused
from shared.settings import Settings


@contextmanager
def alone(settings: Settings) -> Iterator[None]:
    """Hold the data dir's lock. Raises Refused. The kernel frees it however this process ends."""
    with (settings.data_dir / "up.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise Refused(f"{settings.data_dir} is in use by `cqrs up`, process {lock.read()}") from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield
