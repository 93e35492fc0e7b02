"""`cqrs backup`: copies the stores' files as they are at one point, while the service runs.

A backup is a data dir with a manifest, `backup.json`, beside the stores.
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
from shared.schemas import check
from shared.settings import Settings
from shared.stores import event_store, inbox

MANIFEST = "backup.json"


def backup(settings: Settings, folder: Path) -> dict[str, Any]:
    """Make a backup in a new folder, all of it or no folder; returns the manifest. Raises Refused."""
    check_files(settings, "backed up", "pg_dump")
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
            for connection, path in zip(connections, paths_of(inside(settings, part)), strict=True):
                with bar(path.name) as show:
                    sqlite.copy(connection, path, show)
        taken["sha256"] = {path.name: _digest(path) for path in paths_of(inside(settings, part))}
        with (part / MANIFEST).open("w") as manifest:
            manifest.write(json.dumps(taken, indent=2) + "\n")
            manifest.flush()
            os.fsync(manifest.fileno())
        sync(part)
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


def paths_of(settings: Settings) -> list[Path]:
    """The stores' files, the inbox's first, but for that of people's keys."""
    return [sqlite.path_of(url) for store, url in check.stores(settings) if store != "subjects"]


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
