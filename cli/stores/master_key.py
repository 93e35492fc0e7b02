"""The master key of an installation whose settings name none: a file in the data dir, made once."""

import os
import secrets
from pathlib import Path
from tempfile import NamedTemporaryFile

from sqlalchemy import Connection, inspect

from cli.errors import Refused
from cli.stores.backup import sync
from shared.database import engines, sqlite
from shared.personal.ciphers import KEY_BYTES
from shared.settings import Settings
from shared.stores import subjects
from shared.stores.subjects import NoMasterKey


def make_master_key(settings: Settings) -> None:
    """Make the file unless a setting has the key, or the file is there. Raises Refused, or NoMasterKey on a server."""
    path = settings.master_file
    if settings.master_key or path.exists():
        return
    if not engines.is_local(settings.subjects):
        raise NoMasterKey(settings)
    if sqlite.path_of(settings.subjects).exists():
        with engines.reading(settings.subjects) as connection:
            if _wraps_anything(connection):
                raise Refused(
                    f"{path} is missing, the master key: without it no personal data can be read; put it back"
                )
    _make(path)


def _wraps_anything(connection: Connection) -> bool:
    has_table = inspect(connection).has_table(subjects.secret_table.name)
    return has_table and subjects.secret_in(connection, subjects.secret_table) is not None


def _make(path: Path) -> None:
    """Make the file whole or not at all; of several processes that do so at once, one makes it."""
    with NamedTemporaryFile("w", dir=path.parent, prefix=".master-") as file:  # private: mode 600
        file.write(secrets.token_hex(KEY_BYTES))
        file.flush()
        os.fsync(file.fileno())
        try:
            path.hardlink_to(file.name)
        except FileExistsError:
            return
    sync(path.parent)
