"""`cqrs backup`: copies the inbox and the event store as they are at one point, while the service runs.

A backup is a data dir with a manifest, `backup.json`, beside the two stores: what is personal in them is sealed. The
keys of people are in a file of their own beside it, to be kept apart. Read models, which hold personal data in the
clear, are in neither: they are filled from the log.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cli.errors import Refused
from cli.output import bar
from cli.stores.snapshots import snapshots
from shared.clock import now
from shared.database import engines, sqlite
from shared.operations import backups
from shared.schemas import check
from shared.settings import Settings
from shared.stores import event_store, inbox

MANIFEST = "backup.json"

STORES = "inbox", "event_store"
"""The stores that are in a backup."""


def backup(settings: Settings, folder: Path) -> dict[str, Any]:
    """Make a backup in a new folder, all of it or no folder; returns the manifest. Raises Refused.

    The keys of people are in the file `keys_of(folder)` once the folder is there.
    """
    check_files(settings, "backed up", "pg_dump")
    keys = keys_of(folder)
    for path in (folder, keys):
        if path.exists():
            raise Refused(f"{path} exists already")
    with _part_of(folder) as part:
        with snapshots(settings) as stores:
            taken: dict[str, Any] = {
                "taken_at": now(),
                "last_command": inbox.last_seq(stores.inbox),
                "last_event": event_store.last_position(stores.log),
            }
            connections = [stores.inbox, stores.log, stores.people]
            copies = [*paths_of(inside(settings, part), *STORES), part / keys.name]
            for connection, path in zip(connections, copies, strict=True):
                with bar(path.name) as show:
                    sqlite.copy(connection, path, show)
        taken["sha256"] = {path.name: _digest(path) for path in copies}
        with (part / MANIFEST).open("w") as manifest:
            manifest.write(json.dumps(taken, indent=2) + "\n")
            manifest.flush()
            os.fsync(manifest.fileno())
        (part / keys.name).rename(keys)
        sync(part)
        sync(keys.parent)
    backups.note(settings, backups.Taken(taken["taken_at"], taken["last_event"], str(folder.resolve())))
    return taken


def check_files(settings: Settings, what: str, tool: str) -> None:
    """Raises Refused, which names PostgreSQL's own tool, unless all stores are files."""
    if not all(engines.is_local(url) for _, url in check.stores(settings)):
        raise Refused(
            f"what is on PostgreSQL is {what} by its own {tool}, which sees a database at one point; "
            "of several databases, dump the read model's first, the inbox's last"
        )


def inside(settings: Settings, folder: Path) -> Settings:
    """The settings with the stores in another folder."""
    return settings.model_copy(
        update={"data_dir": folder.resolve(), "inbox_url": "", "event_store_url": "", "read_model_url": ""}
    )


def paths_of(settings: Settings, *stores: str) -> list[Path]:
    """The files of these stores, the inbox's first."""
    return [sqlite.path_of(url) for store, url in check.stores(settings) if store in stores]


def keys_of(folder: Path) -> Path:
    """The file with the keys of people that belongs to a backup."""
    return folder.with_name(f"{folder.name}.keys")


@contextmanager
def _part_of(folder: Path) -> Iterator[Path]:
    """A folder that takes its name when the block ends well."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        yield part
        part.rename(folder)
        sync(folder.parent)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(folder: Path) -> None:
    """Have what was made or renamed in a folder survive power loss."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
