"""Deciding on commands in memory, each on the state that the ones before it leave."""

import logging
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import reduce
from typing import Any, Literal

from shared.decider import Decider, Rejected, UniqueKey
from shared.event_store import Append, Head, NewEvent, RecordedEvent
from shared.inbox import Accepted
from shared.messages import now
from shared.outcomes import Outcome

MAX_TRIES = 3
"""A rule that raises so often on a command has failed it; before that, the sweep tries again."""

log = logging.getLogger(__name__)


class Batch:
    """What a chunk of commands comes to: appends, outcomes, moved keys, and the tries that failed."""

    def __init__(
        self,
        aggregates: Mapping[str, Decider[Any, Any, Any]],
        heads: Mapping[str, Head],
        history: Mapping[str, Sequence[RecordedEvent]],
        position: int,
        owners: Mapping[UniqueKey, str | None],
        tries: Callable[[int], int],
    ) -> None:
        """`position` is the log's last, `owners` the streams known to hold keys, `tries` those of a seq in vain."""
        self.appends: list[Append] = []
        self.outcomes: list[Outcome] = []
        self.moved: dict[UniqueKey, str | None] = {}
        self.failed_tries: dict[int, tuple[int, str]] = {}
        self.assumed_free: set[UniqueKey] = set()
        self.stuck: set[str] = set()
        self._aggregates = aggregates
        self._versions = {stream: head.version for stream, head in heads.items()}
        self._states: dict[str, Any] = {}
        self._history = history
        self._position = position
        self._owners = owners
        self._tries = tries
        self._now = now()

    @property
    def has_events(self) -> bool:
        return any(append.events for append in self.appends)

    def handle(self, command: Accepted) -> None:
        if command.stream in self.stuck:
            return
        try:
            events = self._decide(command)
        except Rejected as no:
            self._end(command, "rejected", {"type": no.type, "status": no.status, "detail": no.detail})
        except Exception as error:
            log.exception("%s %s of %s raised", command.type, command.command_id, command.stream)
            self._stumble(command, f"{type(error).__name__}: {error}")
        else:
            self._succeed(command, events)

    def _decide(self, command: Accepted) -> list[NewEvent]:
        stream, version = command.stream, self._versions[command.stream]
        if command.expected_version not in (None, version):
            detail = f"{stream} is at version {version}, not at {command.expected_version}."
            raise Rejected("version-conflict", detail, status=412)
        rules = self._aggregates[stream.rpartition("-")[0]]
        before = self._state(stream, rules)
        message = rules.commands[command.type].model_validate_json(command.data)
        events = rules.decide(message, before)
        after = reduce(rules.evolve, events, before)
        self._move_keys(stream, rules.unique_keys(before), rules.unique_keys(after))
        self._states[stream] = after
        return [NewEvent(type(event).__name__, event, {"command_id": command.command_id}) for event in events]

    def _state(self, stream: str, rules: Decider[Any, Any, Any]) -> Any:
        if stream not in self._states:
            past = (rules.events[event.type].model_validate(event.data) for event in self._history.get(stream, ()))
            self._states[stream] = reduce(rules.evolve, past, None)
        return self._states[stream]

    def _move_keys(self, stream: str, before: AbstractSet[UniqueKey], after: AbstractSet[UniqueKey]) -> None:
        for key in after - before:
            if key not in self.moved and key not in self._owners:
                self.assumed_free.add(key)
            if self.moved.get(key, self._owners.get(key)):
                raise Rejected(f"{key.scope}-taken", f"The {key.scope} {key.value} is taken.")
        self.moved |= dict.fromkeys(before - after) | dict.fromkeys(after - before, stream)

    def _succeed(self, command: Accepted, events: Sequence[NewEvent]) -> None:
        stream, version = command.stream, self._versions[command.stream]
        self._versions[stream] = version + len(events)
        self._position += len(events)
        self.appends.append(Append(stream, events, version, command.seq))
        self.outcomes.append(
            Outcome(command.seq, "succeeded", self._now, self._versions[stream], position=self._position)
        )

    def _end(self, command: Accepted, status: Literal["rejected", "failed"], problem: dict[str, Any]) -> None:
        self.appends.append(Append(command.stream, (), self._versions[command.stream], command.seq))
        self.outcomes.append(Outcome(command.seq, status, self._now, problem=problem))

    def _stumble(self, command: Accepted, error: str) -> None:
        tries = self._tries(command.seq) + 1
        self.failed_tries[command.seq] = tries, error
        if tries < MAX_TRIES:
            self.stuck.add(command.stream)
        else:
            detail = f"Gave up after {tries} tries. {error}"
            self._end(command, "failed", {"type": "command-failed", "status": 500, "detail": detail})
