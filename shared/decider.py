"""The shape of an aggregate's rules: pure functions, no clock, no ids, no I/O."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from shared.messages import Command, Event

C = TypeVar("C", bound=Command)
E = TypeVar("E", bound=Event)
S = TypeVar("S")


class Rejected(Exception):
    """A rule says no. `type` names the reason, `status` is what HTTP calls it."""

    def __init__(self, type: str, detail: str, *, status: int = 409) -> None:
        super().__init__(type, detail, status)
        self.type, self.detail, self.status = type, detail, status


class UniqueKey(NamedTuple):
    """A value that one stream at a time may hold in a scope; a second one is rejected as `<scope>-taken`."""

    scope: str
    value: str


UniqueKeys = Mapping[UniqueKey, str]
"""With each key the value as it was given, which is what a rejection shows."""


def no_keys(state: object) -> UniqueKeys:
    return {}


@dataclass(frozen=True, kw_only=True)
class Decider(Generic[C, E, S]):
    """An aggregate: its messages by name, and the three rules.

    `decide` returns the events to append; none means "already so". It raises Rejected.
    `evolve` folds one event into the state and leaves the one it got as it was; the state of no events is None.
    `unique_keys` tells which keys a state holds; by default none.
    """

    commands: Mapping[str, type[C]]
    events: Mapping[str, type[E]]
    decide: Callable[[C, S | None], Sequence[E]]
    evolve: Callable[[S | None, E], S]
    unique_keys: Callable[[S | None], UniqueKeys] = no_keys
