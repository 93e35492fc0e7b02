"""Handling: inbox rows to events, outcomes and unique keys, in one transaction of the event store."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import NamedTuple

from sqlalchemy import Connection, Engine

from shared.database.engines import is_trouble
from shared.database.errors import Taken
from shared.database.statements import attempt
from shared.decider import UniqueKey
from shared.domain.aggregates import AGGREGATES
from shared.stores import event_store, inbox, outcomes, set_aside, unique_keys
from shared.stores.event_store import Heads
from shared.stores.inbox import Accepted
from shared.stores.set_aside import SetAside
from shared.stores.unique_keys import Holders
from workers import measures, reporting
from workers.handling.batch import Batch
from workers.handling.folds import Folds
from workers.poison import watch
from workers.poison.watch import Suspect, Watch

CHUNK = 500
"""Commands in one transaction, at most."""

REST = 0.1
"""Seconds for which a worker takes no message when another one has the log."""

CAREFUL = 10.0
"""Seconds for which each command is probed first, once one ended a process."""

CAREFUL_CHUNK = 50
"""Commands in one transaction while they are: a probe takes 5 ms, and others wait."""

GUESSES = 2
"""Times that a chunk is decided before keys are looked up: one caller can see to it that each time one key is found."""

measures.expect(type_ for rules in AGGREGATES.values() for type_ in rules.commands)


class Turn(NamedTuple):
    """The commands of one transaction; the streams on which one is set aside; how often each was tried in vain."""

    chunk: Sequence[Accepted]
    stuck: set[str]
    tries: Mapping[int, int]
    suspect: Suspect | None = None


class CommandHandler:
    """Commands take effect in order of seq, each exactly once, however many workers are at it: they take turns.

    What commits, commits whole: events, outcomes, unique keys and what is set aside.
    """

    def __init__(self, inbox_: Engine, store: Engine, watch: Watch) -> None:
        self._inbox = inbox_
        self._store = store
        self._watch = watch
        self._careful_until = 0.0
        self._seen = 0

    def handle(self) -> int:
        """Handle the next commands in the inbox; returns how many it took up, 0 if none was waiting.

        Raises Taken if its store's writer doesn't wait for another worker's turn to end.
        """
        began = time.time_ns()
        with self._store.begin() as connection, self._inbox.connect() as reading:
            suspect, reached = self._watch.suspect(connection), outcomes.reached(connection)
            if suspect:
                self._be_careful()
            new = inbox.read_after(reading, max(reached), limit=self._limit())
            self._seen = new[-1].seq if new else max(reached)
            tries = _take_back(connection, set_aside.find_set_aside(connection, [suspect.seq])) if suspect else {}
            chunk = _upto(suspect, inbox.read(reading, tries) + new)
            if not chunk:
                if suspect:
                    self._watch.forget(connection)
                return 0
            stuck = set_aside.stuck_streams(connection) if reached.aside else set()
            batches = self._handle(connection, Turn(chunk, stuck, tries, suspect))
            folds = Folds.of(connection)
            self._seen = chunk[-1].seq
        _committed(chunk, batches, folds, began)
        if suspect:
            with suppress(Taken):
                return len(chunk) + self.handle()
        return len(chunk)

    def is_behind(self) -> bool:
        """Whether there is more in the inbox than it has seen."""
        with self._inbox.connect() as reading:
            return bool(inbox.read_after(reading, self._seen, limit=1))

    def retry(self) -> int:
        """Handle each command that was set aside, as `handle` does; returns how many have an outcome now."""
        count = after = 0
        stuck: set[str] = set()
        while True:
            began = time.time_ns()
            with self._store.begin() as connection, self._inbox.connect() as reading:
                if self._watch.suspect(connection):  # `handle` sees to it first
                    return count
                tries = _take_back(connection, set_aside.set_aside_after(connection, after, limit=self._limit()))
                if not tries:
                    return count
                turn = Turn(inbox.read(reading, tries), stuck, tries)
                batches = self._handle(connection, turn)
                folds = Folds.of(connection)
            count, after = count + _committed(turn.chunk, batches, folds, began), max(tries)

    def _handle(self, connection: Connection, turn: Turn) -> list[Batch]:
        """Handle a chunk; if what comes of it can't be written, handle each of its commands by itself.

        A command to a stuck stream is set aside, and the stream of every command set aside here is stuck.
        """
        try:
            with attempt(connection):
                batch = self._decide(connection, turn)
                _write(connection, batch)
        except BaseException as error:
            if is_trouble(error) or isinstance(error, OSError):  # the store's, or the watch's
                raise
            if len(turn.chunk) > 1:
                ones = (self._handle(connection, turn._replace(chunk=[command])) for command in turn.chunk)
                return [batch for one in ones for batch in one]
            batch = Batch({}, Heads({}, 0), {}, [], {}, (), turn.tries)
            batch.stumble(turn.chunk[0], error)
            _write(connection, batch)
        turn.stuck.update(each.stream for each in batch.set_aside)
        return [batch]

    def _decide(self, connection: Connection, turn: Turn) -> Batch:
        """Decide as if keys were free, or held by who gives them up; look them up at once, and decide again if not.

        In the end each is looked up when it is asked for.
        """
        heads = event_store.heads(connection, {command.stream for command in turn.chunk})
        folds, history = Folds.of(connection).upto(connection, heads.versions)
        known = dict[UniqueKey, Holders]()
        new_batch = partial(Batch, AGGREGATES, heads, folds, history, known, turn.stuck, turn.tries)
        deadly = self._deadly(connection, turn, new_batch)
        exactly = self._is_careful() or bool(turn.tries)
        for guess in range(GUESSES + 1):
            batch = new_batch(look_up=partial(_holders_of, connection) if guess == GUESSES else None)
            with self._watch.deciding(connection, exactly=exactly):
                for command in turn.chunk:
                    if error := deadly.get(command.seq):
                        batch.stumble(command, error)
                    else:
                        self._watch.on(connection, command.seq)
                        batch.handle(command)
            found = unique_keys.holders(connection, batch.assumed)
            if found == batch.assumed:
                break
            known |= found
        return batch

    def _deadly(self, connection: Connection, turn: Turn, new_batch: Callable[[], Batch]) -> dict[int, Exception]:
        """What commands do to a process, by seq: one did so just now, others would. Behind one there may be more."""
        chunk, _, tries, suspect = turn
        if suspect and suspect.seq in {command.seq for command in chunk}:
            return {suspect.seq: suspect.error}
        suspicious = chunk if self._is_careful() else [command for command in chunk if tries.get(command.seq)]
        probes = {command.seq: partial(_try, new_batch, command) for command in suspicious}
        found = watch.probe(probes, partial(self._watch.show_life, connection))
        if found.keys() - tries.keys():
            self._be_careful()
        return found

    def _limit(self) -> int:
        return min(CHUNK, CAREFUL_CHUNK) if self._is_careful() else CHUNK

    def _be_careful(self) -> None:
        self._careful_until = time.monotonic() + CAREFUL

    def _is_careful(self) -> bool:
        return time.monotonic() < self._careful_until


def _upto(suspect: Suspect | None, chunk: list[Accepted]) -> list[Accepted]:
    """What is found out of a suspect is committed before another command gets to end the process."""
    seqs = [command.seq for command in chunk]
    return chunk[: seqs.index(suspect.seq) + 1] if suspect and suspect.seq in seqs else chunk


def _take_back(connection: Connection, these: Sequence[SetAside]) -> Mapping[int, int]:
    """Returns how often each was tried in vain, by seq."""
    set_aside.take_back(connection, these)
    return {each.seq: each.tries for each in these}


def _holders_of(connection: Connection, key: UniqueKey) -> Holders:
    return unique_keys.holders(connection, [key])[key]


def _try(new_batch: Callable[[], Batch], command: Accepted) -> None:
    new_batch().handle(command)


def _committed(chunk: Sequence[Accepted], batches: Sequence[Batch], folds: Folds, began: int) -> int:
    """Returns how many commands have an outcome now."""
    for batch in batches:
        folds.keep(batch.folds())
    commands = {command.seq: command for command in chunk}
    ended = [(commands[outcome.seq], outcome) for batch in batches for outcome in batch.outcomes]
    measures.handled(chunk, batches)
    if ended:
        reporting.handled(ended, began=began)
    return len(ended)


def _write(connection: Connection, batch: Batch) -> None:
    event_store.append(connection, *batch.appends, at=batch.heads)
    outcomes.record(connection, batch.outcomes)
    unique_keys.move(connection, batch.moved, contested=batch.contested())
    set_aside.set_aside(connection, batch.set_aside)
