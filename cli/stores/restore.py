"""`cqrs restore`: puts a backup in the place of the stores, once it is found to be whole."""

import errno
import hashlib
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from pydantic import AwareDatetime, BaseModel

from cli.errors import Refused
from cli.lock import alone
from cli.output import bar, complain
from cli.stores import schemas
from cli.stores.backup import MANIFEST, check_files, inside, paths_of, sync
from cli.stores.init import init
from cli.stores.verification import Contested, WrongReadModel, verify
from shared.access.principals import operator_here
from shared.database import engines, sqlite
from shared.domain.projections import PROJECTIONS
from shared.operations.record import BackupRestored, record
from shared.schemas import check, projection_tables
from shared.settings import Settings
from shared.stores import event_store
from shared.stores.deciding import FileNote
from workers.projecting.shadow import shadow_of

NEEDED = "inbox.db", "events.db"
"""Files that every backup must have."""

BLOCK = 2**20
"""Bytes copied at once."""


class Manifest(BaseModel):
    """The manifest that `cqrs backup` wrote: when, how much, and each file's checksum."""

    taken_at: AwareDatetime
    last_command: int
    last_event: int
    sha256: dict[str, str]


def restore(settings: Settings, folder: Path) -> dict[str, Any]:
    """Replace the stores by a backup; returns its manifest. Raises Refused or Wrong, and then nothing was replaced.

    A read model that the backup doesn't have, or not as this version makes it, is filled once the service runs.
    """
    check_files(settings, "restored", "pg_restore")
    taken = _manifest(folder)
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = _with_new_files(settings)
    with alone(settings):
        _check_unused(paths_of(settings))
        try:
            for source, path in zip(paths_of(inside(settings, folder)), paths_of(new), strict=True):
                path.parent.mkdir(parents=True, exist_ok=True)
                _remove(path)  # a restore that was killed left it, with a log that would be taken for this one's
                if source.name in taken["sha256"] or source.name in NEEDED:
                    with bar(source.name) as show:
                        _copy(source, path, taken["sha256"].get(source.name), show)
            for store, url in check.stores(new):
                if sqlite.path_of(url).exists():
                    schemas.check_file(new, store, url)
            _remove_other_shapes(new)
            init(new)
            _verify(new)
            _record(new, taken)
            _check_unused(paths_of(settings))
            _replace(settings, new)
        finally:
            for path in paths_of(new):
                _remove(path)
    return taken


def _replace(settings: Settings, new: Settings) -> None:
    """Replace the files. The inbox goes first and comes last: `cqrs init` refuses what an interruption leaves."""
    inbox_, *others = zip(paths_of(new), paths_of(settings), strict=True)
    _remove(inbox_[1])
    for source, path in [*others, inbox_]:
        _remove(path)
        source.rename(path)
        sync(path.parent)
    for name in PROJECTIONS:  # an interrupted rebuild's shadow is of the log before
        shadow_of(settings.read_model_of(name), name).remove()
    FileNote.of(sqlite.path_of(settings.event_store)).unlink(missing_ok=True)


def _verify(new: Settings) -> None:
    """Verify the new stores. Raises Wrong for what a restore can't mend.

    A read model that is wrong is emptied, to be filled from the log. Two users that hold one key don't stop a restore.
    """
    anew: set[str] = set()
    while True:
        try:
            verify(new, quiet=True, but=anew)
        except WrongReadModel as wrong:
            complain(f"{wrong}: {wrong.name} will be made anew")
            anew.add(wrong.name)
            _remove(sqlite.path_of(new.read_model_of(wrong.name)))
            init(new)
        except Contested as wrong:
            complain(str(wrong))
            return
        else:
            return


def _record(new: Settings, taken: dict[str, Any]) -> None:
    """Record the restore at the end of the new log, so that it is told if and only if that takes its place."""
    with engines.writing(new.event_store, lock=event_store.LOCK) as log:
        done = BackupRestored(taken_at=taken["taken_at"], last_event=taken["last_event"])
        record(log, done, by=operator_here())


def _remove_other_shapes(new: Settings) -> None:
    for name, which in PROJECTIONS.items():
        path = sqlite.path_of(url := new.read_model_of(name))
        if not path.exists():
            continue
        with engines.reading(url) as connection:
            wrong = projection_tables.compare(connection, [which])
        if wrong:
            _remove(path)


def _remove(path: Path) -> None:
    for each in (path, *(path.with_name(f"{path.name}-{what}") for what in ("wal", "shm"))):
        each.unlink(missing_ok=True)


def _check_unused(paths: list[Path]) -> None:
    for path in paths:
        if path.exists() and sqlite.is_used(path):
            raise Refused(f"{path} is in use: stop the service first")


def _manifest(folder: Path) -> dict[str, Any]:
    try:
        with _open(folder / MANIFEST) as file:
            return Manifest.model_validate_json(file.read(BLOCK)).model_dump(mode="json")
    except (OSError, ValueError):
        raise Refused(f"{folder} is no backup: it has no {MANIFEST} that can be read") from None


def _open(path: Path) -> BinaryIO:
    """Open a plain file: a link may lead anywhere, a pipe may have no end. Raises OSError."""
    file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "it is no file", str(path))
    return file


def _with_new_files(settings: Settings) -> Settings:
    """The settings with new files beside the stores', to take their place."""
    names = ("inbox", "event_store", "read_model")
    return settings.model_copy(update={f"{name}_url": f"{getattr(settings, name)}.new" for name in names})


def _copy(source: Path, path: Path, digest: str | None, show: Callable[[int, int], None]) -> None:
    """Raises Refused if the source isn't a file with this digest."""
    done, found = 0, hashlib.sha256()
    with _to_be_copied(source) as reading, path.open("wb") as writing:
        total = os.fstat(reading.fileno()).st_size
        while block := reading.read(BLOCK):
            found.update(block)
            writing.write(block)
            done += len(block)
            show(done, total)
        writing.flush()
        os.fsync(writing.fileno())
    if found.hexdigest() != digest:
        raise Refused(f"{source} isn't what was backed up: its checksum is another")


def _to_be_copied(source: Path) -> BinaryIO:
    try:
        return _open(source)
    except FileNotFoundError:
        raise Refused(f"{source} is missing") from None
    except OSError as error:
        raise Refused(f"{source} is no file of a backup: {error.strerror}") from None
