"""What a team's pages are made of: rows of read models, an aggregate as it is and as it was, and commands to it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from fastapi import Request

from api.console.doing import PREFER
from api.console.pages import service_of
from api.routes import history
from api.routes.submit import Resource, Row, accept, result
from shared.domain.projections import ERASING
from shared.messages import Command, RecordedEvent
from shared.preconditions import Precondition
from shared.projection import Projection
from shared.stores import event_store
from shared.stores.inbox import Submission

T = TypeVar("T")
R = TypeVar("R", bound=Row)


class Aggregate(NamedTuple, Generic[R]):
    """An aggregate: its row, None if queries show none, and what the log has of it."""

    row: R | None
    version: int
    erased: bool
    """Whether its subject was erased."""


class Past(NamedTuple, Generic[R]):
    """An aggregate as it was at a version, from a time until another one; `until` is None for the present."""

    row: R
    marks: Mapping[str, bool]
    since: str
    until: str | None


async def rows(request: Request, projection: Projection, query: Callable[..., T], **values: Any) -> T:
    """What the query finds in the projection's tables. Raises a store's error."""
    service = service_of(request)
    store = service.read_models[projection.name]
    async with service.turn(request, store):
        return await store.read(query, **values)


async def look(request: Request, resource: Resource[R], number: int) -> Aggregate[R]:
    """The aggregate with this number. Raises Problem if there is none, or a store's error."""
    service = service_of(request)
    row = await service.read_models[resource.projection.name].read(resource.find, number)
    latest = await service.log.read(event_store.read_latest, stream=stream_of(resource, number), limit=1)
    if not latest:
        raise history.nothing(resource.category, number)
    erased = latest[0].type in ERASING
    return Aggregate(None if erased else row, latest[0].version, erased)


async def as_it_was(request: Request, resource: Resource[R], number: int, version: int) -> Past[R]:
    """The aggregate at a version, if its resource has a `fold`. Raises Problem, or a store's error."""
    service, fold = service_of(request), resource.fold
    assert fold, "nobody may ask for its past"
    async with service.turn(request, service.log):
        row, marks = await history.as_of(service, resource.category, number, fold, version=version, at=None)
        stream = stream_of(resource, number)
        first, *later = await service.log.read(
            event_store.read_stream, stream, after=version - 1, upto=version + 1, limit=2
        )
    return Past(row, marks, first.recorded_at, later[0].recorded_at if later else None)


async def changes(
    request: Request,
    resource: Resource[R],
    number: int,
    changed: Callable[[RecordedEvent], dict[str, Any]],
    *,
    before: int,
    limit: int,
) -> Sequence[dict[str, Any]]:
    """The versions of an aggregate below `before`, the latest first, each as GET …/history shows it."""
    service = service_of(request)
    first = max(0, before - 1 - limit)
    async with service.turn(request, service.log):
        events = await service.log.read(
            event_store.read_stream, stream_of(resource, number), after=first, upto=before - 1, limit=limit
        )
    path = f"/{resource.category}s/{number}"
    return [history.change(each, path, changed(each)) for each in reversed(events)]


async def change(
    request: Request, resource: Resource[R], command: type[Command], number: int, *, version: int
) -> tuple[str, bool]:
    """Have an aggregate changed that is at a version; returns the command's id, and whether queries show it by now.

    Raises Problem, also if the aggregate is at another version, or a store's error.
    """
    submission = Submission(command.__name__, resource.category, number, {}, metadata=request.scope["metadata"])
    accepted, headers = await accept(request, submission.required(Precondition(frozenset({version}))), None)
    shown = await result(request, resource, accepted, PREFER, headers)
    return accepted.command.command_id, shown is not None


def stream_of(resource: Resource[R], number: int) -> str:
    """The stream of the aggregate with this number."""
    return f"{resource.category}-{number}"
