"""Whether the stores hold together: everything that can be told from one of them is held against the others."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from sqlalchemy import Connection

from cli.projections.comparison import differences
from shared.database import engines
from shared.domain.projections import PROJECTIONS
from shared.messages import RecordedEvent
from shared.projection import Projection
from shared.schemas.folding import Aggregates, Wrong, WrongEvent, folded
from shared.schemas.replay import replay
from shared.settings import Settings
from shared.stores import checkpoints, event_store, inbox, outcomes, set_aside, unique_keys
from shared.stores.event_store import PAGE_SIZE, pages
from shared.stores.inbox import Accepted
from shared.stores.outcomes import Outcome

NAMED = 20
"""Pairs of streams with the same key that are named in a line."""


class WrongReadModel(Wrong):
    """It can be made anew."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name


class Contested(Wrong):
    """What comes last, and what the service works with: until one of two streams gives up the key that both hold."""

    def __init__(self, contested: Sequence[tuple[str, str, str]]) -> None:
        first = [f"{one} and {other} hold the same {scope}" for scope, one, other in contested[:NAMED]]
        more = len(contested) - len(first)
        super().__init__("; ".join([*first, *([f"and {more} more"] if more else [])]))


class Stores(NamedTuple):
    """Each as it was at one moment."""

    inbox: Connection
    log: Connection
    read_models: Mapping[str, Connection]


@contextmanager
def snapshots(settings: Settings) -> Iterator[Stores]:
    """All stores as they are now, whatever is written meanwhile.

    Who follows comes first: so no read model is ahead of the log, and no outcome of the inbox. That is how they would
    be if the workers had been slower by a few milliseconds.
    """
    with ExitStack() as opened:

        def see(url: str) -> Connection:
            return opened.enter_context(engines.snapshot(url))

        read_models = {name: see(settings.read_model_of(name)) for name in PROJECTIONS}
        log = see(settings.event_store)
        yield Stores(see(settings.inbox), log, read_models)


def checks(stores: Stores, aggregates: Aggregates, *, but: Collection[str] = ()) -> dict[str, Iterator[int]]:
    """By what they check. Each yields how much it has gone through since, and raises Wrong at the first thing wrong.

    `but`: read models that aren't looked at.
    """
    looked_at = {name: which for name, which in PROJECTIONS.items() if name not in but}
    read_models = {f"read model {name}": _read_model(stores, which) for name, which in looked_at.items()}
    return {
        "commands and outcomes": _commands(stores),
        "positions": _positions(stores.log),
        "events and outcomes": _causes(stores),
        "versions and unique keys": _streams(stores.log, aggregates),
        **read_models,
        "keys held once": _contested(stores.log),
    }


def _commands(stores: Stores) -> Iterator[int]:
    accepted, handled = inbox.last_seq(stores.inbox), outcomes.settled_seq(stores.log)
    if handled > accepted:
        raise Wrong(f"the inbox ends at command {accepted}, the event store at {handled}: they aren't a pair")
    last, seq = event_store.last_position(stores.log), 0
    while page := inbox.read_after(stores.inbox, seq, limit=PAGE_SIZE):
        for each in page:
            if each.seq != seq + 1:
                raise Wrong(f"the inbox: command {each.seq} follows {seq}")
            seq = each.seq
        _check_outcomes(stores.log, [each.seq for each in page if each.seq <= handled], last)
        yield len(page)
    if seq != accepted:
        raise Wrong(f"the inbox: {accepted} commands were accepted, the last one is {seq}")


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


def _positions(log: Connection) -> Iterator[int]:
    position = 0
    for page in pages(event_store.read_between(log, after=0, upto=event_store.last_position(log))):
        for each in page:
            if each.position != position + 1:
                raise Wrong(f"the log: event {each.position} follows {position}")
            position = each.position
        yield len(page)


def _causes(stores: Stores) -> Iterator[int]:
    """Each command's events stand together and end where its outcome says. What was imported has no commands here."""
    events = event_store.read_between(stores.log, after=0, upto=event_store.last_position(stores.log))
    caused = ((cause, list(its)) for cause, its in groupby(events, key=_cause))
    imported = True
    for page in pages(caused):
        known = inbox.find_all(stores.inbox, [cause for cause, _ in page])
        ended = outcomes.find(stores.log, [each.seq for each in known.values()])
        for cause, its in page:
            command = known.get(cause)
            imported = imported and not command
            if not imported:
                _check_cause(its, command, ended.get(command.seq) if command else None)
        yield sum(len(its) for _, its in page)


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


def _streams(log: Connection, aggregates: Aggregates) -> Iterator[int]:
    held = 0
    for page in pages(folded(log, aggregates)):
        holders = unique_keys.holders(log, (key for each in page for key in each.keys))
        for each in page:
            for key, its in each.keys.items():
                if each.stream not in holders[key]:
                    other = next(iter(holders[key]), "nobody")
                    raise Wrong(f"{key.scope} {its.shown} is held by {each.stream}, and kept for {other}")
            held += len(each.keys)
        yield sum(each.version for each in page)
    if (kept := unique_keys.count(log)) != held:
        raise Wrong(f"{kept} unique keys are kept, and {held} held")


def _contested(log: Connection) -> Iterator[int]:
    if contested := unique_keys.contested(log):
        raise Contested(contested)
    yield unique_keys.count(log)


def _read_model(stores: Stores, which: Projection) -> Iterator[int]:
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
            raise WrongReadModel(which.name, row.told(table))
