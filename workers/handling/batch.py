"""Deciding commands in memory, each on the state that the ones before it leave."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, MutableMapping, Sequence
from functools import reduce
from typing import Any, Literal

from pydantic_core import from_json

from shared.clock import now
from shared.database.errors import is_trouble
from shared.decider import Decider, Rejected, UniqueKey, UniqueKeys
from shared.errors.reasons import reason_of
from shared.messages import Command, NewEvent, RecordedEvent, UnknownShape, UnreadableEvent
from shared.operations.deeds import EFFECTS
from shared.preconditions import Precondition
from shared.stores.event_store import Append, Heads
from shared.stores.inbox import Accepted
from shared.stores.outcomes import Outcome
from shared.stores.set_aside import SetAside
from shared.stores.subjects import Subjects
from shared.stores.unique_keys import Holders
from shared.telemetry import logs
from workers.handling.folds import Fold

MAX_TRIES = 3
"""Failed tries after which a command has failed; before that it is set aside and tried again."""

log = logs.logger()


class Batch:
    """The result of a chunk of commands: appends, outcomes, moved unique keys, commands set aside, deeds, and erasures.

    A deed is a command that has an effect beside its events. `erased` are the streams whose subjects are erased.
    """

    def __init__(
        self,
        aggregates: Mapping[str, Decider[Any, Any, Any]],
        heads: Heads,
        folds: Mapping[str, Fold],
        history: Sequence[RecordedEvent],
        holders: MutableMapping[UniqueKey, Holders],
        stuck: Collection[str],
        tries: Mapping[int, int],
        people: Subjects,
        look_up: Callable[[UniqueKey], Holders] | None = None,
        is_clear: Callable[[str], bool] = lambda _: False,
    ) -> None:
        """`history` has the events past the folds, `holders` the keys that were looked up.

        Other keys are looked up when a command needs them or, without `look_up`, assumed to be as it needs them.
        A command on one of the `stuck` streams is set aside. `tries` has the failed tries of commands by seq. `people`
        hash the values of unique keys and tell who is erased. No version of an erased one's stream is asked for: an
        erasure that was cut short once the key was destroyed must go on, though without values the commands before it
        may come to another version. `is_clear`: whether personal data of a stream rests in the clear.
        """
        self.appends: list[Append] = []
        self.outcomes: list[Outcome] = []
        self.moved: dict[UniqueKey, Holders] = {}
        self.assumed: dict[UniqueKey, Holders] = {}
        self.set_aside: list[SetAside] = []
        self.deeds: list[tuple[Accepted, Command]] = []
        self.erased: list[str] = []
        self._aggregates = aggregates
        self.heads = heads
        self._versions = dict(heads.versions)
        self._folds = folds
        self._history: dict[str, list[RecordedEvent]] = defaultdict(list)
        for event in history:
            self._history[event.stream].append(event)
        self._position = heads.position
        self._known = holders
        self._look_up = look_up
        self._stuck = set(stuck)
        self._tries = tries
        self._people = people
        self._is_clear = is_clear
        self._states: dict[str, Any] = {}
        self._now = now()

    def handle(self, command: Accepted) -> None:
        """Decide a command: it gets its outcome, or is set aside. Raises only a store's trouble."""
        if command.stream in self._stuck:
            self._set_aside(command, tries=0, error=None)
            return
        try:
            events = self._decide(command)
        except Rejected as no:
            self.reject(command, no)
        except UnknownShape as error:  # a newer worker knows it
            self._set_aside(command, tries=self._tries.get(command.seq, 0), error=reason_of(error))
        except BaseException as error:  # a panic in Rust is one, and so is sys.exit
            if is_trouble(error):  # of the store, while a key was looked up
                raise
            self.stumble(command, error)
        else:
            self._succeed(command, events)

    def reject(self, command: Accepted, no: Rejected) -> None:
        """End a command that was refused."""
        self._end(command, "rejected", {"type": no.type, "status": no.status, "detail": no.detail})

    def stumble(self, command: Accepted, error: BaseException) -> None:
        """Set a command aside whose rule raised, or fail it if it did so too often."""
        log.error("a rule raised", **command.trail(), exc_info=error)
        tries = self._tries.get(command.seq, 0) + 1
        if tries < MAX_TRIES:
            self._set_aside(command, tries=tries, error=reason_of(error))
        else:
            detail = f"Gave up after {tries} tries. {reason_of(error)}"
            self._end(command, "failed", {"type": "command-failed", "status": 500, "detail": detail})

    def hidden(self) -> list[str]:
        """Those of the erased whose keys were lost before, so that it is not known which unique keys they held."""
        return [
            stream for stream in self.erased if any(isinstance(it, UnreadableEvent) for it in self._history[stream])
        ]

    def contested(self) -> list[UniqueKey]:
        """The moved keys that several streams held."""
        return [key for key in self.moved if len(self._known.get(key, ())) > 1]

    def folds(self) -> dict[str, Fold]:
        """The state of each stream after these commands."""
        return {stream: Fold(self._versions[stream], state) for stream, state in self._states.items()}

    def _decide(self, command: Accepted) -> list[NewEvent]:
        stream, version = command.stream, self._versions[command.stream]
        if (wrong := _wrong_version(command, version)) and not self._people.is_erased(stream):
            raise Rejected("version-conflict", wrong, status=412)
        rules = self._aggregates[stream.rpartition("-")[0]]
        before = self._state(stream, rules)
        message = rules.commands[command.type].model_validate_json(command.data)
        events = list(rules.decide(message, before))
        if any(event.erases_subject for event in events) and self._is_clear(stream):
            detail = f"Personal data of {stream} may rest in the clear: `cqrs protect` must encrypt it first."
            raise Rejected("log-in-the-clear", detail)
        after = reduce(rules.evolve, events, before)
        self._move_keys(stream, rules.unique_keys(before), rules.unique_keys(after))
        self._states[stream] = after
        if events and type(message) in EFFECTS:
            self.deeds.append((command, message))
        metadata = {"command_id": command.command_id, **from_json(command.metadata)}
        return [NewEvent(type(event).__name__, event, metadata, event.schema_version) for event in events]

    def _state(self, stream: str, rules: Decider[Any, Any, Any]) -> Any:
        if stream not in self._states:
            past = (event.model(rules.events) for event in self._history[stream])
            self._states[stream] = reduce(rules.evolve, past, self._folds[stream].state)
        return self._states[stream]

    def _hashed(self, keys: Iterable[UniqueKey]) -> list[UniqueKey]:
        return [UniqueKey(key.scope, self._people.blind(*key)) for key in keys]

    def _move_keys(self, stream: str, before: UniqueKeys, after: UniqueKeys) -> None:
        """Move the keys gained and left; a key that other streams hold too stays theirs. Raises Rejected."""
        gained = self._hashed(after.keys() - before.keys())
        left = self._hashed(before.keys() - after.keys())
        for key in gained:
            if self._holders(key, ()):
                raise Rejected(f"{key.scope}-taken", f"This {key.scope} is taken.")  # outcomes are kept: no values
        self.moved |= dict.fromkeys(gained, (stream,))
        for key in left:
            self.moved[key] = tuple(each for each in self._holders(key, (stream,)) if each != stream)

    def _holders(self, key: UniqueKey, assumed: Holders) -> Holders:
        if key in self.moved:
            return self.moved[key]
        if self._look_up and key not in self._known:
            self._known[key] = self._look_up(key)
        if key in self._known:
            return self._known[key]
        return self.assumed.setdefault(key, assumed)

    def _succeed(self, command: Accepted, events: Sequence[NewEvent]) -> None:
        self._versions[command.stream] += len(events)
        self._position += len(events)
        self.appends.append(Append(command.stream, events))
        if any(each.data.erases_subject for each in events):
            self.erased.append(command.stream)
        version = self._versions[command.stream]
        self.outcomes.append(Outcome(command.seq, "succeeded", self._now, version, self._position))

    def _end(self, command: Accepted, status: Literal["rejected", "failed"], problem: dict[str, Any]) -> None:
        self.outcomes.append(Outcome(command.seq, status, self._now, problem=problem))

    def _set_aside(self, command: Accepted, *, tries: int, error: str | None) -> None:
        self._stuck.add(command.stream)
        self.set_aside.append(SetAside(command.seq, command.stream, tries, error))


def _wrong_version(command: Accepted, version: int) -> str | None:
    """In what the stream's version isn't one that the command asks for; None if it is."""
    if command.precondition:
        if not Precondition.stored(command.precondition).holds(version):
            return f"{command.stream} is at version {version}, which isn't one that was asked for."
    elif command.expected_version not in (None, version):
        return f"{command.stream} is at version {version}, not at {command.expected_version}."
    return None
