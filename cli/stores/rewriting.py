"""Rewriting: what stands in the clear in the inbox and the event store is sealed, then read again and compared.

Each function works in its caller's transaction, and raises Wrong if anything would be read otherwise than before.
"""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

from cryptography.exceptions import InvalidTag
from pydantic_core import from_json, to_json
from sqlalchemy import Connection, bindparam, select, update

from shared.chain import START
from shared.database.statements import execute, execute_rows, fetch
from shared.messages import RecordedEvent
from shared.operations import clear
from shared.personal.ciphers import Cipher, Sealed, sealed
from shared.schemas import chain, known
from shared.schemas.folding import Wrong, WrongEvent
from shared.stores import event_store, inbox
from shared.stores.event_store import PAGE_SIZE, events
from shared.stores.inbox import Accepted, commands
from shared.stores.outcomes import outcomes
from shared.stores.subjects import Subjects

Show = Callable[[int, int], None]

Data = dict[str, Any]

TRIGGER = "events_refuse_update"
"""What refuses changes of events, on both engines."""


def seal_commands(connection: Connection, people: Subjects, show: Show) -> int:
    """Seal commands, and hash their fingerprints under the person's key; returns how many."""
    count, after, end = 0, 0, inbox.last_seq(connection)
    while page := inbox.read_after(connection, after, limit=PAGE_SIZE):
        fingerprints = dict(fetch(connection, _fingerprints, after=after, upto=page[-1].seq))
        found = [(each, names) for each in page if (names := _names_in(each))]
        ciphers = people.sealing({each.stream: None for each, _ in found})
        rows, expected = [], {}
        for each, names in found:
            cipher, fingerprint = ciphers[each.stream], fingerprints[each.seq]
            if fingerprint and not Sealed.found(each.data):
                fingerprint = cipher.fingerprint(fingerprint) if cipher else None
            json, expected[each.seq] = _seal(each.data, names, cipher, inbox.place_of(each.stream, each.command_id))
            rows.append((json, fingerprint, each.seq))
        execute_rows(connection, _set_command, rows)
        for each in inbox.read(connection, expected):
            place = inbox.place_of(each.stream, each.command_id)
            if _read(each.data, ciphers[each.stream], place) != expected[each.seq]:
                raise Wrong(f"command {each.seq} of {each.stream} isn't read as before")
        count, after = count + len(rows), page[-1].seq
        show(after, end)
    return count


def seal_events(log: Connection, people: Subjects, show: Show) -> int:
    """Seal events, and make the hashes anew from the first of them on; returns how many it sealed."""
    for _ in chain.checked(log):  # what was changed meanwhile must not get a hash that fits
        pass
    count, after, last, end = 0, 0, START, event_store.last_position(log)
    with changeable(log):
        while rows := event_store.read_stored(log, after=after):
            page = list(map(_recorded, rows))
            found = {each.position: names for each in page if (names := _names_of(each))}
            count += len(found)
            last = _write(log, people, page, found, last) if count else rows[-1][-1]
            after = page[-1].position
            show(after, end)
    return count


def remove_values(log: Connection) -> None:
    """Take the values of unique keys out of rejections, whose details named them in versions before."""
    rows = [
        (to_json(problem | {"detail": f"This {problem['type'].removesuffix('-taken')} is taken."}).decode(), seq)
        for seq, json in fetch(log, _rejected)
        if (problem := from_json(json))["type"].endswith("-taken")
    ]
    execute_rows(log, _set_problem, rows)


def _write(
    log: Connection, people: Subjects, page: list[RecordedEvent], found: dict[int, list[str]], last: bytes
) -> bytes:
    """Write a page's events, those found sealed and all with new hashes; returns the last hash. Raises WrongEvent."""
    ciphers = _ciphers(people, [each for each in page if each.position in found])
    rows, expected = [], {}
    for each in page:
        if each.position in found:
            try:
                json, data = _seal(each.data_json, found[each.position], ciphers[each.stream], each.place)
            except (InvalidTag, ValueError):
                raise WrongEvent(each, "what is sealed in it can't be opened") from None
            each, expected[each.position] = each._replace(data_json=json), data  # noqa: PLW2901
        last = each.hash(last)
        rows.append((each.data_json, last, each.position))
    execute_rows(log, _set_event, rows)
    for each in event_store.read_all(log, after=page[0].position - 1, limit=len(page)):
        its = expected.get(each.position)
        if its is not None and _read(each.data_json, ciphers[each.stream], each.place) != its:
            raise WrongEvent(each, "it isn't read as before")
    return last


def _ciphers(people: Subjects, page: Collection[RecordedEvent]) -> Any:
    """The ciphers of these events' streams. Raises WrongEvent for an event that is sealed and whose key is lost."""
    known = people.ciphers({each.stream for each in page})
    for each in page:
        if each.stream not in known and Sealed.found(each.data_json):
            raise WrongEvent(each, "the person's key is lost")
    return people.sealing({each.stream: None for each in page})


def _names_in(command: Accepted) -> list[str]:
    return clear.names_in(command.type, command.data, known.MARKED.commands)


def _names_of(event: RecordedEvent) -> list[str]:
    return clear.names_in(event.type, event.data_json, known.MARKED.events)


def _seal(json: str, names: list[str], cipher: Cipher | None, place: str) -> tuple[str, Data]:
    """The JSON with these fields sealed, beside those that are; and the data that will be read from it."""
    its = Sealed.found(json)
    if its:
        names = [*its.names.split(","), *names]
        json = its.opened(cipher, place) if cipher and its.token else its.hidden()
    data = from_json(json)
    others = {name: value for name, value in data.items() if name not in names}
    personal = {name: data[name] for name in names}
    new = sealed(to_json(others), to_json(personal), ",".join(names), cipher, place).decode()
    return new, data if cipher else data | dict.fromkeys(names)


def _read(json: str, cipher: Cipher | None, place: str) -> Data | None:
    its = Sealed.found(json)
    return from_json(its.shown(cipher, place)) if its else None


def _recorded(row: tuple[Any, ...]) -> RecordedEvent:
    return RecordedEvent._make(each.decode() if isinstance(each, bytes) else each for each in row[:-1])


@contextmanager
def changeable(log: Connection) -> Iterator[None]:
    """Have the engine let events be changed. Others never see it so: it refuses again when the transaction ends."""
    if log.dialect.name == "postgresql":
        execute(log, f"ALTER TABLE events DISABLE TRIGGER {TRIGGER}")
        yield
        execute(log, f"ALTER TABLE events ENABLE TRIGGER {TRIGGER}")
        return
    trigger = log.exec_driver_sql("SELECT sql FROM sqlite_schema WHERE name = ?", (TRIGGER,)).scalar_one()
    execute(log, f"DROP TRIGGER {TRIGGER}")
    yield
    execute(log, trigger)


_set_event = (
    update(events)
    .values(data=bindparam("its_data"), hash=bindparam("its_hash"))
    .where(events.c.position == bindparam("its_position"))
)
_set_command = (
    update(commands)
    .values(data=bindparam("its_data"), fingerprint=bindparam("its_fingerprint"))
    .where(commands.c.seq == bindparam("its_seq"))
)
_fingerprints = select(commands.c.seq, commands.c.fingerprint).where(
    commands.c.seq > bindparam("after"), commands.c.seq <= bindparam("upto")
)
_rejected = select(outcomes.c.seq, outcomes.c.problem).where(outcomes.c.problem.like("%-taken%"))
_set_problem = update(outcomes).values(problem=bindparam("its_problem")).where(outcomes.c.seq == bindparam("its_seq"))
