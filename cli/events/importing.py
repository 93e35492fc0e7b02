"""Importing an exported log into empty stores.

The commands that led to its events stay where they were. New streams are numbered on from the highest imported.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from sqlalchemy import Connection

from cli.errors import Refused
from cli.events import cloud_events
from cli.stores.init import init
from cli.stores.key_file import brought_in
from cli.stores.people import MISSING, finish
from shared.access.principals import operator_here
from shared.database import engines
from shared.domain.projections import PROJECTIONS
from shared.messages import RecordedEvent
from shared.operations import unkeyed
from shared.operations.record import LogImported, record
from shared.personal.ciphers import Blind
from shared.projection import Projection
from shared.schemas.folding import Folded, check_version, fold, folded, hashed, rules_of
from shared.schemas.known import AGGREGATES
from shared.schemas.replay import replay
from shared.settings import Settings
from shared.stores import event_store, inbox, outcomes, subjects, unique_keys
from shared.stores.event_store import pages
from shared.stores.subjects import Subjects
from workers.projecting.rebuild import alone
from workers.projecting.shadow import shadow_of


def import_(settings: Settings, lines: Iterable[bytes], keys: Path | None = None) -> int:
    """Import all the events or none; returns how many. Raises Refused, Damaged or Wrong.

    `keys`: a file with the keys of people, as `cqrs backup` writes it; without it, the store of keys here has them.
    """
    init(settings)
    _count_on(settings, {})  # refused at once if there are commands
    with closing(Subjects.of(settings)) as people, _writing(settings, people) as log:
        _check_empty(event_store.last_position(log), outcomes.settled_seq(log))
        count = _load(log, cloud_events.events(lines))
        with ExitStack() as opened:
            erased = opened.enter_context(brought_in(settings, keys, log, people)) if keys else []
            _check_keys(settings, log, erased)
            numbers = _keep_keys(log)
            for which in PROJECTIONS.values():
                _try(log, settings.read_model_of(which.name), which, count)
            record(log, LogImported(events=count), by=operator_here())
            _count_on(settings, numbers)  # first: numbers that are never given do no harm
    finish(settings)
    return count


@contextmanager
def _writing(settings: Settings, people: Subjects) -> Iterator[Connection]:
    """One transaction that has the event store to itself, and reveals what is personal."""
    engine = engines.writer(settings.event_store, lock=event_store.LOCK)
    with engines.briefly(subjects.heed(engine, people)), engine.begin() as connection:
        yield connection


def _check_empty(*ends: int) -> None:
    if any(ends):
        raise Refused("a log is imported into empty stores only, and these have commands or events already")


def _load(log: Connection, events: Iterable[RecordedEvent]) -> int:
    """Load the events into the log; returns the last position. Raises Refused or WrongEvent, which name an event."""
    position = 0
    for page in pages(events):
        versions = event_store.heads(log, {event.stream for event in page}).versions
        for event in page:
            if event.position != position + 1:
                raise Refused(f"this is no log: event {event.position} follows {position}")
            rules_of(event, AGGREGATES)
            check_version(event, versions[event.stream])
            position, versions[event.stream] = event.position, event.version
        event_store.load(log, page)
    return position


def _check_keys(settings: Settings, log: Connection, erased: Collection[str]) -> None:
    """Raises Refused if the keys of people in the log aren't here, but for those who are erased."""
    with engines.reading(settings.subjects) as keys:
        if lost := [stream for stream in unkeyed.unreadable_in(log, keys) if stream not in erased]:
            raise Refused(MISSING.format(unkeyed.in_words(lost)))


def _keep_keys(log: Connection) -> dict[str, int]:
    """Keep the unique keys that streams hold; returns the highest stream number of each category."""
    numbers: dict[str, int] = defaultdict(int)
    blind = subjects.of(log).blind
    for page in pages(folded(log, AGGREGATES)):
        for each in page:
            numbers[each.category] = max(numbers[each.category], each.number)
        _check_free(log, page, blind)
        unique_keys.keep(log, [(hashed(key, blind), each.stream) for each in page for key in each.keys])
    return numbers


def _check_free(log: Connection, page: Sequence[Folded], blind: Blind) -> None:
    kept_as = {key: hashed(key, blind) for each in page for key in each.keys}
    holders = unique_keys.holders(log, kept_as.values())
    for each in page:
        for key, held in each.keys.items():
            for stream in holders[kept_as[key]]:
                other = fold(event_store.read_stream(log, stream), AGGREGATES).keys[key]
                both = sorted([(other.since, stream), (held.since, each.stream)])
                named = " and ".join(f"{stream} (event {position})" for position, stream in both)
                raise Refused(f"this is no log: {named} hold the same {key.scope}")
            holders[kept_as[key]] = (each.stream,)


def _try(log: Connection, read_model: str, which: Projection, upto: int) -> None:
    """Apply the log to shadow tables, on the read model's own engine: it may refuse what others take."""
    shadow = shadow_of(read_model, which.name)
    with alone(shadow, which):
        try:
            shadow.remove()
            shadow.make(which.tables)
            with engines.briefly(engines.writer(shadow.url, lock=shadow.url, durable=False)) as anew:
                for _ in replay(log, anew, which, upto=upto):
                    pass
        finally:
            shadow.remove()


def _count_on(settings: Settings, numbers: Mapping[str, int]) -> None:
    """Have the inbox number new streams from these numbers on. Raises Refused if it has commands."""
    with engines.writing(settings.inbox, lock=inbox.LOCK) as connection:
        _check_empty(inbox.last_seq(connection))
        inbox.count_from(connection, numbers)
