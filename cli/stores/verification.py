"""`cqrs verify`: everything that can be told from one store is held against the others."""

import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory

from sqlalchemy import Connection

from cli.output import complain, progress, say
from cli.stores import people, schemas
from cli.stores.protect import IN_THE_CLEAR
from cli.stores.snapshots import Snapshots, snapshots
from shared.database import engines
from shared.domain.projections import PROJECTIONS
from shared.messages import RecordedEvent
from shared.operations import clear, record, unkeyed
from shared.projection import Projection
from shared.schemas import chain
from shared.schemas.folding import Aggregates, Wrong, WrongEvent, folded, hashed
from shared.schemas.known import AGGREGATES, MARKED
from shared.schemas.replay import replay
from shared.settings import Settings
from shared.stores import checkpoints, event_store, inbox, outcomes, set_aside, subjects, unique_keys
from shared.stores.event_store import PAGE_SIZE, pages
from shared.stores.inbox import Accepted
from shared.stores.outcomes import Outcome
from workers.projecting.comparison import differences

CLEAR = "events in the clear"
PEOPLE = "people and keys"
"""The name of a check."""

IN_FLIGHT_SECONDS = 1.0
"""How long an erasure may take from the destruction of the key until its event is in the log, at a worker's pace."""

LOOK_EVERY = 0.05

NAMED_PAIRS = 20
"""Pairs of streams with the same key that an error names."""


class WrongReadModel(Wrong):
    """A read model is wrong. It can be rebuilt."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name


class Contested(Wrong):
    """Two streams hold one key. The service works on, and keeps the key for one until the other gives it up."""

    def __init__(self, contested: Sequence[tuple[str, str, str]]) -> None:
        first = [f"{one} and {other} hold the same {scope}" for scope, one, other in contested[:NAMED_PAIRS]]
        more = len(contested) - len(first)
        super().__init__("; ".join([*first, *([f"and {more} more"] if more else [])]))


def verify(settings: Settings, *, quiet: bool = False, but: Collection[str] = ()) -> dict[str, int]:
    """Run every check; returns how much each went through. Raises Wrong at the first thing that is wrong.

    `quiet`: say nothing of each check on stdout. `but`: checks that are left out, by what they check.
    """
    done: dict[str, int] = {}
    with snapshots(settings) as stores:
        every = {"schemas": schemas.check(settings, stores)} | checks(stores, AGGREGATES)
        for what, check in every.items():
            if what in but:
                continue
            done[what] = sum(progress(check, what))
            if not quiet:
                say(f"ok  {what}: {done[what]:,}")
        done[CLEAR] = sum(progress(clear.counted(stores.log, MARKED.events), CLEAR))
        if done[CLEAR] or clear.is_any(stores.log, stores.inbox, MARKED):
            complain(f"{IN_THE_CLEAR} ({done[CLEAR]:,} events)")
    return done


def verdict(settings: Settings) -> dict[str, object]:
    """Run every check; returns the result as a program reads it."""
    try:
        checked = verify(settings, quiet=True)
    except Wrong as wrong:
        return {"well": False, "wrong": str(wrong), "checked": None, "in_the_clear": None}
    in_the_clear = checked.pop(CLEAR)
    return {"well": True, "wrong": None, "checked": checked, "in_the_clear": in_the_clear}


def name_of(which: Projection) -> str:
    """The name of the check of a projection's read model."""
    return f"read model {which.name}"


def checks(stores: Snapshots, aggregates: Aggregates) -> dict[str, Iterator[int]]:
    """The checks, by what they check. Each yields how much it has gone through since, and raises Wrong."""
    return {
        "commands and outcomes": _commands(stores),
        "positions and hashes": map(len, chain.checked(stores.log)),
        "events and outcomes": _causes(stores),
        "versions and unique keys": _streams(stores, aggregates),
        PEOPLE: _people(stores),
        **{name_of(which): _read_model(stores, which) for which in PROJECTIONS.values()},
        "keys held once": _contested(stores.log),
    }


def _commands(stores: Snapshots) -> Iterator[int]:
    accepted, handled = inbox.last_seq(stores.inbox), outcomes.settled_seq(stores.log)
    if handled > accepted:
        raise Wrong(f"the inbox ends at command {accepted}, the event store at {handled}: they aren't a pair")
    last, seq, emptied = event_store.last_position(stores.log), 0, 0
    while page := inbox.read_after(stores.inbox, seq, limit=PAGE_SIZE):
        for each in page:
            if each.seq != seq + 1:
                raise Wrong(f"the inbox: command {each.seq} follows {seq}")
            if each.is_emptied and emptied != seq:
                raise Wrong(f"the inbox: command {each.seq} has no data, and {emptied + 1} before it has")
            seq = each.seq
            emptied += each.is_emptied
        _check_outcomes(stores.log, [each.seq for each in page if each.seq <= handled], last)
        yield len(page)
    if seq != accepted:
        raise Wrong(f"the inbox: {accepted} commands were accepted, the last one is {seq}")
    if emptied > (ended := outcomes.ended_seq(stores.log)):
        raise Wrong(f"the inbox: command {ended + 1} has no data, and has yet to be handled")


