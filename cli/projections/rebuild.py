"""`cqrs projections rebuild`: a projection made anew beside the one that serves, compared with it, put in its place."""

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
from cli.projections.shadow import Beside, beside, has_tables
from shared.database import engines
from shared.database.errors import Taken, is_busy, is_full
from shared.projection import Projection
from shared.schemas import check as schema
from shared.settings import Settings
from shared.stores import checkpoints, event_store
from shared.stores.checkpoints import Progress
from workers.projecting import chunk
from workers.projecting.chunk import LogIsShorter, advance

PATIENCE = 60.0
"""Seconds for which the switch is tried while others hold its locks."""

REST = 1.0
"""Seconds between tries."""


class Work(NamedTuple):
    which: Projection
    url: str
    """Of the read model that serves."""
    place: Beside
    log: Engine
    live: Engine
    """Written to as the projection's worker does, when it is its turn."""
    anew: Engine


def rebuild(settings: Settings, which: Projection, *, check: bool, resume: bool, pause: bool) -> dict[str, Any]:
    """What it found and did. Raises Refused. Whatever ends it, what serves goes on, and what was made stays beside it.

    `check`: nothing is switched and nothing stays. `pause`: the projection is paused from the switch on.
    """
    began = time.monotonic()
    place = beside(settings.read_model_of(which.name), which.name)
    with alone_at(place, which.name):
        stays = not check
        try:
            with _begin(settings, which, place, resume=resume) as work:
                first = _progress(work.anew, which).position
                _come_near(work)
                compared = _compare(work)
                switched = None if check else _switch_in_time(work, pause=pause)
            stays = False
        except DBAPIError as error:
            stays = stays and not is_full(error)  # what serves needs the room
            raise
        except LogIsShorter as error:
            raise Refused(f"{error}: they aren't a pair") from None
        finally:
            if not stays:
                place.remove()
    seconds = round(time.monotonic() - began, 3)
    return {"projection": which.name, "from": first, **compared, "switched": switched, "seconds": seconds}


@contextmanager
def alone_at(place: Beside, name: str) -> Iterator[None]:
    with ExitStack() as opened:
        try:
            opened.enter_context(place.alone())
        except Taken:
            raise Refused(f"another process is rebuilding {name}") from None
        yield


@contextmanager
def _begin(settings: Settings, which: Projection, place: Beside, *, resume: bool) -> Iterator[Work]:
    """With the tables made, or as they were left."""
    url = settings.read_model_of(which.name)
    with ExitStack() as opened:
        live = opened.enter_context(engines.briefly(engines.writer(url, lock=which.name, durable=False)))
        with live.begin() as connection:
            if wrong := schema.compare(connection, "read_model"):
                raise wrong
            progress = checkpoints.progress(connection, which.name)
        if not (resume and _can_go_on(place, which, progress.position)):
            place.remove()
            place.make(which.tables)
        log = opened.enter_context(engines.briefly(engines.reader(settings.event_store)))
        anew = opened.enter_context(engines.briefly(engines.writer(place.url, lock=place.url, durable=False)))
        yield Work(which, url, place, log, live, anew)


def _can_go_on(place: Beside, which: Projection, position: int) -> bool:
    """It must not be ahead of what serves, or the two can't be compared."""
    if not has_tables(place, which.tables):
        return False
    with engines.briefly(engines.reader(place.url)) as engine:
        return _progress(engine, which).position <= position


def _come_near(work: Work) -> None:
    """What serves goes on meanwhile: it is followed until little is missing."""
    missing = chunk.CHUNK
    while missing >= chunk.CHUNK:
        reached = _fill(work, _progress(work.live, work.which).position)
        missing = _progress(work.live, work.which).position - reached


def _fill(work: Work, upto: int) -> int:
    """Returns where it is then. Raises Refused if it can't get there."""
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
    """The two at one position, whatever is written to what serves meanwhile."""
    with engines.snapshot(work.url) as found:
        position = checkpoints.position_of(found, work.which.name)
        _fill(work, position)
        with engines.snapshot(work.place.url) as anew, bar(f"{work.which.name}: comparing"):
            tables = {table.name: difference(found, anew, table) for table in work.which.tables}
    differ = any(each["rows"] or each["columns"] for each in tables.values())
    return {"position": position, "differ": differ, "tables": tables}


def _switch_in_time(work: Work, *, pause: bool) -> dict[str, Any]:
    deadline = time.monotonic() + PATIENCE
    while True:
        if not (progress := _progress(work.live, work.which)).paused:
            _fill(work, max(progress.position, _end(work.log)))
        try:
            return _switch(work, pause=pause)
        except DBAPIError as error:
            if not is_busy(error) or time.monotonic() > deadline:
                raise
            time.sleep(REST)


def _switch(work: Work, *, pause: bool) -> dict[str, Any]:
    """In one transaction, at its turn: its worker sees the one before it or the one after it."""
    which, reached = work.which, _progress(work.anew, work.which).position
    with work.live.connect() as connection, work.log.connect() as log:
        work.place.bring(connection, which.tables)
        with connection.begin():
            began = time.monotonic()
            before = checkpoints.progress(connection, which.name)
            work.place.put(connection, which.tables)
            checkpoints.move_stop(connection, which.name, None)
            checkpoints.move(connection, which.name, reached)
            upto = before.position if before.paused else sys.maxsize
            while advance(connection, log, which, upto=upto).more:
                pass
            after = checkpoints.progress(connection, which.name)
            _check(which, after, before.position)
            paused = before.paused or pause
            checkpoints.move(connection, which.name, after.position, paused=paused)
    return {"position": after.position, "paused": paused, "locked": round(time.monotonic() - began, 3)}


def _progress(read_model: Engine, which: Projection) -> Progress:
    with read_model.connect() as connection:
        return checkpoints.progress(connection, which.name)


def _end(log: Engine) -> int:
    with log.connect() as connection:
        return event_store.last_position(connection)
