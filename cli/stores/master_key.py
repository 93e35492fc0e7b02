"""The master key: a file in the data dir, made once, where the settings name none; and its rotation."""

import fcntl
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile

from sqlalchemy import Connection, bindparam, inspect, select

from cli.errors import Refused
from cli.output import bar
from cli.stores.backup import sync
from shared.access.principals import operator_here
from shared.database import engines, sqlite
from shared.database.statements import fetch, upsert_rows
from shared.operations.record import MasterKeyRotated, record
from shared.personal.ciphers import KEY_BYTES, Master
from shared.settings import Settings
from shared.stores import event_store, subjects
from shared.stores.event_store import PAGE_SIZE
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


def keep_secret(settings: Settings) -> None:
    """Keep the installation's secret in the store of people's keys and, as a copy, beside the event store."""
    master = subjects.master_of(settings)
    has_copy, copy = _copied_secret(settings)
    with engines.writing(settings.subjects, lock=subjects.LOCK) as connection:
        secret = subjects.secret_in(connection, subjects.secret_table)
        if not secret:
            secret = copy or subjects.new_secret(master)
            subjects.keep_secret(connection, subjects.secret_table, secret)
        master.unwrap(secret, subjects.SECRET)
    if has_copy and copy != secret:
        with engines.writing(settings.event_store, lock=event_store.LOCK) as log:
            subjects.keep_secret(log, event_store.secret_copies, secret)


def _copied_secret(settings: Settings) -> tuple[bool, bytes | None]:
    """Whether the event store has the table for the copy of the secret yet, and the copy, if it is there."""
    url, table = settings.event_store, event_store.secret_copies
    if engines.is_local(url) and not sqlite.path_of(url).exists():
        return False, None
    with engines.reading(url) as log:
        has_copy = inspect(log).has_table(table.name)
        return has_copy, subjects.secret_in(log, table) if has_copy else None


def _wraps_anything(connection: Connection) -> bool:
    has_table = inspect(connection).has_table(subjects.secret_table.name)
    return has_table and subjects.secret_in(connection, subjects.secret_table) is not None


def rotate(settings: Settings) -> int:
    """Wrap all keys of people, and the installation's secret, by a new master key; returns how many keys of people.

    The service may run meanwhile. Whenever this is interrupted, every key can be unwrapped by the master keys that
    are known then, and the next call goes on. Raises Refused if CQRS_MASTER_KEY doesn't have the new and the old one.
    """
    if settings.master_key:
        if len(subjects.master_of(settings)) == 1:
            raise Refused("set CQRS_MASTER_KEY to the new key, a comma and the old one, and restart all roles first")
        return _wrap_anew(settings)
    with _alone(settings.data_dir):
        texts = _read(settings.master_file)
        if len(texts) == 1:
            texts = [secrets.token_hex(KEY_BYTES), *texts]
            _write(settings.master_file, texts)
        count = _wrap_anew(settings)
        _write(settings.master_file, texts[:1])
    return count


def _wrap_anew(settings: Settings) -> int:
    master = subjects.master_of(settings)
    with engines.reading(settings.subjects) as connection:
        begins = not _is_wrapped_by(master, subjects.secret_in(connection, subjects.secret_table) or b"")
    if begins:
        with engines.writing(settings.event_store, lock=event_store.LOCK) as log:
            record(log, MasterKeyRotated(), by=operator_here())
    with engines.writing(settings.subjects, lock=subjects.LOCK) as connection:  # from here on it wraps new keys, too
        secret = subjects.secret_in(connection, subjects.secret_table) or b""
        if not _is_wrapped_by(master, secret):
            anew = master.wrap(master.unwrap(secret, subjects.SECRET), subjects.SECRET)
            subjects.keep_secret(connection, subjects.secret_table, anew)
    keep_secret(settings)
    count, after = 0, ""
    with bar("keys of people") as show:
        while rows := _wrap_page(settings, master, after):
            count, after = count + len(rows), rows[-1]
            show(count, None)
    return count


def _wrap_page(settings: Settings, master: Master, after: str) -> list[str]:
    """Wrap a page of keys past a stream by the first master key, in a transaction; returns the page's streams."""
    with engines.writing(settings.subjects, lock=subjects.LOCK) as connection:
        rows = fetch(connection, _page, after=after)
        old = [(stream, key) for stream, key in rows if not _is_wrapped_by(master, key)]
        anew = [(stream, master.wrap(master.unwrap(key, stream), stream)) for stream, key in old]
        upsert_rows(connection, subjects.keys, anew)
    return [stream for stream, _ in rows]


def _is_wrapped_by(master: Master, wrapped: bytes) -> bool:
    return wrapped.startswith(master.id)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the folder's own lock: two rotations at once would each drop the other's key. Raises Refused."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise Refused("another process is rotating the master key") from None
    finally:
        os.close(fd)


def _read(path: Path) -> list[str]:
    try:
        return path.read_text().strip().split(",")
    except FileNotFoundError:
        raise Refused(f"{path} is missing, the master key") from None


def _write(path: Path, texts: Sequence[str]) -> None:
    """Replace the file, whole or not at all; it keeps its owner."""
    owner = path.stat()
    with NamedTemporaryFile("w", dir=path.parent, prefix=".master-", delete=False) as file:  # private: mode 600
        try:
            os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
            file.write(",".join(texts))
            file.flush()
            os.fsync(file.fileno())
            Path(file.name).replace(path)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise
    sync(path.parent)


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


_page = (
    select(subjects.keys)
    .where(subjects.keys.c.stream > bindparam("after"))
    .order_by(subjects.keys.c.stream)
    .limit(PAGE_SIZE)
)
