"""`cqrs backup` and `cqrs restore`: the stores' files at one point, taken while the service runs.

A backup is a folder that is a data dir: what the service needs, beside `backup.json`, which tells what was taken.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cli.alone import alone
from cli.errors import Refused
from cli.init import init
from cli.output import bar
from cli.verify import verify
from shared import database, event_store, inbox, schema, sqlite
from shared.messages import now
from shared.settings import Settings
from shared.verification import snapshots
from workers.notes import FileNote

MANIFEST = "backup.json"

BLOCK = 2**20
"""Bytes copied at once."""


def backup(settings: Settings, folder: Path) -> dict[str, Any]:
    """All of it or no folder; returns what was taken. Raises Refused."""
    _check_files(settings, "backed up", "pg_dump")
    if folder.exists():
        raise Refused(f"{folder} exists already")
    with _part_of(folder) as part:
        with snapshots(settings) as stores:
            taken = {
                "taken_at": now(),
                "last_command": inbox.last_seq(stores.inbox),
                "last_event": event_store.last_position(stores.log),
            }
            connections = [stores.inbox, stores.log, *stores.read_models.values()]
            for connection, path in zip(connections, _paths(_inside(settings, part)), strict=True):
                with bar(path.name) as show:
                    sqlite.copy(connection, path, show)
        taken["sha256"] = {path.name: _digest(path) for path in _paths(_inside(settings, part))}
        (part / MANIFEST).write_text(json.dumps(taken, indent=2) + "\n")
        _sync(part)
    return taken


def restore(settings: Settings, folder: Path) -> dict[str, Any]:
    """Put a backup in the place of what is there, once it is found to be whole. Raises Refused or Wrong."""
    _check_files(settings, "restored", "pg_restore")
    taken = _manifest(folder)
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    new = _beside(settings)
    with alone(settings):
        _check_unused(_paths(settings))
        try:
            for source, path in zip(_paths(_inside(settings, folder)), _paths(new), strict=True):
                path.parent.mkdir(parents=True, exist_ok=True)
                with bar(source.name) as show:
                    _copy(source, path, taken["sha256"].get(source.name), show)
            init(new)
            verify(new, quiet=True)
            _check_unused(_paths(settings))
            _replace(settings, new)
        finally:
            for path in _paths(new):
                _remove(path)
    return taken


def _replace(settings: Settings, new: Settings) -> None:
    """The inbox goes first and comes last: `cqrs init` refuses what an interruption would leave."""
    inbox_, *others = zip(_paths(new), _paths(settings), strict=True)
    _remove(inbox_[1])
    for source, path in [*others, inbox_]:
        _remove(path)
        source.rename(path)
        _sync(path.parent)
    FileNote.of(sqlite.path_of(settings.event_store)).unlink(missing_ok=True)


def _remove(path: Path) -> None:
    for each in (path, *(path.with_name(f"{path.name}-{what}") for what in ("wal", "shm"))):
        each.unlink(missing_ok=True)


def _check_files(settings: Settings, what: str, tool: str) -> None:
    if not all(database.is_local(url) for _, url in schema.stores(settings)):
        raise Refused(
            f"what is on PostgreSQL is {what} by its own {tool}, which sees a database at one point; "
            "of several databases, dump the read model's first, the inbox's last"
        )


def _check_unused(paths: list[Path]) -> None:
    for path in paths:
        if path.exists() and sqlite.is_used(path):
            raise Refused(f"{path} is in use: stop the service first")


def _manifest(folder: Path) -> dict[str, Any]:
    try:
        taken = json.loads((folder / MANIFEST).read_text())
        return {**taken, "sha256": dict(taken["sha256"])}
    except (OSError, ValueError, KeyError, TypeError):
        raise Refused(f"{folder} is no backup: it has no {MANIFEST} that can be read") from None


def _inside(settings: Settings, folder: Path) -> Settings:
    return settings.model_copy(
        update={"data_dir": folder.resolve(), "inbox_url": "", "event_store_url": "", "read_model_url": ""}
    )


def _beside(settings: Settings) -> Settings:
    """Files beside those that are there, so that one can take the other's place."""
    names = ("inbox", "event_store", "read_model")
    return settings.model_copy(update={f"{name}_url": f"{getattr(settings, name)}.new" for name in names})


def _paths(settings: Settings) -> list[Path]:
    """The inbox's comes first."""
    return [sqlite.path_of(url) for _, url in schema.stores(settings)]


@contextmanager
def _part_of(folder: Path) -> Iterator[Path]:
    """A folder that takes its name when it is whole."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        yield part
        part.rename(folder)
        _sync(folder.parent)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _copy(source: Path, path: Path, digest: str | None, show: Callable[[int, int], None]) -> None:
    total, done, found = source.stat().st_size if source.exists() else 0, 0, hashlib.sha256()
    if not total:
        raise Refused(f"{source} is missing")
    with source.open("rb") as reading, path.open("wb") as writing:
        while block := reading.read(BLOCK):
            found.update(block)
            writing.write(block)
            done += len(block)
            show(done, total)
        writing.flush()
        os.fsync(writing.fileno())
    if found.hexdigest() != digest:
        raise Refused(f"{source} isn't what was backed up: its checksum is another")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(folder: Path) -> None:
    """What was made or renamed in it survives power loss."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
