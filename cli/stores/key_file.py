"""The keys of people in a file of their own, as `cqrs backup` writes it beside a backup."""

import shutil
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from sqlalchemy import Connection, bindparam, delete, select

from cli.errors import Refused
from cli.stores import people, schemas
from shared.database import engines
from shared.database.statements import entries, fetch, insert_rows
from shared.operations import unkeyed
from shared.personal.ciphers import Master, WrongMasterKey
from shared.schemas import migrations
from shared.settings import Settings
from shared.stores import subjects
from shared.stores.event_store import PAGE_SIZE
from shared.stores.subjects import Subjects, as_object

Keys = Sequence[tuple[str, bytes]]
"""Streams, each with its key."""


def check(settings: Settings, file: Path, keys: Connection, log: Connection) -> None:
    """Raises Refused if the file has a key of somebody who was erased, or one that the master key doesn't unwrap."""
    erased = unkeyed.erased_in(log) | people.erasures(keys)
    if found := people.keyed(keys, erased):
        raise Refused(f"{file} is stale: it has the keys of {unkeyed.in_words(found)}, erased since")
    for _ in _unwrapped(file, keys, subjects.master_of(settings)):
        pass


@contextmanager
def opened(settings: Settings, file: Path) -> Iterator[Connection]:
    """A connection to a copy of the file, which may come from anywhere. Raises Refused or Wrong."""
    with TemporaryDirectory() as folder:
        copy = Path(folder) / "subjects.db"
        shutil.copyfile(file, copy)
        url = f"sqlite:///{copy}"
        schemas.check_file(settings, "subjects", url)
        migrations.upgrade(url, "subjects")
        with engines.reading(url) as connection:
            yield connection


@contextmanager
def brought_in(settings: Settings, file: Path, log: Connection, mine: Subjects) -> Iterator[Collection[str]]:
    """Have the store of keys hold those of the file, too, for a log that is being imported.

    Gives the streams that are erased by the file; they are erased here when the block ends. If it raises, the keys are
    taken out again. Raises Refused.
    """
    new: list[str] = []
    with opened(settings, file) as keys:
        check(settings, file, keys, log)
        erased, master = people.erasures(keys), subjects.master_of(settings)
        with engines.writing(settings.subjects, lock=subjects.LOCK) as connection:
            secret = subjects.secret_in(connection, subjects.secret_table) or b""
            for page in _unwrapped(file, keys, master):
                here = set(subjects.without_key(connection, (stream for stream, _ in page)))
                _check_same(file, connection, master, [each for each in page if each[0] not in here])
                rows = [(stream, master.wrap(key, stream, like=secret)) for stream, key in page if stream in here]
                insert_rows(connection, subjects.keys, rows)
                new += [stream for stream, _ in rows]
    try:
        yield erased
    except BaseException:
        with engines.writing(settings.subjects, lock=subjects.LOCK) as connection:
            fetch(connection, _remove, streams=as_object(new))
        raise
    mine.erase(erased)


def _unwrapped(file: Path, keys: Connection, master: Master) -> Iterator[Keys]:
    """All keys of a store, unwrapped, a page at a time. Raises Refused for one that can't be."""
    after = ""
    while rows := fetch(keys, _page, after=after):
        try:
            yield [(stream, master.unwrap(wrapped, stream)) for stream, wrapped in rows]
        except WrongMasterKey as error:
            raise Refused(f"{file}: {error}, or the file is damaged") from None
        after = rows[-1][0]


def _check_same(file: Path, connection: Connection, master: Master, these: Keys) -> None:
    """Raises Refused if somebody has another key here already. Who was erased here has none."""
    found = dict(fetch(connection, _keys, streams=as_object(stream for stream, _ in these)))
    for stream, key in these:
        if stream in found and master.unwrap(found[stream], stream) != key:
            raise Refused(f"{stream} has another key here than in {file}: import into a data dir of its own")


_asked = entries(bindparam("streams"))
_its = subjects.keys.c.stream.in_(select(_asked.c.key))
_keys = select(subjects.keys).where(_its)
_remove = delete(subjects.keys).where(_its)
_page = (
    select(subjects.keys)
    .where(subjects.keys.c.stream > bindparam("after"))
    .order_by(subjects.keys.c.stream)
    .limit(PAGE_SIZE)
)
