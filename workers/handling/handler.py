"""The command handler: commands in the inbox become events, outcomes and unique keys, in one transaction."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import NamedTuple

from sqlalchemy import Connection, Engine

from shared.database.errors import Taken, is_trouble
from shared.database.statements import attempt
from shared.decider import Rejected, UniqueKey
from shared.domain.projections import ERASING
from shared.messages import ErasedEvent, RecordedEvent
from shared.operations import clear
from shared.operations.deeds import EFFECTS, At
from shared.schemas.known import AGGREGATES, MARKED
from shared.stores import event_store, inbox, outcomes, set_aside, subjects, unique_keys
from shared.stores.event_store import Heads
from shared.stores.inbox import Accepted
from shared.stores.set_aside import SetAside
from shared.stores.unique_keys import Holders
from workers import reporting
from workers.handling.batch import Batch
from workers.handling.folds import Folds
from workers.poison.caution import Caution, up_to
from workers.poison.watch import Suspect, Watch

CHUNK = 500
"""Commands in one transaction, at most."""

TAKEN_REST_SECONDS = 0.1
"""How long a worker takes no message when another one has the log."""

GUESSES = 2
"""Times that a chunk is decided by assumptions about keys: a caller could have each of them find one more key."""

reporting.expect(type_ for rules in AGGREGATES.values() for type_ in rules.commands)


RESTS = 1.5
"""Seconds that a worker leaves a command alone after it saw that a try failed, be it another worker's."""


class Rests:
    """Says which commands set aside may be tried again: each worker looks by itself, so tries would follow at once."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._since: dict[tuple[int, int], float] = {}

    def see(self, these: Iterable[SetAside]) -> None:
        """Their rest begins, unless they were seen with as many tries before."""
        now = time.monotonic()
        self._since = {seen: since for seen, since in self._since.items() if now - since < 10 * self._seconds}
        for each in these:
            if each.tries:
                self._since.setdefault((each.seq, each.tries), now)

    def is_over(self, each: SetAside) -> bool:
        """Whether a command that was seen may be tried again. One that only waits behind another needs no rest."""
        return not each.tries or time.monotonic() - self._since[each.seq, each.tries] >= self._seconds


class Turn(NamedTuple):
    """One transaction's commands, the streams on which a command is set aside, and failed tries by seq."""

    commands: Sequence[Accepted]
    stuck: set[str]
    tries: Mapping[int, int]
    suspect: Suspect | None = None


