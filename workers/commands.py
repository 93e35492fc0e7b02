"""Handling: inbox rows to events, outcomes and unique keys, in one transaction of the event store."""

import logging
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import reduce
from typing import Any, Literal, NamedTuple

from sqlalchemy import Connection, Engine

from shared import event_store, inbox, outcomes
from shared.decider import Decider, Rejected, UniqueKey
from shared.event_store import Append, Head, NewEvent, RecordedEvent
from shared.inbox import Accepted
from shared.messages import now
from shared.outcomes import Outcome
from shared.users.decider import users

AGGREGATES: Mapping[str, Decider[Any, Any, Any]] = {"user": users}

CHUNK = 500
"""Commands in one transaction, at most."""

MAX_TRIES = 3
"""A rule that raises so often on a command has failed it; before that, the sweep tries again."""

log = logging.getLogger(__name__)


def handle(commands: Engine, store: Engine, upto: Mapping[str, int]) -> bool:
    """Handle the commands of these streams, up to these seqs, that have no outcome. Tells if it appended events.

    What commits, commits whole: events, outcomes, unique keys and stream heads of a chunk. Commands of one stream
    are handled in order of seq, each exactly once, however many workers are at it: they take turns.
    """
    news = False
    while upto:
        with store.begin() as connection, commands.connect() as accepted:
            heads = event_store.heads(connection, upto)
            spans = {stream: (heads[stream].last_command, seq) for stream, seq in upto.items()}
            chunk = inbox.waiting(accepted, spans, limit=CHUNK)
            batch = _decide_all(connection, chunk, heads)
            batch.write()
        batch.report()
        news = news or any(decision.events for decision in batch.decisions)
        upto = {s: seq for s, seq in upto.items() if s not in batch.stuck} if len(chunk) == CHUNK else {}
    return news


class Decision(NamedTuple):
    command: Accepted
    status: Literal["succeeded", "rejected", "failed"]
    version: int
    events: Sequence[NewEvent] = ()
    problem: dict[str, Any] | None = None


class Batch:
    """Decisions on a chunk of commands, taken in memory, each on the state that the ones before it leave."""

    def __init__(
        self,
        connection: Connection,
        heads: Mapping[str, Head],
        history: Mapping[str, Sequence[RecordedEvent]],
        owners: Mapping[UniqueKey, str | None],
    ) -> None:
        self.connection = connection
        self.versions = {stream: head.version for stream, head in heads.items()}
        self.history = history
        self.states: dict[str, Any] = {}
        self.owners = owners
        self.moved: dict[UniqueKey, str | None] = {}
        self.assumed_free: set[UniqueKey] = set()
        self.decisions: list[Decision] = []
        self.failed_tries: dict[int, tuple[int, str]] = {}
        self.stuck: set[str] = set()

    def handle(self, command: Accepted) -> None:
        stream = command.stream
        if stream in self.stuck:
            return
        try:
            events = self._decide(command)
        except Rejected as no:
            problem = {"type": no.type, "status": no.status, "detail": no.detail}
            self.decisions.append(Decision(command, "rejected", self.versions[stream], problem=problem))
        except Exception as error:
            log.exception("%s %s of %s raised", command.type, command.command_id, stream)
            self._stumble(command, f"{type(error).__name__}: {error}")
        else:
            self.versions[stream] += len(events)
            self.decisions.append(Decision(command, "succeeded", self.versions[stream], events))

    def write(self) -> None:
        if not self.decisions and not self.failed_tries:
            return
        taken = event_store.append(
            self.connection, *(Append(d.command.stream, d.events, last_command=d.command.seq) for d in self.decisions)
        )
        handled_at = now()
        outcomes.record(
            self.connection,
            [
                Outcome(d.command.seq, d.status, handled_at, problem=d.problem)
                if d.problem
                else Outcome(d.command.seq, d.status, handled_at, d.version, positions.stop - 1)
                for d, positions in zip(self.decisions, taken, strict=True)
            ],
        )
        outcomes.move_keys(self.connection, self.moved)
        for seq, (count, error) in self.failed_tries.items():
            outcomes.record_try(self.connection, seq, count, error)

    def report(self) -> None:
        if self.decisions:
            count = Counter(decision.status for decision in self.decisions)
            log.info("handled %s", " ".join(f"{status}={count[status]}" for status in sorted(count)))

    def _decide(self, command: Accepted) -> list[NewEvent]:
        stream, version = command.stream, self.versions[command.stream]
        if command.expected_version not in (None, version):
            detail = f"{stream} is at version {version}, not at {command.expected_version}."
            raise Rejected("version-conflict", detail, status=412)
        rules = _rules(stream)
        before = self._state(stream, rules)
        message = rules.commands[command.type].model_validate_json(command.data)
        events = rules.decide(message, before)
        after = reduce(rules.evolve, events, before)
        self._move_keys(stream, rules.unique_keys(before), rules.unique_keys(after))
        self.states[stream] = after
        return [NewEvent(type(event).__name__, event, {"command_id": command.command_id}) for event in events]

    def _state(self, stream: str, rules: Decider[Any, Any, Any]) -> Any:
        if stream not in self.states:
            past = (rules.events[event.type].model_validate(event.data) for event in self.history.get(stream, ()))
            self.states[stream] = reduce(rules.evolve, past, None)
        return self.states[stream]

    def _move_keys(self, stream: str, before: AbstractSet[UniqueKey], after: AbstractSet[UniqueKey]) -> None:
        for key in after - before:
            if key not in self.moved and key not in self.owners:
                self.assumed_free.add(key)
            if self.moved.get(key, self.owners.get(key)):
                raise Rejected(f"{key.scope}-taken", f"The {key.scope} {key.value} is taken.")
        self.moved |= dict.fromkeys(before - after) | dict.fromkeys(after - before, stream)

    def _stumble(self, command: Accepted, error: str) -> None:
        tries = 1 + outcomes.tries(self.connection, [command.seq]).get(command.seq, 0)
        self.failed_tries[command.seq] = tries, error
        if tries < MAX_TRIES:
            self.stuck.add(command.stream)
            return
        problem = {"type": "command-failed", "status": 500, "detail": f"Gave up after {tries} tries. {error}"}
        self.decisions.append(Decision(command, "failed", self.versions[command.stream], problem=problem))


def _decide_all(connection: Connection, chunk: Sequence[Accepted], heads: Mapping[str, Head]) -> Batch:
    """Decide as if every key asked for were free, look them up at once, and decide again if one was taken."""
    history = _history(connection, chunk, heads)
    owners: dict[UniqueKey, str | None] = {}
    while True:
        batch = Batch(connection, heads, history, owners)
        for command in chunk:
            batch.handle(command)
        taken = outcomes.owners(connection, batch.assumed_free)
        if not taken:
            return batch
        owners |= dict.fromkeys(batch.assumed_free) | taken


def _history(
    connection: Connection, chunk: Sequence[Accepted], heads: Mapping[str, Head]
) -> dict[str, list[RecordedEvent]]:
    history: dict[str, list[RecordedEvent]] = defaultdict(list)
    existing = {command.stream for command in chunk if heads[command.stream].version}
    for event in event_store.read_streams(connection, existing):
        history[event.stream].append(event)
    return history


def _rules(stream: str) -> Decider[Any, Any, Any]:
    return AGGREGATES[stream.rpartition("-")[0]]
