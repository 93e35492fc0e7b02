"""Metric files: each process under `cqrs up` counts in files of its own, and the API shows the sum of all of them.

PROMETHEUS_MULTIPROC_DIR names the folder and turns the files on. CQRS_PROCESS names this process's files, so that a
restarted role goes on with its counters; without it, the process's id names them.
"""

import os
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any

from prometheus_client.mmap_dict import MmapedDict, mmap_key

from shared.errors.reasons import reason_of
from shared.telemetry import logs

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
PROCESS = "CQRS_PROCESS"
"""As FOLDER, the name of an environment variable."""

FIRST_SIZE = 64 * 1024
"""Bytes of a new file. It doubles when it is full."""

ENTRY = 28
"""Bytes that the library puts around a key, at most."""

log = logs.logger()

_lock = Lock()
"""Held while a number or a file changes."""


class PreallocatedFile(MmapedDict):
    """A file in prometheus_client's format, for which disk space is allocated before it is mapped into memory.

    The library's own files are sparse: writing where the disk has no room left ends the process with SIGBUS.
    Methods raise OSError if there is no room.
    """

    def __init__(self, file: Path) -> None:
        if not file.exists():
            new = file.with_suffix(".new")  # whoever gathers the files must not find one that is empty
            new.write_bytes(bytes(FIRST_SIZE))
            new.rename(file)
        super().__init__(str(file))  # type: ignore[no-untyped-call]

    def _init_value(self, key: str) -> None:
        capacity = self._capacity
        while self._used + len(key.encode()) + ENTRY > capacity:
            capacity *= 2
        missing = capacity - os.fstat(self._f.fileno()).st_size
        while missing > 0:  # not posix_fallocate, which not every system and file system has
            missing -= os.write(self._f.fileno(), bytes(missing))
        super()._init_value(key)  # type: ignore[no-untyped-call]


class FileValue:
    """A metric's number, kept in memory and, if the disk has room, in this process's file for the metric's type.

    The first use of a number opens the file. These are the methods that prometheus_client calls. Exemplars and
    timestamps are left out: files can't hold exemplars, and no gauge of ours needs timestamps.
    """

    def __init__(self, typ: str, metric_name: str, name: str, *labels: Any, multiprocess_mode: str = "") -> None:
        self._kind = f"{typ}_{multiprocess_mode}" if multiprocess_mode else typ
        self._key = mmap_key(metric_name, name, *labels)
        self._value: float | None = None

    def get(self) -> float:
        with _lock:
            return self._known()

    def inc(self, amount: float) -> None:
        with _lock:
            self._write(self._known() + amount)

    def set(self, value: float) -> None:
        with _lock:
            self._write(value)

    def get_exemplar(self) -> None:
        return None

    def _known(self) -> float:
        """The number so far. It begins with what the last process of the same name counted."""
        if self._value is None:
            try:
                self._value = float(_file(self._kind).read_value(self._key)[0])  # type: ignore[no-untyped-call]
            except OSError as error:
                self._value = 0.0
                _warn(reason_of(error))
        return self._value

    def _write(self, value: float) -> None:
        self._value = value
        try:
            _file(self._kind).write_value(self._key, value, 0.0)  # type: ignore[no-untyped-call]
        except OSError as error:
            _warn(reason_of(error))


def folder() -> Path | None:
    """The folder of all processes' files; None if each process counts for itself."""
    name = os.environ.get(FOLDER)
    if not name:
        return None
    Path(name).mkdir(parents=True, exist_ok=True)
    return Path(name)


@cache
def _file(kind: str) -> PreallocatedFile:
    process = os.environ.get(PROCESS) or os.getpid()
    return PreallocatedFile((folder() or Path()) / f"{kind}_{process}.db")


@cache
def _warn(error: str) -> None:
    log.warning("no room for metrics: this process counts them for itself", error=error)