class CommandHandler:
    """Handles commands in order of seq, each exactly once. However many workers there are, they take turns.

    Events, outcomes, unique keys and commands set aside commit together or not at all. Before an event that erases a
    subject is committed, the subject's key is destroyed for good.
    """

    def __init__(self, inbox_: Engine, store: Engine, watch: Watch, *, rests: float = 0) -> None:
        self._inbox = inbox_
        self._store = store
        self._caution = Caution(watch)
        self._rests = Rests(rests)
        self._seen = 0
        self._is_protected = False

    def handle(self, committed: Callable[[], object] = lambda: None) -> int:
        """Handle the next commands in the inbox; returns how many it took up, 0 if none was waiting.

        `committed` is called as soon as they are, before anything is reported of them. Raises Taken if its store's
        writer doesn't wait for another worker's turn to end.
        """
        turn, _ = self._take(self._next, committed)
        if turn.suspect and turn.commands:
            with suppress(Taken):
                return len(turn.commands) + self.handle(committed)
        return len(turn.commands)

    def is_behind(self) -> bool:
        """Whether the inbox has commands that came after the last look."""
        with self._inbox.connect() as reading:
            return bool(inbox.read_after(reading, self._seen, limit=1))

    def retry(self, committed: Callable[[], object] = lambda: None) -> int:
        """Handle each command that was set aside and doesn't rest, as `handle` does.

        Returns how many have an outcome now.
        """
        count = after = 0
        stuck: set[str] = set()
        while True:
            turn, ended = self._take(partial(self._next_set_aside, after, stuck), committed)
            if not turn.commands:
                return count
            count, after = count + ended, max(turn.tries)

    def _take(
        self, next_turn: Callable[[Connection, Connection], Turn], committed: Callable[[], object]
    ) -> tuple[Turn, int]:
        """Take a turn in a transaction of its own; returns the turn, and how many commands have an outcome now."""
        began = time.time_ns()
        with self._store.begin() as connection, self._inbox.connect() as reading:
            people, folds = subjects.of(connection), Folds.of(connection)
            folds.forget(people.erased())
            turn = next_turn(connection, reading)
            if not turn.commands:
                return turn, 0
            batches = self._handle(connection, turn)
            if erased := [stream for batch in batches for stream in batch.erased]:
                people.erase(erased)  # if the commit then fails, the next try goes on from here
        committed()
        for batch in batches:
            folds.keep(batch.folds())
        ended = [outcome for batch in batches for outcome in batch.outcomes]
        aside = [each for batch in batches for each in batch.set_aside]
        self._rests.see(aside)
        reporting.handled(turn.commands, ended, aside, began=began)
        return turn, len(ended)

    def _next(self, connection: Connection, reading: Connection) -> Turn:
        """The next commands of the inbox; if there is a suspect, it and those before it."""
        suspect, reached = self._caution.suspect(connection), outcomes.reached(connection)
        new = inbox.read_after(reading, max(reached), limit=self._caution.limit(CHUNK))
        tries = _take_back(connection, set_aside.find(connection, [suspect.seq])) if suspect else {}
        commands = up_to(suspect, inbox.read(reading, tries) + new)
        self._seen = commands[-1].seq if commands else max(reached)
        if suspect and not commands:
            self._caution.dismiss(connection)
        stuck = set_aside.stuck_streams(connection) if commands and reached.aside else set()
        return Turn(commands, stuck, tries, suspect)

    def _next_set_aside(self, after: int, stuck: set[str], connection: Connection, reading: Connection) -> Turn:
        """The next commands that were set aside; none while there is a suspect, which `handle` takes up first."""
        if self._caution.suspect(connection):
            return Turn([], stuck, {})
        due: list[SetAside] = []
        while not due and (found := set_aside.after(connection, after, limit=CHUNK)):
            after = found[-1].seq
            self._rests.see(found)
            for each in found:
                if not self._rests.is_over(each):
                    stuck.add(each.stream)
                elif each.stream not in stuck:
                    due.append(each)
        tries = _take_back(connection, due[: self._caution.limit(CHUNK)])
        return Turn(inbox.read(reading, tries), stuck, tries)

    def _handle(self, connection: Connection, turn: Turn) -> list[Batch]:
        """Decide the commands and write the batch; if it can't be written, handle each half by itself.

        A command to a stuck stream is set aside, and the stream of every command set aside here is stuck.
        """
        try:
            with attempt(connection):
                batch = self._decide(connection, turn)
                _write(connection, self._inbox, batch)
        except BaseException as error:
            if is_trouble(error) or isinstance(error, OSError):  # the store's, or the watch's
                raise
            if half := len(turn.commands) // 2:
                halves = turn.commands[:half], turn.commands[half:]
                both = (self._handle(connection, turn._replace(commands=each)) for each in halves)
                return [batch for one in both for batch in one]
            batch = Batch({}, Heads({}, 0), {}, [], {}, (), turn.tries, subjects.of(connection))
            if isinstance(error, Rejected):  # by an effect
                batch.reject(turn.commands[0], error)
            else:
                batch.stumble(turn.commands[0], error)
            _write(connection, self._inbox, batch)
        turn.stuck.update(each.stream for each in batch.set_aside)
        return [batch]

    def _decide(self, connection: Connection, turn: Turn) -> Batch:
        """Decide the commands in memory.

        It is first assumed that every unique key a command needs is free, and then looked up, all keys at once. If the
        assumption was wrong, the commands are decided again; at the last try each key is looked up when it is needed.
        """
        heads = event_store.heads(connection, {command.stream for command in turn.commands})
        folds, history = Folds.of(connection).upto(connection, heads.versions)
        known = dict[UniqueKey, Holders]()
        people = subjects.of(connection)
        if begun := _begun_erasures(history):
            unique_keys.release(connection, begun)
        is_clear = partial(self._is_clear, connection)
        new_batch = partial(
            Batch, AGGREGATES, heads, folds, history, known, turn.stuck, turn.tries, people, is_clear=is_clear
        )
        deadly = self._caution.deadly(
            connection, turn.commands, turn.tries, turn.suspect, lambda command: new_batch().handle(command)
        )
        for guess in range(GUESSES + 1):
            batch = new_batch(look_up=partial(_holders_of, connection) if guess == GUESSES else None)
            with self._caution.watching(connection, turn.tries) as about_to_decide:
                for command in turn.commands:
                    if error := deadly.get(command.seq):
                        batch.stumble(command, error)
                    else:
                        about_to_decide(command.seq)
                        batch.handle(command)
            found = unique_keys.holders(connection, batch.assumed)
            if found == batch.assumed:
                break
            known |= found
        return batch

    def _is_clear(self, log: Connection, stream: str) -> bool:
        """Whether what is personal in a stream rests in the clear, so that destroying its key would not erase it."""
        if not self._is_protected:
            with self._inbox.connect() as reading:
                self._is_protected = not clear.is_any(log, reading, MARKED)
        return not self._is_protected or clear.is_stream(log, stream, MARKED.events)


def _take_back(connection: Connection, these: Sequence[SetAside]) -> Mapping[int, int]:
    """End the setting aside of these commands; returns their failed tries by seq."""
    set_aside.take_back(connection, these)
    return {each.seq: each.tries for each in these}


def _begun_erasures(history: Sequence[RecordedEvent]) -> set[str]:
    """The streams whose key was destroyed for an event that was then not committed."""
    erased = {each.stream for each in history if isinstance(each, ErasedEvent)}
    return erased - {each.stream for each in history if each.type in ERASING}


def _holders_of(connection: Connection, key: UniqueKey) -> Holders:
    return unique_keys.holders(connection, [key])[key]


def _write(connection: Connection, inbox_: Engine, batch: Batch) -> None:
    event_store.append(connection, *batch.appends, at=batch.heads)
    outcomes.record(connection, batch.outcomes)
    unique_keys.move(connection, batch.moved, contested=batch.contested())
    if hidden := batch.hidden():
        unique_keys.release(connection, hidden)
    set_aside.add(connection, batch.set_aside)
    for command, deed in batch.deeds:
        EFFECTS[type(deed)](At(connection, inbox_, command.principal or ""), deed)
