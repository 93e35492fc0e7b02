"""Deciders: an aggregate's rules as pure functions, without a clock, ids or I/O."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from shared.messages import Command, Event

C = TypeVar("C", bound=Command)
E = TypeVar("E", bound=Event)
S = TypeVar("S")


class Rejected(Exception):
    """A rule refuses a command. `type` names the reason, `detail` says it in words, `status` is the HTTP status."""

    def __init__(self, type: str, detail: str, *, status: int = 409) -> None:
        super().__init__(type, detail, status)
        self.type, self.detail, self.status = type, detail, status


class UniqueKey(NamedTuple):
    """A value that one stream at a time may hold in a scope. A command that would give it to another is rejected.

    The rejection's type is `<scope>-taken`.
    """

    scope: str
    value: str


UniqueKeys = Mapping[UniqueKey, str]
"""For each key the text that it was made of, as the client gave it: `cqrs verify` shows this text."""


def no_keys(state: object) -> UniqueKeys:
    """The unique keys of an aggregate that has none."""
    return {}


@dataclass(frozen=True, kw_only=True)
class Decider(Generic[C, E, S]):
    """An aggregate: its messages by name, and its three rules.

    `decide` returns the events to append: [] if the command changes nothing. It raises Rejected.
    `evolve` returns a new state, after one more event; the state before any event is None.
    `unique_keys` returns the keys that a state holds.
    `erases` is the command that has an event erase the stream's subject; it takes the stream's number alone.
    """

    commands: Mapping[str, type[C]]
    events: Mapping[str, type[E]]
    decide: Callable[[C, S | None], Sequence[E]]
    evolve: Callable[[S | None, E], S]
    unique_keys: Callable[[S | None], UniqueKeys] = no_keys
    erases: type[Command] | None = None