def _check_outcomes(log: Connection, seqs: Sequence[int], last: int) -> None:
    ended = outcomes.find(log, seqs)
    aside = {each.seq for each in set_aside.find(log, seqs)}
    for seq in seqs:
        if seq not in ended and seq not in aside:
            raise Wrong(f"command {seq} has no outcome, and later ones have")
        if seq in ended and seq in aside:
            raise Wrong(f"command {seq} has an outcome, and is set aside")
        if seq in ended and (ended[seq].position or 0) > last:
            raise Wrong(f"command {seq} ended at event {ended[seq].position}, the log ends at {last}")


def _causes(stores: Snapshots) -> Iterator[int]:
    """Each command's events stand together and end where its outcome says.

    Imported events have no commands here, and operations have none at all.
    """
    events = event_store.read_between(stores.log, after=0, upto=event_store.last_position(stores.log))
    commanded = (each for each in events if each.stream != record.STREAM)
    caused = ((cause, list(group)) for cause, group in groupby(commanded, key=_cause))
    imported = True
    for page in pages(caused):
        known = inbox.find_all(stores.inbox, [cause for cause, _ in page])
        ended = outcomes.find(stores.log, [each.seq for each in known.values()])
        for cause, group in page:
            command = known.get(cause)
            imported = imported and not command
            if not imported:
                _check_cause(group, command, ended.get(command.seq) if command else None)
        yield sum(len(group) for _, group in page)


def _check_cause(events: Sequence[RecordedEvent], command: Accepted | None, outcome: Outcome | None) -> None:
    first, last = events[0], events[-1]
    if not command:
        raise Wrong(f"event {first.position}: its command {_cause(first)} was never accepted")
    if any(each.stream != command.stream for each in events):
        raise Wrong(f"event {first.position} is of {first.stream}, its command {command.seq} of {command.stream}")
    if not outcome or outcome.status != "succeeded":
        raise Wrong(
            f"event {first.position}: its command {command.seq} has {outcome.status if outcome else 'no outcome'}"
        )
    if (outcome.position, outcome.version) != (last.position, last.version):
        raise Wrong(
            f"command {command.seq} ended at event {outcome.position} with version {outcome.version}, "
            f"its last event is {last.position} with version {last.version}"
        )


def _cause(event: RecordedEvent) -> str:
    return str(event.metadata.get("command_id"))


def _streams(stores: Snapshots, aggregates: Aggregates) -> Iterator[int]:
    log, held = stores.log, 0
    blind = subjects.of(log).blind
    for page in pages(folded(log, aggregates)):
        kept_as = {key: hashed(key, blind) for each in page for key in each.keys}
        holders = unique_keys.holders(log, kept_as.values())
        for each in page:
            for key, held_key in each.keys.items():
                if each.stream not in (its := holders[kept_as[key]]):
                    other = next(iter(its), "nobody")
                    raise Wrong(f"{key.scope} {held_key.shown} is held by {each.stream}, and kept for {other}")
            held += len(each.keys)
        yield sum(each.version for each in page)
    if (kept := unique_keys.count(log)) == held:
        return
    hidden = {*unkeyed.unreadable_in(log, stores.people), *unkeyed.unfinished_in(log, stores.people)}
    if kept - unique_keys.count_of(log, hidden) != held:
        raise Wrong(f"{kept} unique keys are kept, and {held} held")


def _people(stores: Snapshots) -> Iterator[int]:
    """Whoever isn't erased has a key, whoever is has none; and the log says of whom keys were destroyed."""
    log, keys = stores.log, stores.people
    erased = unkeyed.erased_in(log)
    if found := people.keyed(keys, erased | people.erasures(keys)):
        raise Wrong(f"{unkeyed.in_words(found)} was erased, and has a key")
    if lost := list(unkeyed.unreadable_in(log, keys)):
        raise people.Lost(lost)
    if found := unkeyed.unfinished_in(log, keys):
        until = time.monotonic() + IN_FLIGHT_SECONDS
        with log.engine.connect() as later:
            while found and time.monotonic() < until:
                time.sleep(LOOK_EVERY)
                found = unkeyed.unfinished_in(later, keys)
        if found:
            raise people.Unfinished(found)
    yield len(erased)


def _contested(log: Connection) -> Iterator[int]:
    if contested := unique_keys.contested(log):
        raise Contested(contested)
    yield unique_keys.count(log)


def _read_model(stores: Snapshots, which: Projection) -> Iterator[int]:
    found = stores.read_models[which.name]
    position, _, stopped = checkpoints.progress(found, which.name)
    last = event_store.last_position(stores.log)
    if position > last:
        raise Wrong(f"the log ends at event {last}, {which.name} is at {position} already: they aren't a pair")
    if stopped:
        raise WrongReadModel(which.name, f"{which.name} is stopped before event {stopped.event}: {stopped.error}")
    with TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder) / 'replay.db'}"
        with engines.briefly(engines.writer(url, lock="replay", durable=False, create=True)) as anew:
            try:
                yield from replay(stores.log, anew, which, upto=position)
                with anew.connect() as expected:
                    _compare(found, expected, which)
                yield from replay(stores.log, anew, which, after=position, upto=last)  # what is still to come
            except WrongEvent as wrong:
                raise WrongReadModel(which.name, str(wrong)) from wrong


def _compare(found: Connection, expected: Connection, which: Projection) -> None:
    for table in which.tables:
        with closing(differences(found, expected, table)) as rows:
            row = next(rows, None)
        if row:
            raise WrongReadModel(which.name, row.in_words(table))
