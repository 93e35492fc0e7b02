"""Rebuilding a projection: its shadow tables are filled from the log, compared with the live ones, and swapped in."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from typing import Any, NamedTuple

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from shared.database import engines
from shared.database.errors import Taken, is_busy, is_forbidden, is_full, is_trouble
from shared.database.scrubbing import Scrubbing
from shared.errors.reasons import reason_of
from shared.operations import orders, rebuilds, unkeyed
from shared.operations.rebuilds import Stage
from shared.operations.record import Operation, ProjectionPaused, RebuildStarted
from shared.plain import Plain
from shared.projection import Bar, Projection
from shared.schemas import check as schema
from shared.schemas.folding import Wrong
from shared.settings import Settings
from shared.stores import advances, checkpoints, event_store
from shared.stores.checkpoints import Progress
from shared.stores.subjects import Subjects, heed
from workers.projecting import chunk
from workers.projecting.chunk import LogIsShorter, advance
from workers.projecting.comparison import difference
from workers.projecting.shadow import Shadow, has_tables, shadow_of

SWITCH_TIMEOUT = 60.0
"""Seconds for which the switch is tried while others hold the locks it needs."""

SWITCH_EVERY = 1.0
"""Seconds between tries to switch."""

TOLD_EVERY = 0.5
"""Seconds from one record of how far a rebuild is to the next."""


class NotRebuilt(Plain):
    """A projection can't be rebuilt. The message says why, in one line."""


class UnderWay(NotRebuilt):
    """Another process is at it."""


class How(NamedTuple):
    """How a rebuild is done.

    `by`: the principal who wants it. `check`: nothing is swapped, and no shadow stays. `resume`: go on with what an
    interrupted one left; `keeps`: leave something for that. `pause`: the projection is paused from the swap on.
    `record` writes to the log what is done on the machine, None for whoever may not; `bar` shows how far it is.
    """

    by: str
    bar: Bar
    check: bool = False
    resume: bool = False
    keeps: bool = False
    pause: bool = False
    record: Callable[[Operation], None] | None = None


class Account:
    """The record of a rebuild beside the live checkpoint. A check leaves none."""

    def __init__(self, live: Engine, which: Projection, how: How) -> None:
        self._live = live
        self._name = which.name
        self._how = how
        self._told: tuple[Stage, float] = "none", 0.0

    def begin(self, first: int) -> None:
        """Record that it begins, behind this event."""
        if not self._how.check:
            with self._live.begin() as connection:
                upto = checkpoints.position_of(connection, self._name)
                rebuilds.begin(connection, self._name, by=self._how.by, first=first, upto=upto)

    def tell(self, stage: Stage, reached: int, upto: int) -> None:
        """Record how far it is, if something new began or it is time. That others hold the lock is no reason to end."""
        before, at = self._told
        if self._how.check or (stage == before and time.monotonic() < at + TOLD_EVERY):
            return
        self._told = stage, time.monotonic()
        with suppress(DBAPIError), self._live.begin() as connection:
            rebuilds.tell(connection, self._name, stage, reached=reached, upto=upto)


class Work(NamedTuple):
    """What a rebuild works on."""

    which: Projection
    how: How
    url: str
    """The live read model's."""
    shadow: Shadow
    log: Engine
    live: Engine
    """Writes the live read model as the projection's worker does, and takes turns with it."""
    anew: Engine
    """Writes the shadow."""
    account: Account


def rebuild(settings: Settings, which: Projection, how: How) -> dict[str, Any]:
    """Rebuild a projection; returns what was found and done. Raises NotRebuilt, Wrong or a store's error.

    Whatever ends it, the live tables go on.
    """
    shadow = shadow_of(settings.read_model_of(which.name), which.name)
    with alone(shadow, which):
        try:
            return _rebuild(settings, which, shadow, how)
        except Exception as error:
            if not how.check:
                _note_failure(settings, which, error)
            raise


@contextmanager
def alone(shadow: Shadow, which: Projection) -> Iterator[None]:
    """Keep other processes off the shadow for one block. Raises UnderWay if one is at it."""
    with ExitStack() as kept:
        try:
            kept.enter_context(shadow.alone())
        except Taken:
            raise UnderWay(f"another process is rebuilding {which.name}") from None
        yield


