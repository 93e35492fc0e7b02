"""Rebuilding a projection: its shadow tables are filled from the log, compared with the live ones, and swapped in."""

import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from cli.errors import Refused
from cli.output import Rate, bar
from cli.projections.comparison import difference
from cli.stores import log as stores_log
from cli.stores import people
from shared.access.principals import operator_here
from shared.database import engines
from shared.database.errors import Taken, is_busy, is_full
from shared.database.scrubbing import Scrubbing
from shared.operations import unkeyed
from shared.operations.record import Operation, ProjectionPaused, RebuildStarted, record
from shared.projection import Projection
from shared.schemas import check as schema
from shared.settings import Settings
from shared.stores import advances, checkpoints, event_store
from shared.stores.checkpoints import Progress
from workers.projecting import chunk
from workers.projecting.chunk import LogIsShorter, advance
from workers.projecting.shadow import Shadow, has_tables, shadow_of

SWITCH_TIMEOUT = 60.0
"""Seconds for which the switch is tried while others hold the locks it needs."""

SWITCH_EVERY = 1.0
"""Seconds between tries to switch."""


class Work(NamedTuple):
    """What a rebuild works on."""

    which: Projection
    url: str
    """The live read model's."""
    shadow: Shadow
    log: Engine
    live: Engine
    """Writes the live read model as the projection's worker does, and takes turns with it."""
    anew: Engine
    """Writes the shadow."""


def rebuild(settings: Settings, which: Projection, *, check: bool, resume: bool, pause: bool) -> dict[str, Any]:
    """Rebuild a projection; returns what was found and done. Raises Refused.

    Whatever ends it, the live tables go on, and the shadow stays for `resume`. `check`: nothing is swapped, and no
    shadow stays. `pause`: the projection is paused from the swap on.
    """
    began = time.monotonic()
    if not check and any(event.personal for event in which.events.values()):
        _check_that_people_can_be_read(settings)
    shadow = shadow_of(settings.read_model_of(which.name), which.name)
    with alone(shadow, which):
        if not check:
            _record(settings, RebuildStarted(projection=which.name))
        stays = not check
        try:
            with _begin(settings, which, shadow, resume=resume) as work:
                first = _progress(work.anew, which).position
                _come_near(work)
                compared = _compare(work)
                if pause and not check:
                    _record(settings, ProjectionPaused(projection=which.name))
                switched = None if check else _switch_in_time(work, pause=pause)
                stays = False
                if switched:
                    Scrubbing(work.live, which.tables).look()
        except DBAPIError as error:
            stays = stays and not is_full(error)  # the live tables need the room
            raise
        except LogIsShorter as error:
            raise Refused(f"{error}: they aren't a pair") from None
        finally:
            if not stays:
                shadow.remove()
    seconds = round(time.monotonic() - began, 3)
    return {"projection": which.name, "from": first, **compared, "switched": switched, "seconds": seconds}


@contextmanager
def alone(shadow: Shadow, which: Projection) -> Iterator[None]:
    """Keep other processes off the shadow for one block. Raises Refused if one is at it."""
    with ExitStack() as kept:
        try:
            kept.enter_context(shadow.alone())
        except Taken:
            raise Refused(f"another process is rebuilding {which.name}") from None
        yield


def _check_that_people_can_be_read(settings: Settings) -> None:
    """Raises Refused if there are people whom the new tables wouldn't have, since their keys are lost."""
    with engines.reading(settings.event_store) as log, engines.reading(settings.subjects) as keys:
        if lost := list(unkeyed.unreadable_in(log, keys)):
            raise Refused(f"{people.Lost(lost)}, and a rebuild would drop them: bring the keys back, or erase them")


def _record(settings: Settings, done: Operation) -> None:
    with engines.writing(settings.event_store, lock=event_store.LOCK) as connection:
        record(connection, done, by=operator_here())


@contextmanager
def _begin(settings: Settings, which: Projection, shadow: Shadow, *, resume: bool) -> Iterator[Work]:
    """Open all that a rebuild works on, with the shadow tables made, or as an interrupted rebuild left them."""
    url = settings.read_model_of(which.name)
    with ExitStack() as opened:
        live = opened.enter_context(engines.briefly(engines.writer(url, lock=which.name, durable=False)))
        with live.begin() as connection:
            if wrong := schema.compare(connection, "read_model"):
                raise wrong
            progress = checkpoints.progress(connection, which.name)
        if not (resume and _can_go_on(shadow, which, progress.position)):
            shadow.remove()
            shadow.make(which.tables)
        log = opened.enter_context(stores_log.reader(settings))
        anew = opened.enter_context(engines.briefly(engines.writer(shadow.url, lock=shadow.url, durable=False)))
        yield Work(which, url, shadow, log, live, anew)


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


def _fill(work: Work, upto: int) -> int:
    """Fill the shadow up to a position; returns the one reached. Raises Refused if it can't get there."""
    with bar(f"{work.which.name} to event {upto:,}", Rate()) as show:
        more = True
        while more:
            with work.anew.begin() as connection, work.log.connect() as log:
                reached, more, _ = advance(connection, log, work.which, upto=upto)
                progress = checkpoints.progress(connection, work.which.name)
            show(reached, upto)
    _check(work.which, progress, upto)
    return reached


def _check(which: Projection, progress: Progress, upto: int) -> None:
    if progress.stopped:
        raise Refused(f"{which.name} can't apply event {progress.stopped.event}: {progress.stopped.error}")
    if (last := progress.position) < upto:
        raise Refused(f"the log ends at event {last}, {which.name} is at {upto} already: they aren't a pair")


def _compare(work: Work) -> dict[str, Any]:
    """Compare live and shadow tables at one position, whatever the live ones get meanwhile."""
    with engines.snapshot(work.url) as found:
        position = checkpoints.position_of(found, work.which.name)
        _fill(work, position)
        with engines.snapshot(work.shadow.url) as anew, bar(f"{work.which.name}: comparing"):
            tables = {table.name: difference(found, anew, table) for table in work.which.tables}
    differ = any(each["rows"] or each["columns"] for each in tables.values())
    return {"position": position, "differ": differ, "tables": tables}


def _switch_in_time(work: Work, *, pause: bool) -> dict[str, Any]:
    deadline = time.monotonic() + SWITCH_TIMEOUT
    while True:
        if not (progress := _progress(work.live, work.which)).paused:
            _fill(work, max(progress.position, _end(work.log)))
        try:
            return _switch(work, pause=pause)
        except DBAPIError as error:
            if not is_busy(error) or time.monotonic() > deadline:
                raise
            time.sleep(SWITCH_EVERY)


def _switch(work: Work, *, pause: bool) -> dict[str, Any]:
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
            paused = before.paused or pause
            checkpoints.move(connection, which.name, after.position, paused=paused)
    return {"position": after.position, "paused": paused, "locked": round(time.monotonic() - began, 3)}


def _progress(read_model: Engine, which: Projection) -> Progress:
    with read_model.connect() as connection:
        return checkpoints.progress(connection, which.name)


def _end(log: Engine) -> int:
    with log.connect() as connection:
        return event_store.last_position(connection)
