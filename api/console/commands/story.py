"""The story of a command: what it asked for, what happened to it and when, and what it has to do with others."""

import asyncio
from typing import Any, NamedTuple

from pydantic_core import from_json

from api.console.commands import looking
from api.console.commands.looking import PIECE, Row, seconds_between
from api.service import Service
from shared.messages import RecordedEvent
from shared.operations.record import CATEGORY, CommandRetried
from shared.personal.ciphers import Sealed
from shared.stores import advances, checkpoints, event_store, inbox, outcomes, searching, set_aside
from shared.stores.checkpoints import Progress
from shared.stores.inbox import Accepted
from shared.stores.outcomes import Outcome
from shared.stores.searching import Wanted

RETRIES = 500
"""The last retries of all commands, among which those of one are looked for."""

EVENTS = 100
"""The last events of a command that are shown; it rarely has more than one."""

NEIGHBOURS = 20
"""Commands with the same correlation id that are shown, on each side."""


class Shown(NamedTuple):
    """A projection, and whether a command's events are visible in it."""

    projection: str
    progress: Progress
    is_visible: bool
    at: str | None = None
    """When they became so, if that is known."""
    took: float | None = None
    """Seconds since the last of them was recorded."""


class Story(NamedTuple):
    """What happened to a command."""

    row: Row
    ahead: int | None
    """Commands that come before it, while it waits."""
    retries: list[RecordedEvent]
    events: list[RecordedEvent]
    shown: list[Shown]

    @property
    def took(self) -> float | None:
        """Seconds to its outcome, from being accepted or, if it was retried, from the last retry."""
        since = self.retries[-1].recorded_at if self.retries else self.row.command.accepted_at
        return seconds_between(since, self.row.outcome.handled_at) if self.row.outcome else None

    @property
    def is_over(self) -> bool:
        """Whether nothing more happens to it, unless it is retried."""
        return self.row.outcome is not None and all(each.is_visible for each in self.shown)

    @property
    def failed_again(self) -> bool:
        """Whether it failed, was retried, and failed once more."""
        return bool(self.retries) and self.row.status == "failed"


class Related(NamedTuple):
    """Commands that have to do with one: what held it up, those with its correlation id, and its stream's neighbours.

    A neighbour that is far away is one that changed the stream: others may stand between.
    """

    held_up_by: Accepted | None
    """The one behind which it waits, or that left its stream at a version for which it didn't ask."""
    alike: list[Accepted]
    previous: Accepted | None
    next: Accepted | None


class Data(NamedTuple):
    """A command's fields; `hidden` are those that are personal and not shown, `lost` those that can't be read."""

    values: dict[str, Any]
    hidden: list[str]
    lost: list[str]


async def tell(service: Service, command: Accepted) -> Story:
    """What happened to a command so far."""
    [row] = await looking.rows(service, [command])
    ahead = None
    if row.status == "waiting":
        ahead = max(0, command.seq - 1 - await service.log.read(outcomes.settled_seq))
    version = row.outcome and row.outcome.version
    events = await _events(service, command, version) if version else []
    shown = await asyncio.gather(*(_shown(service, name, events) for name in service.read_models))
    return Story(row, ahead, await _retries(service, command), events, shown if events else [])


async def related(service: Service, row: Row, *, principal: str) -> Related:
    """What stands near a command in the inbox or, where that has nothing, in its stream; of one principal, if given."""
    command, outcome, _ = row
    before: dict[str, Any] = {"after": max(0, command.seq - 1 - PIECE), "before": command.seq}
    after: dict[str, Any] = {"after": command.seq, "before": command.seq + 1 + PIECE}
    read = service.inbox.read
    its = Wanted(correlation_id=command.trail().get("correlation_id") or "-", principal=principal)
    stream = Wanted(stream=command.stream, principal=principal)
    earlier = await read(searching.latest, its, limit=NEIGHBOURS, **before)
    await asyncio.sleep(0)
    later = await read(searching.first, its, limit=NEIGHBOURS, **after)
    await asyncio.sleep(0)
    previous = await read(searching.latest, stream, limit=1, **before) or await _changed_before(service, command)
    await asyncio.sleep(0)
    following = await read(searching.first, stream, limit=1, **after) or await _changed_after(service, command, outcome)
    held_up_by = await _held_up_by(service, row)
    alike = [*earlier[::-1], *later]
    return Related(_first(held_up_by, principal), alike, _first(previous, principal), _first(following, principal))