def passes(error: Exception) -> bool:
    """Whether an error is a store's that may be over soon: it is worth to begin again."""
    return is_trouble(error) and not (is_full(error) or is_busy(error) or is_forbidden(error))


def _note_failure(settings: Settings, which: Projection, error: Exception) -> None:
    problem = str(error) if isinstance(error, Plain | Wrong) else reason_of(error)
    if isinstance(error, DBAPIError) and is_forbidden(error):
        problem = (
            "the worker's user in the database may not make and swap tables: "
            f"run `cqrs projections rebuild {which.name}` as the owner of the tables"
        )
    with suppress(DBAPIError), engines.writing(settings.read_model_of(which.name), lock=which.name) as connection:
        rebuilds.fail(connection, which.name, problem, for_good=not passes(error))


def _rebuild(settings: Settings, which: Projection, shadow: Shadow, how: How) -> dict[str, Any]:
    began = time.monotonic()
    if not how.check:
        _check_that_people_can_be_read(settings, which)
        if how.record:
            how.record(RebuildStarted(projection=which.name))
    stays = how.keeps and not how.check
    try:
        with _begin(settings, which, shadow, how) as work:
            first = _progress(work.anew, which).position
            work.account.begin(first)
            _come_near(work)
            compared = _compare(work)
            if how.pause and how.record and not how.check:
                how.record(ProjectionPaused(projection=which.name))
            switched = None if how.check else _switch_in_time(work, compared)
            stays = False
            if switched:
                Scrubbing(work.live, which.tables).look()
    except DBAPIError as error:
        stays = stays and not is_full(error)  # the live tables need the room
        raise
    except LogIsShorter as error:
        raise NotRebuilt(f"{error}: they aren't a pair") from None
    finally:
        if not stays:
            shadow.remove()
    seconds = round(time.monotonic() - began, 3)
    return {"projection": which.name, "from": first, **compared, "switched": switched, "seconds": seconds}


def _check_that_people_can_be_read(settings: Settings, which: Projection) -> None:
    """Raises NotRebuilt if there are people whom the new tables wouldn't have, since their keys are lost."""
    if not which.is_personal:
        return
    with engines.reading(settings.event_store) as log, engines.reading(settings.subjects) as keys:
        if lost := list(unkeyed.unreadable_in(log, keys)):
            why = f"{unkeyed.in_words(lost)} can't be read: the keys are lost, and a rebuild would drop them"
            raise NotRebuilt(f"{why}: bring the keys back, or erase them")


@contextmanager
def _begin(settings: Settings, which: Projection, shadow: Shadow, how: How) -> Iterator[Work]:
    """Open all that a rebuild works on, with the shadow tables made, or as an interrupted rebuild left them."""
    url = settings.read_model_of(which.name)
    with ExitStack() as opened:
        live = opened.enter_context(engines.briefly(engines.writer(url, lock=which.name, durable=False)))
        with live.begin() as connection:
            if wrong := schema.compare(connection, "read_model"):
                raise wrong
            progress = checkpoints.progress(connection, which.name)
        if not (how.resume and _can_go_on(shadow, which, progress.position)):
            shadow.remove()
            shadow.make(which.tables)
        people = opened.enter_context(closing(Subjects.of(settings)))
        log = opened.enter_context(engines.briefly(heed(engines.reader(settings.event_store), people)))
        anew = opened.enter_context(engines.briefly(engines.writer(shadow.url, lock=shadow.url, durable=False)))
        yield Work(which, how, url, shadow, log, live, anew, Account(live, which, how))


def _can_go_on(shadow: Shadow, which: Projection, position: int) -> bool:
    """Whether the shadow is usable: one that is ahead of the live tables can't be compared with them."""
    if not has_tables(shadow, which.tables):
        return False
    with engines.briefly(engines.reader(shadow.url)) as engine:
        return _progress(engine, which).position <= position


