"""The people of the log, held against the store of their keys: who can't be read, and whose erasure isn't finished.

An erasure stands in both. An older log that takes the place of the log lacks some; another store of keys may, too.
"""

from collections.abc import Collection, Iterable
from contextlib import closing

from sqlalchemy import Connection, bindparam, select

from shared.access.principals import operator_here
from shared.database import engines
from shared.database.statements import entries, fetch
from shared.operations.unkeyed import PAGE, erased_in, in_words
from shared.schemas.folding import Wrong
from shared.schemas.known import AGGREGATES
from shared.settings import Settings
from shared.stores import event_store, inbox, outcomes, set_aside, subjects
from shared.stores.inbox import Submission
from shared.stores.subjects import Subjects, as_object

REASON = "erased before the log was restored"
"""In the metadata of an event that does an erasure again."""


MISSING = "the keys of {} are missing: name the file that has them by --keys"


class Lost(Wrong):
    """Personal data of these people can't be read, since their keys are lost."""

    def __init__(self, streams: Collection[str]) -> None:
        super().__init__(f"{in_words(streams)} can't be read: the keys are lost")


class Unfinished(Wrong):
    """These people's keys are destroyed, and the log doesn't say so yet."""

    def __init__(self, streams: Collection[str]) -> None:
        super().__init__(f"the erasure of {in_words(streams)} isn't finished: `cqrs init` and the next worker do that")


def erasures(people: Connection) -> dict[str, None]:
    """The streams whose keys were destroyed, in that order."""
    return dict.fromkeys(subjects.erased_streams(people))


def keyed(people: Connection, streams: Iterable[str]) -> list[str]:
    """Those of the streams that have a key."""
    return [stream for (stream,) in fetch(people, _keyed, streams=as_object(streams))]


def finish(settings: Settings) -> list[str]:
    """Make log and keys agree on who is erased; returns the streams that are to be erased again.

    Who is erased by the log loses the key and is listed. Who is listed, but not erased by the log, gets a command in
    the inbox, which the next worker handles as any other. Numbers of erased people aren't given again.
    """
    with engines.reading(settings.subjects) as keys:
        listed = erasures(keys)
    with engines.writing(settings.event_store, lock=event_store.LOCK) as log:  # whoever is erasing ends first
        erased = erased_in(log)
        undone = [stream for stream in listed if stream not in erased]
        known = {stream for stream, version in _versions(log, undone).items() if version}
        settled, waiting = outcomes.settled_seq(log), set_aside.stuck_streams(log)
    with closing(Subjects.of(settings)) as people:
        if unlisted := erased.keys() - listed.keys():
            people.erase(unlisted)
        return _erase_again(settings, people, undone, known | waiting, settled) if undone else []


def _erase_again(
    settings: Settings, people: Subjects, undone: Collection[str], known: Collection[str], settled: int
) -> list[str]:
    engine = subjects.heed(engines.writer(settings.inbox, lock=inbox.LOCK), people)
    with engines.briefly(engine), engine.begin() as connection:
        numbers = inbox.last_numbers(connection)
        waiting: set[tuple[str, str]] = set()
        while page := inbox.read_after(connection, settled, limit=PAGE):
            waiting |= {(each.stream, each.type) for each in page}
            settled = page[-1].seq
        known = {*known, *(stream for stream, _ in waiting)}
        submissions = []
        for stream in undone:
            category, _, number = stream.rpartition("-")
            rules = AGGREGATES.get(category)
            if stream not in known:
                numbers[category] = max(numbers[category], int(number))
            elif rules and rules.erases and (stream, rules.erases.__name__) not in waiting:
                submissions.append(_again(rules.erases.__name__, category, int(number)))
        inbox.count_from(connection, numbers)
        answers = inbox.accept(connection, submissions, numbers)
    new = [each.command for each in answers if isinstance(each, inbox.Acceptance) and not each.replayed]
    return [each.stream for each in new]


def _again(type: str, category: str, number: int) -> Submission:
    metadata = {"principal": operator_here(), "reason": REASON}
    return Submission(type, category, number, {}, idempotency_key=f"erasure of {category}-{number}", metadata=metadata)


def _versions(log: Connection, streams: Collection[str]) -> dict[str, int]:
    return event_store.heads(log, streams).versions if streams else {}


_asked = entries(bindparam("streams"))
_keyed = select(subjects.keys.c.stream).where(subjects.keys.c.stream.in_(select(_asked.c.key)))