async def data_of(service: Service, command: Accepted, *, revealed: bool) -> Data:
    """What a command says. Personal fields are hidden unless they are revealed.

    Of what was stored before such fields were sealed nobody can tell which they are: all but numbers are hidden.
    """
    sealed = Sealed.found(command.data)
    if revealed:
        values = from_json((await service.revealed(command)).data)
        return Data(values, [], [name for name in _names(sealed) if values[name] is None])
    values = from_json(sealed.hidden() if sealed else command.data)
    hidden = _names(sealed)
    if not sealed and not command.stream.startswith(f"{CATEGORY}-"):
        hidden = [name for name, value in values.items() if not isinstance(value, int | float | None)]
    return Data({name: value for name, value in values.items() if name not in hidden}, hidden, [])


def _names(sealed: Sealed | None) -> list[str]:
    return sealed.names.split(",") if sealed else []


async def _events(service: Service, command: Accepted, version: int) -> list[RecordedEvent]:
    """The events of a command that left its stream at a version."""
    read = service.log.read
    events = await read(event_store.read_stream, command.stream, after=max(0, version - EVENTS), upto=version)
    return [each for each in events if each.metadata.get("command_id") == command.command_id]


async def _retries(service: Service, command: Accepted) -> list[RecordedEvent]:
    retries = await service.log.read(event_store.read_latest, types=[CommandRetried.__name__], limit=RETRIES)
    return [each for each in retries if command.command_id in each.data_json]


async def _shown(service: Service, projection: str, events: list[RecordedEvent]) -> Shown:
    """Whether, and when, the last of the events became visible in a projection."""
    read = service.read_models[projection].read
    progress = await read(checkpoints.progress, projection)
    last = events[-1] if events else None
    if not last or progress.position < last.position:
        return Shown(projection, progress, is_visible=False)
    at = (await read(advances.visible_at, projection, [last.position])).get(last.position)
    took = seconds_between(last.recorded_at, at) if at else None
    return Shown(projection, progress, is_visible=True, at=at, took=took)


async def _held_up_by(service: Service, row: Row) -> list[Accepted]:
    command, outcome, aside = row
    if aside and not aside.tries:
        first = await service.log.read(set_aside.first_on, command.stream)
        found = await service.inbox.read(inbox.read, [first.seq]) if first else []
    elif outcome and outcome.problem and outcome.problem["type"] == "version-conflict":
        found = await _changed_last(service, command)
    else:
        return []
    return [each for each in found if each.seq < command.seq]


async def _changed_last(service: Service, command: Accepted) -> list[Accepted]:
    """The command that made the last event of a stream before this one was decided.

    It is looked for by order: a time can't tell, since what is handled together has nearly the same.
    """
    near: dict[str, Any] = {"after": max(0, command.seq - 1 - PIECE), "before": command.seq}
    earlier = await service.inbox.read(searching.latest, Wanted(stream=command.stream), limit=NEIGHBOURS, **near)
    ends = (row.outcome.version for row in await looking.rows(service, earlier) if row.outcome)
    version = next(filter(None, ends), None)
    return await _maker_of(service, command.stream, version) if version else await _changed_before(service, command)


def _first(found: list[Accepted], principal: str) -> Accepted | None:
    return next((each for each in found if principal in {"", each.principal}), None)


async def _changed_before(service: Service, command: Accepted) -> list[Accepted]:
    """The command that made the stream's last event before this one was accepted."""
    version = await service.log.read(event_store.version_at, command.stream, command.accepted_at)
    found = await _maker_of(service, command.stream, version) if version else []
    return [each for each in found if each.seq < command.seq]


async def _changed_after(service: Service, command: Accepted, outcome: Outcome | None) -> list[Accepted]:
    """The command that made the stream's first event after this one was decided."""
    if not outcome:
        return []
    version = await service.log.read(event_store.version_at, command.stream, outcome.handled_at)
    found = await _maker_of(service, command.stream, max(version, outcome.version or 0) + 1)
    return [each for each in found if each.seq > command.seq]


async def _maker_of(service: Service, stream: str, version: int) -> list[Accepted]:
    """The command that made an event, if there is such an event, and it came by one."""
    events = await service.log.read(event_store.read_stream, stream, after=version - 1, upto=version)
    ids = [id for each in events if (id := each.metadata.get("command_id"))]
    return list((await service.inbox.read(inbox.find_all, ids)).values())
