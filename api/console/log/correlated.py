"""What belongs to one correlation id: commands, and the events each led to. No index has it, so the look is bounded."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, TypeVar

from api.reading.store import Store
from api.service import Service
from shared.messages import RecordedEvent
from shared.stores import event_store, inbox, outcomes
from shared.stores.inbox import Accepted
from shared.stores.outcomes import Outcome

AT_ONCE = 2500
"""Rows that are looked through between two turns of others."""

AROUND = 5000
"""Events before and after one, and commands before and after its command, that are looked through for its page."""

BACK = 50_000
"""Events, and commands, that a search looks through at once."""

MOST = 100
"""Events, and commands, that are shown."""

T = TypeVar("T")


class Branch(NamedTuple):
    """A command, its outcome if it has one, and those of its events that were found."""

    command: Accepted
    outcome: Outcome | None
    events: list[RecordedEvent]


class Tree(NamedTuple):
    """What was found. `others`: events whose command isn't in the inbox. `cut`: there may be more than is shown."""

    branches: list[Branch]
    others: list[RecordedEvent]
    cut: bool

    @property
    def size(self) -> int:
        """How many commands, and events without one, were found."""
        return len(self.branches) + len(self.others)


Span = tuple[int, int]
"""The positions, or seqs, past the first number and up to the second."""


async def around(service: Service, event: RecordedEvent, id: str) -> Tree:
    """What is found near an event that has the id. Raises a store's error."""
    command_id = event.metadata.get("command_id")
    command = await service.inbox.read(inbox.find, command_id) if isinstance(command_id, str) else None
    events = await _found(service.log, event_store.correlated, id, _around(event.position))
    commands = await _found(service.inbox, inbox.correlated, id, _around(command.seq)) if command else []
    return await _tree(service, [event, *events], commands)


async def back(service: Service, id: str, page: int) -> Tree:
    """What is found among the latest, or, on a later page, among those before. Raises a store's error."""
    last_event = await service.log.read(event_store.last_position)
    last_command = await service.inbox.read(inbox.last_seq)
    events = await _found(service.log, event_store.correlated, id, _back(last_event - page * BACK))
    commands = await _found(service.inbox, inbox.correlated, id, _back(last_command - page * BACK))
    return await _tree(service, events, commands)


async def reaches_back(service: Service, page: int) -> bool:
    """Whether anything is before what a page of `back` looks through. Raises a store's error."""
    last = max(await service.log.read(event_store.last_position), await service.inbox.read(inbox.last_seq))
    return last > (page + 1) * BACK


def _around(middle: int) -> list[Span]:
    steps = range(0, AROUND, AT_ONCE)
    return [(middle - n - AT_ONCE, middle - n) for n in steps] + [(middle + n, middle + n + AT_ONCE) for n in steps]


def _back(last: int) -> list[Span]:
    return [(end - AT_ONCE, end) for end in range(last, max(0, last - BACK), -AT_ONCE)]


async def _found(store: Store, query: Callable[..., list[T]], id: str, spans: Iterable[Span]) -> list[T]:
    found: list[T] = []
    for after, upto in spans:
        if upto > 0 and len(found) < MOST:
            found += await store.read(query, id, after=after, upto=upto, limit=MOST)
            await asyncio.sleep(0)
    return found[:MOST]


async def _tree(service: Service, events: Sequence[RecordedEvent], commands: Sequence[Accepted]) -> Tree:
    """Events beside the commands that led to them; those commands that were not found are looked up by their ids."""
    by_position = {each.position: each for each in events}
    led = {position: str(each.metadata.get("command_id")) for position, each in by_position.items()}
    known = {each.command_id: each for each in commands}
    known |= await service.inbox.read(inbox.find_all, set(led.values()) - known.keys())
    ended = await service.log.read(outcomes.find, [each.seq for each in known.values()])
    branches = [
        Branch(
            command,
            ended.get(command.seq),
            [by_position[position] for position in sorted(led) if led[position] == command.command_id],
        )
        for command in sorted(known.values(), key=lambda each: each.seq)
    ]
    others = [by_position[position] for position in sorted(led) if led[position] not in known]
    return Tree(branches, others, len(events) >= MOST or len(commands) >= MOST)
