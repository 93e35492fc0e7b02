"""`cqrs restore`: puts a backup in the place of the stores, once it is found to be whole."""

import errno
import hashlib
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from pydantic import AwareDatetime, BaseModel
from sqlalchemy import Connection

from cli.errors import Refused
from cli.lock import alone
from cli.output import bar, complain
from cli.stores import key_file, people, schemas
from cli.stores.backup import MANIFEST, STORES, check_files, inside, paths_of, sync
from cli.stores.init import prepare
from cli.stores.verification import PEOPLE, Contested, name_of, verify
from shared.access.principals import operator_here
from shared.database import engines, sqlite
from shared.domain.projections import PROJECTIONS
from shared.operations import unkeyed
from shared.operations.record import BackupRestored, record
from shared.schemas import check
from shared.settings import Settings
from shared.stores import event_store, inbox, sessions
from shared.stores.deciding import FileNote
from workers.projecting.shadow import shadow_of

LATER = {PEOPLE, *map(name_of, PROJECTIONS.values())}
"""Checks that a backup isn't held to: read models are made anew, and people's keys are looked at by themselves."""

BLOCK = 2**20
"""Bytes copied at once."""


class Manifest(BaseModel):
    """The manifest that `cqrs backup` wrote: when, how much, and each file's checksum."""

    taken_at: AwareDatetime
    last_command: int
    last_event: int
    sha256: dict[str, str]


def restore(settings: Settings, folder: Path, keys: Path | None = None) -> dict[str, Any]:
    """Replace the stores by a backup; returns its manifest, and how many people are to be erased again.

    `keys`: a file with the keys of people, which replaces theirs. Raises Refused, Wrong or WrongMasterKey, and then
    nothing was replaced. Read models are filled once the service runs.
    """
    check_files(settings, "restored", "pg_restore")
    taken = _manifest(folder)
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    copied = [*STORES, *(["subjects"] if keys else [])]
    replaced = [*copied, "read_model"]
    new = _with_new_files(settings, replaced)
    with alone(settings):
        _check_unused(paths_of(settings, *replaced))
        try:
            sources = paths_of(inside(settings, folder), *STORES) + ([keys] if keys else [])
            for path in paths_of(new, *replaced):
                path.parent.mkdir(parents=True, exist_ok=True)
                _remove(path)  # a restore that was killed left it, with a log that would be taken for this one's
            for source, path in zip(sources, paths_of(new, *copied), strict=True):
                with bar(source.name) as show:
                    _copy(source, path, taken["sha256"].get(source.name), show, needs_digest=source != keys)
            for store, url in check.stores(new):
                if sqlite.path_of(url).exists():
                    schemas.check_file(new, store, url)
            _check_that_keys_are_here(new)
            prepare(new)
            _verify(new)
            _check_keys(settings, new, keys)
            _end_sessions(new)
            _record(new, taken)
            erased_again = people.finish(new)
            _check_unused(paths_of(settings, *replaced))
            _replace(settings, new, replaced)
        finally:
            for path in paths_of(new, *replaced):
                _remove(path)
    return taken | {"erased_again": len(erased_again)}


def _replace(settings: Settings, new: Settings, replaced: list[str]) -> None:
    """Replace the files. The inbox goes first and comes last: `cqrs init` refuses what an interruption leaves."""
    inbox_, *others = zip(paths_of(new, *replaced), paths_of(settings, *replaced), strict=True)
    _remove(inbox_[1])
    for source, path in [*others, inbox_]:
        _remove(path)
        source.rename(path)
        sync(path.parent)
    for name in PROJECTIONS:  # an interrupted rebuild's shadow is of the log before
        shadow_of(settings.read_model_of(name), name).remove()
    FileNote.of(sqlite.path_of(settings.event_store)).unlink(missing_ok=True)


def _verify(new: Settings) -> None:
    """Verify the new stores. Raises Wrong. Two users that hold one key don't stop a restore."""
    try:
        verify(new, quiet=True, but=LATER)
    except Contested as wrong:
        complain(str(wrong))


def _check_that_keys_are_here(new: Settings) -> None:
    """Raises Refused if the backup has people, and there is no store of their keys at all."""
    if sqlite.path_of(new.subjects).exists():
        return
    with engines.reading(new.event_store) as log:
        _refuse_without_keys(list(unkeyed.unreadable(log, list)))


def _check_keys(settings: Settings, new: Settings, keys: Path | None) -> None:
    """Raises Refused if people in the new log would be lost, or if the key file doesn't know who was erased."""
    with engines.reading(new.event_store) as log, engines.reading(new.subjects) as theirs:
        lost = list(unkeyed.unreadable_in(log, theirs))
        if not keys:
            _refuse_without_keys(lost)
            return
        key_file.check(new, keys, theirs, log)
        if sqlite.path_of(settings.subjects).exists():
            with engines.reading(settings.subjects) as ours:
                _check_not_stale(keys, theirs, ours, lost)
    if lost:
        complain(str(people.Lost(lost)))


def _check_not_stale(keys: Path, theirs: Connection, ours: Connection, lost: list[str]) -> None:
    """Raises Refused if the store that is here knows of erasures, or has keys of these people, and the file doesn't."""
    if since := people.erasures(ours).keys() - people.erasures(theirs).keys():
        raise Refused(f"{keys} is stale: it doesn't know that {unkeyed.in_words(sorted(since))} was erased")
    if here := people.keyed(ours, lost):
        raise Refused(f"{keys} lacks the keys of {unkeyed.in_words(here)}, which are here: restore without --keys")


def _refuse_without_keys(lost: list[str]) -> None:
    if lost:
        raise Refused(people.MISSING.format(unkeyed.in_words(lost)))


def _end_sessions(new: Settings) -> None:
    """Have everybody sign in to the console again: some of the backup's sessions were ended since."""
    with engines.writing(new.inbox, lock=inbox.LOCK) as connection:
        sessions.end_all(connection)


def _record(new: Settings, taken: dict[str, Any]) -> None:
    """Record the restore at the end of the new log, so that it is told if and only if that takes its place."""
    with engines.writing(new.event_store, lock=event_store.LOCK) as log:
        done = BackupRestored(taken_at=taken["taken_at"], last_event=taken["last_event"])
        record(log, done, by=operator_here())


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


def _with_new_files(settings: Settings, replaced: list[str]) -> Settings:
    """The settings with new files beside those of the stores that are replaced, to take their place."""
    return settings.model_copy(update={f"{name}_url": f"{getattr(settings, name)}.new" for name in replaced})


def _copy(
    source: Path, path: Path, digest: str | None, show: Callable[[int, int], None], *, needs_digest: bool
) -> None:
    """Raises Refused if the source isn't a file with this digest. Keys that came with another backup have none here."""
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
    if found.hexdigest() != digest and (digest or needs_digest):
        raise Refused(f"{source} isn't what was backed up: its checksum is another")


def _to_be_copied(source: Path) -> BinaryIO:
    try:
        return _open(source)
    except FileNotFoundError:
        raise Refused(f"{source} is missing") from None
    except OSError as error:
        raise Refused(f"{source} is no file of a backup: {error.strerror}") from None
