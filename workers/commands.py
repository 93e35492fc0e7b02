"""Handling: inbox rows to events, outcomes and unique keys, in one transaction of the event store."""

import logging
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Engine

from shared import event_store, inbox, outcomes
from shared.database import is_trouble
from shared.decider import Decider, UniqueKey
from shared.inbox import Accepted
from shared.outcomes import SetAside
from shared.users.decider import users
from workers.batch import Batch
from workers.folds import Folds
from workers.watch import Suspect, Watch

AGGREGATES: Mapping[str, Decider[Any, Any, Any]] = {"user": users}

CHUNK = 500
"""Commands in one transaction, at most."""

log = logging.getLogger(__name__)


class CommandHandler:
    """Commands take effect in order of seq, each exactly once, however many workers are at it: they take turns.

    What commits, commits whole: events, outcomes, unique keys and what is set aside.
    """

    def __init__(self, inbox_: Engine, store: Engine, watch: Watch) -> None:
        self._inbox = inbox_
        self._store = store
        self._watch = watch
        self._folds = Folds()
        self._careful = 0

    def handle(self) -> int:
        """Handle the next commands in the inbox; returns how many it took up, 0 if none was waiting."""
        with self._store.begin() as connection, self._inbox.connect() as reading:
            suspect = self._watch.suspect()
            new = inbox.read_after(reading, outcomes.last_seq(connection), limit=CHUNK)
            tries = _take_back(connection, outcomes.find_set_aside(connection, [suspect.seq])) if suspect else {}
            chunk = _upto(suspect, inbox.read(reading, tries) + new)
            if not chunk:
                self._watch.forget()
                return 0
            batches = self._handle(connection, chunk, outcomes.stuck_streams(connection), tries, suspect)
        self._committed(batches)
        return len(chunk) + (self.handle() if suspect else 0)

    def retry(self) -> int:
        """Handle each command that was set aside, as `handle` does; returns how many have an outcome now."""
        count = after = 0
        stuck: set[str] = set()
        while True:
            with self._store.begin() as connection, self._inbox.connect() as reading:
                if self._watch.suspect():  # `handle` sees to it first
                    return count
                tries = _take_back(connection, outcomes.set_aside_after(connection, after, limit=CHUNK))
                if not tries:
                    return count
                batches = self._handle(connection, inbox.read(reading, tries), stuck, tries, None)
            count, after = count + self._committed(batches), max(tries)

    def _handle(
        self,
        connection: Connection,
        chunk: Sequence[Accepted],
        stuck: set[str],
        tries: Mapping[int, int],
        suspect: Suspect | None,
    ) -> list[Batch]:
        """Handle a chunk; if what comes of it can't be written, handle each of its commands by itself.

        A command to a stream in `stuck` is set aside, and the stream of every command set aside here is added to it.
        """
        try:
            with connection.begin_nested():
                batch = self._decide(connection, chunk, stuck, tries, suspect)
                _write(connection, batch)
        except Exception as error:
            if is_trouble(error):
                raise
            if len(chunk) > 1:
                ones = (self._handle(connection, [command], stuck, tries, suspect) for command in chunk)
                return [batch for one in ones for batch in one]
            batch = Batch({}, {}, {}, [], 0, {}, (), tries)
            batch.stumble(chunk[0], error)
            _write(connection, batch)
        stuck |= {each.stream for each in batch.set_aside}
        return [batch]

    def _decide(
        self,
        connection: Connection,
        chunk: Sequence[Accepted],
        stuck: Collection[str],
        tries: Mapping[int, int],
        suspect: Suspect | None,
    ) -> Batch:
        """Decide as if every key asked for were free, look them up at once, and decide again if one was taken."""
        versions = event_store.stream_versions(connection, {command.stream for command in chunk})
        folds, history = self._folds.upto(connection, versions)
        position = event_store.last_position(connection)
        owners: dict[UniqueKey, str | None] = {}
        while True:
            batch = Batch(AGGREGATES, versions, folds, history, position, owners, stuck, tries)
            with self._watch.deciding():
                for command in chunk:
                    if error := self._deadly(command, batch, tries, suspect):
                        batch.stumble(command, error)
                    else:
                        self._watch.on(command.seq)
                        batch.handle(command)
            taken = outcomes.owners(connection, batch.assumed_free)
            if not taken:
                return batch
            owners |= dict.fromkeys(batch.assumed_free) | taken

    def _deadly(
        self, command: Accepted, batch: Batch, tries: Mapping[int, int], suspect: Suspect | None
    ) -> Exception | None:
        """What the command does to a process: it did so just now, or would. Behind one suspect there may be more."""
        if suspect and command.seq == suspect.seq:
            self._careful = CHUNK
            return suspect.error
        self._careful -= self._careful > 0
        suspicious = self._careful or tries.get(command.seq)
        return self._watch.probe(lambda: batch.handle(command)) if suspicious else None

    def _committed(self, batches: Sequence[Batch]) -> int:
        """Returns how many commands have an outcome now."""
        ended: Counter[str] = Counter()
        for batch in batches:
            self._folds.keep(batch.folds())
            ended.update(outcome.status for outcome in batch.outcomes)
        if ended:
            log.info("handled %s", " ".join(f"{status}={ended[status]}" for status in sorted(ended)))
        return ended.total()


def _upto(suspect: Suspect | None, chunk: list[Accepted]) -> list[Accepted]:
    """What is found out of a suspect is committed before another command gets to end the process."""
    seqs = [command.seq for command in chunk]
    return chunk[: seqs.index(suspect.seq) + 1] if suspect and suspect.seq in seqs else chunk


def _take_back(connection: Connection, these: Sequence[SetAside]) -> Mapping[int, int]:
    """Returns how often each was tried in vain, by seq."""
    outcomes.take_back(connection, these)
    return {each.seq: each.tries for each in these}


def _write(connection: Connection, batch: Batch) -> None:
    event_store.append(connection, *batch.appends)
    outcomes.record(connection, batch.outcomes)
    outcomes.move_keys(connection, batch.moved)
    outcomes.set_aside(connection, batch.set_aside)