def _come_near(work: Work) -> None:
    """Fill the shadow until little is missing: the live tables go on meanwhile."""
    missing = chunk.CHUNK
    while missing >= chunk.CHUNK:
        reached = _fill(work, _progress(work.live, work.which).position)
        missing = _progress(work.live, work.which).position - reached


def _fill(work: Work, upto: int, *, stage: Stage = "filling") -> int:
    """Fill the shadow up to a position; returns the one reached. Raises NotRebuilt if it can't get there."""
    with work.how.bar(f"{work.which.name} to event {upto:,}") as show:
        more = True
        while more:
            with work.anew.begin() as connection, work.log.connect() as log:
                reached, more, _ = advance(connection, log, work.which, upto=upto)
                progress = checkpoints.progress(connection, work.which.name)
            show(reached, upto)
            work.account.tell(stage, reached, upto)
    _check(work.which, progress, upto)
    return reached


def _check(which: Projection, progress: Progress, upto: int) -> None:
    if progress.stopped:
        raise NotRebuilt(f"{which.name} can't apply event {progress.stopped.event}: {progress.stopped.error}")
    if (last := progress.position) < upto:
        raise NotRebuilt(f"the log ends at event {last}, {which.name} is at {upto} already: they aren't a pair")


def _compare(work: Work) -> dict[str, Any]:
    """Compare live and shadow tables at one position, whatever the live ones get meanwhile."""
    with engines.snapshot(work.url) as found:
        position = checkpoints.position_of(found, work.which.name)
        _fill(work, position)
        work.account.tell("comparing", position, position)
        with engines.snapshot(work.shadow.url) as anew, work.how.bar(f"{work.which.name}: comparing"):
            tables = {table.name: difference(found, anew, table) for table in work.which.tables}
    differ = any(each["rows"] or each["columns"] for each in tables.values())
    return {"position": position, "differ": differ, "tables": tables}


def _switch_in_time(work: Work, compared: dict[str, Any]) -> dict[str, Any]:
    deadline = time.monotonic() + SWITCH_TIMEOUT
    while True:
        if not (progress := _progress(work.live, work.which)).paused:
            _fill(work, max(progress.position, _end(work.log)), stage="switching")
        try:
            return _switch(work, compared)
        except DBAPIError as error:
            if not is_busy(error) or time.monotonic() > deadline:
                raise
            time.sleep(SWITCH_EVERY)


def _switch(work: Work, compared: dict[str, Any]) -> dict[str, Any]:
    """Swap in one transaction, at the worker's turn: readers see the tables before it or those after it."""
    which, reached = work.which, _progress(work.anew, work.which).position
    with work.live.connect() as connection, work.log.connect() as log:
        work.shadow.prepare(connection, which.tables)
        with connection.begin():
            began = time.monotonic()
            before = checkpoints.progress(connection, which.name)
            work.shadow.swap(connection, which.tables)
            checkpoints.move_stop(connection, which.name, None)
            checkpoints.move(connection, which.name, reached)
            upto = before.position if before.paused else sys.maxsize
            while advance(connection, log, which, upto=upto).more:
                pass
            after = checkpoints.progress(connection, which.name)
            _check(which, after, before.position)
            if after.position > before.position:
                advances.add(connection, which.name, after=before.position, position=after.position)
            checkpoints.move(connection, which.name, after.position, paused=before.paused)
            orders.obey(connection, which.name, orders.recorded(log, after=before.position))
            rebuilds.end(connection, which.name, _counted(compared))
            paused = checkpoints.progress(connection, which.name).paused
    return {"position": after.position, "paused": paused, "locked": round(time.monotonic() - began, 3)}


def _counted(compared: dict[str, Any]) -> dict[str, Any]:
    """How tables differed, without what stands in their rows."""
    return {name: {"rows": each["rows"], "columns": each["columns"]} for name, each in compared["tables"].items()}


def _progress(read_model: Engine, which: Projection) -> Progress:
    with read_model.connect() as connection:
        return checkpoints.progress(connection, which.name)


def _end(log: Engine) -> int:
    with log.connect() as connection:
        return event_store.last_position(connection)
