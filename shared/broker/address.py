"""The address of Redis: its URL, the socket of the embedded server, and the installation's name in its keys."""

import hashlib
import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import make_url

from shared.settings import Settings

SOCKET_PATH_MAX = 100
"""Bytes: the kernels' limit is 104 (macOS) or 108 (Linux)."""


def url_of(settings: Settings) -> str:
    """The URL of Redis. Raises OSError if another user may listen at the embedded server's socket."""
    if settings.redis_url:
        return settings.redis_url
    socket = socket_of(settings)
    if socket.parent != settings.data_dir:
        check_folder(socket.parent, settings.data_dir)
    return f"redis+socket://{quote(str(socket))}"


def socket_of(settings: Settings) -> Path:
    """The socket of the embedded server: in the data dir or, if its path is too long, in a temporary folder."""
    path = settings.data_dir / "valkey.sock"
    if len(bytes(path)) <= SOCKET_PATH_MAX:
        return path
    digest = hashlib.sha256(bytes(settings.data_dir)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"cqrs-{digest}" / "valkey.sock"


def check_folder(folder: Path, data_dir: Path) -> None:
    """Check that the socket's folder, whose name can be guessed, is open to its owner alone. Raises OSError.

    The owner must be this user, or the owner of the data dir.
    """
    with suppress(FileNotFoundError):
        its = folder.lstat()
        owners = {os.geteuid(), *(each.stat().st_uid for each in [data_dir] if each.exists())}
        if not stat.S_ISDIR(its.st_mode) or its.st_uid not in owners or its.st_mode & 0o077:
            raise PermissionError(f"{folder}, where the embedded Valkey is to listen, is open to others")


def namespace_of(settings: Settings) -> str:
    """The installation's name: the same for all roles, even if each is a user of its own in the database."""
    return settings.installation or hashlib.sha256(_place(settings.event_store).encode()).hexdigest()[:12]


def _place(store: str) -> str:
    """A store's URL without user, password and options."""
    if store.startswith("sqlite:"):
        return store
    url = make_url(store)
    hosts = url.normalized_query.get("host") or (url.host or "localhost",)
    ports = url.normalized_query.get("port") or (str(url.port or 5432),)
    return f"{','.join(hosts)}:{','.join(ports)}/{url.database or url.username}"
