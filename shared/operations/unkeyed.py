"""People whom log and keys tell differently: whose keys are lost, or whose erasure no event tells."""

from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import islice

from sqlalchemy import Connection, bindparam, select

from shared.database.statements import entries, fetch
from shared.domain.projections import ERASING
from shared.stores import event_store, subjects
from shared.stores.event_store import events
from shared.stores.subjects import as_object

PAGE = 5000
"""Streams that are looked at together."""

NAMED = 5
"""People whose streams an error names."""


def in_words(streams: Collection[str]) -> str:
    """How many people these are, and the streams of the first."""
    count = len(streams)
    first = ", ".join(islice(streams, NAMED))
    people = "1 person" if count == 1 else f"{count:,} people"
    return f"{people} ({first}{', …' if count > NAMED else ''})"


def unreadable(log: Connection, without_key: Callable[[Iterable[str]], Collection[str]]) -> Iterator[str]:
    """The streams that hold sealed data and have no key, though they aren't erased.

    `without_key` says which of some streams have none.
    """
    after, erased = "", erased_in(log)
    while page := [stream for (stream,) in fetch(log, _streams, after=after)]:
        if candidates := [stream for stream in without_key(page) if stream not in erased]:
            yield from sorted(stream for (stream,) in fetch(log, _sealed, streams=as_object(candidates)))
        after = page[-1]


def unreadable_in(log: Connection, people: Connection) -> Iterator[str]:
    """The streams that hold sealed data, and have no key in this store of keys, though they aren't erased."""
    return unreadable(log, lambda streams: subjects.without_key(people, streams))


def erased_in(log: Connection) -> dict[str, None]:
    """The streams whose subjects the log says are erased."""
    return dict.fromkeys(stream for (stream,) in fetch(log, _erased, types=as_object(ERASING)))


def unfinished_in(log: Connection, people: Connection) -> list[str]:
    """The streams whose keys are destroyed, and whose log goes on as if they weren't erased."""
    listed = subjects.erased_streams(people)
    return [each for page in event_store.pages(listed) for each in event_store.without(log, page, ERASING)]


_asked = entries(bindparam("streams"))
_types = entries(bindparam("types"))
_streams = (
    select(events.c.stream).distinct().where(events.c.stream > bindparam("after")).order_by(events.c.stream).limit(PAGE)
)
_sealed = (
    select(events.c.stream)
    .distinct()
    .where(events.c.stream.in_(select(_asked.c.key)), events.c.data.like('%"~%":"_%"}'))
)
_erased = select(events.c.stream).distinct().where(events.c.type.in_(select(_types.c.key)))
