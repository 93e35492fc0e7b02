"""The search for a person's values: before an erasure it must find them, and after it nowhere."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, String, func, or_, select

from cli.access.remote import Api
from cli.erasing.places import Looked, files_in, look_through_file, look_through_tables, shown_by
from cli.erasing.values import SHORTEST, Value, values_of
from cli.errors import Refused
from cli.stores import log
from shared.database import engines, sqlite
from shared.domain.projections import PROJECTIONS
from shared.schemas import check
from shared.schemas.known import AGGREGATES, EVENTS
from shared.settings import Settings

PATIENCE = 60.0
"""Seconds for which what is still found is looked for again: workers overwrite it when readers let them."""

AGAIN = 1.0
"""Seconds between two searches."""

UNSEEN = (
    "the memory of running processes: they drop a person's key within seconds, and what was freed can't be judged",
    "blocks that the file system has freed, and its snapshots",
)
ON_POSTGRESQL = "PostgreSQL's WAL, pages' free space, replicas and backups"
ELSEWHERE = "Redis: messages name no work and hold no data"

NO_API = "what an API answers: none does here"

Ask = Callable[[str], bytes]
"""Gives the body of what the API answers at a path."""


@dataclass(frozen=True)
class Search:
    """What is looked for, and where. `left_out`: values that aren't looked for, by name, and why."""

    settings: Settings
    values: Sequence[Value]
    left_out: dict[str, str]
    also: Sequence[Path] = ()
    paths: Sequence[str] = ()
    ask: Ask | None = None

    def look(self, *, patience: float = 0) -> list[Looked]:
        """Look everywhere once; again while anything is found within the installation, for so many seconds at most."""
        until = time.monotonic() + patience
        while True:
            looked = list(self._installation())
            if not any(each.found for each in looked) or time.monotonic() > until:
                return [*looked, *self._files([path for place in self.also for path in files_in(place)])]
            time.sleep(AGAIN)

    @property
    def unseen(self) -> list[str]:
        """What can't be looked through."""
        urls = [url for _, url in check.stores(self.settings)]
        on_server = [] if all(map(engines.is_local, urls)) else [ON_POSTGRESQL]
        no_api = [] if self.ask else [NO_API]
        return [*UNSEEN, *on_server, *([ELSEWHERE] if self.settings.redis_url else []), *no_api]

    def _installation(self) -> Iterator[Looked]:
        urls = dict.fromkeys(url for _, url in check.stores(self.settings))
        files = {path: None for url in urls if engines.is_local(url) for path in _files_of(url)}
        yield from self._files([*dict.fromkeys([*files_in(self.settings.data_dir), *files])])
        for url in urls:
            if not engines.is_local(url):
                yield from look_through_tables(url, self.values)
        if self.ask:
            yield from shown_by(self.ask, self.paths, self.values)

    def _files(self, paths: Sequence[Path]) -> Iterator[Looked]:
        # In a process of its own: to close a file drops the locks that SQLite has on it in this one.
        if paths:
            with ProcessPoolExecutor(1, get_context("spawn")) as process:
                yield from process.map(look_through_file, paths, [self.values] * len(paths))


def asked(settings: Settings) -> Ask | None:
    """Asks the API of the settings, if it answers."""
    with suppress(Refused):
        api = Api(settings.api, settings.api_key)
        api.get("/livez")
        return api.body
    return None


def search(settings: Settings, stream: str, values: Sequence[Value] = (), **where: Any) -> Search:
    """A search for what the log has of a stream's person, and for these values."""
    with log.reading(settings) as connection:
        known = values_of(connection, stream)
    wanted, left_out = [], {}
    for value in dict.fromkeys([*known, *values]):
        if why := _why_not(settings, stream, value):
            left_out[value.name] = why
        else:
            wanted.append(value)
    return Search(settings, wanted, left_out, **where)


def in_words(looked: Sequence[Looked], values: Sequence[Value], left_out: dict[str, str]) -> Iterator[str]:
    """What was looked for, where, and what was found, without a value in it."""
    names = ", ".join(dict.fromkeys(value.name for value in values)) or "nothing"
    forms = sum(len(value.forms) for value in values)
    yield f"looked for {names}, in {forms} forms"
    for name, why in left_out.items():
        yield f"not for {name} by itself: {why}"
    for unit in dict.fromkeys(each.unit for each in looked):
        amounts = [each.amount for each in looked if each.unit == unit]
        what = "files and answers" if unit == "bytes" else "tables"
        yield f"looked through {len(amounts):,} {what}, {sum(amounts):,} {unit}"
    for each in looked:
        if each.unread:
            yield f"not looked through: {each.place}: {each.unread}"
        for found in each.found:
            yield f"found in {each.place}: {found}"


def _files_of(url: str) -> list[Path]:
    path = sqlite.path_of(url)
    return sorted(path.parent.glob(f"{path.name}*"))


def _why_not(settings: Settings, stream: str, value: Value) -> str:
    """Why a value proves nothing; empty if it does."""
    if len(value.text) < SHORTEST:
        return f"it is shorter than {SHORTEST} characters"
    if value.text.casefold() in _words():
        return "it is a word of this program"
    if _others_have(settings, stream, value.text):
        return "other people have it, too"
    return ""


def _words() -> str:
    """The names that stand in every installation's files."""
    tables = [table for which in PROJECTIONS.values() for table in which.tables]
    names = [*EVENTS, *PROJECTIONS, *(command for rules in AGGREGATES.values() for command in rules.commands)]
    names += [name for table in tables for name in (table.name, *table.columns.keys())]
    return " ".join([*names, "sqlite format create table index integer primary key varchar not null"]).casefold()


def _others_have(settings: Settings, stream: str, text: str) -> bool:
    """Whether the text is in a row of another person: rows of read models are in the clear."""
    for name, which in PROJECTIONS.items():
        with engines.reading(settings.read_model_of(name)) as connection:
            if any(_other_row(connection, table, stream, text) for table in which.tables):
                return True
    return False


def _other_row(connection: Connection, table: Any, stream: str, text: str) -> bool:
    category, _, number = stream.rpartition("-")
    if f"{category}_id" not in table.c:
        return False
    find = func.instr if connection.dialect.name == "sqlite" else func.strpos
    texts = [each for each in table.columns if isinstance(each.type, String)]
    holding = or_(*(find(func.lower(each), form) > 0 for each in texts for form in {text.lower(), text.casefold()}))
    query = select(table.c[f"{category}_id"]).where(table.c[f"{category}_id"] != int(number), holding).limit(1)
    return connection.execute(query).first() is not None
