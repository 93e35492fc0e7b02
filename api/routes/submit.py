"""What an aggregate's routes are made of: `submit` accepts a command; `show`, `show_page` and `show_history` query."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from hashlib import sha256
from typing import Annotated, Any, Generic, NamedTuple, Protocol, TypeVar

from fastapi import Header, Request, Response
from pydantic import BaseModel
from pydantic_core import from_json, to_json
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from api.http import problems
from api.http.access import may
from api.http.headers import applied, asked_of, tag_of, unmet, wait_of
from api.http.paging import page
from api.http.problems import Problem
from api.routes import history
from api.routes.history import Fold
from api.service import Service
from shared.access.principals import LOCAL, Principal
from shared.messages import Command, RecordedEvent, UnknownShape
from shared.operations.record import CATEGORY
from shared.projection import Projection
from shared.stores import event_store
from shared.stores.inbox import Acceptance, Accepted, Submission
from shared.stores.outcomes import Outcome
from shared.telemetry import tracing


class Row(Protocol):
    """A row of a projection that tells which version of its stream it shows; a NamedTuple with a `version` is one."""

    @property
    def version(self) -> int:
        """As in its ETag."""

    def _asdict(self) -> dict[str, Any]: ...


R = TypeVar("R", bound=Row)


class Resource(NamedTuple, Generic[R]):
    """An aggregate as callers see it: the row that `find` finds in the projection by the aggregate's number."""

    category: str
    """`user`: what stands in streams (`user-1`), paths (`/users/1`) and problems (`user-not-found`)."""
    projection: Projection
    find: Callable[[Connection, int], R | None]
    fold: Fold[R] | None = None
    """Makes the row from the aggregate's events, for who asks how it was; None: nobody may ask."""


IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=255,
        description="Sent again with the same key, a request gets its first answer and is not done twice",
        examples=["8e03978e-40d5-43dd-bc93-6894a57f9324"],
    ),
]


async def submit(
    request: Request,
    resource: Resource[R],
    command: type[Command],
    body: BaseModel | None,
    number: int | None = None,
    *,
    idempotency_key: str | None,
    prefer: str | None,
) -> Response:
    """Accept a command and answer 202; or, asked to wait, what it led to, once that is visible: 201 or 200.

    A principal who is no reader gets the command also then, with its outcome: 202. So does any, if there is nothing
    left to show.
    `body` has the command's fields but for the aggregate's number, None if there are no others; without a number the
    command makes a new one.
    `If-Match` and `If-None-Match` are heeded. Raises Problem, or a store's error.
    """
    asked = asked_of(request, new=number is None)
    submission = Submission(
        command.__name__,
        resource.category,
        number,
        body.model_dump() if body else {},
        metadata=request.scope["metadata"],
        personal=command.personal,
    )
    accepted, headers = await accept(request, submission.required(asked) if asked else submission, idempotency_key)
    shown = await result(request, resource, accepted, prefer, headers) if prefer else None
    if shown is None or isinstance(shown, Outcome):
        return accepted_as(accepted.command, shown, headers)
    if number is None:
        headers["Location"] = _path(accepted.command.stream)
    return _shown(shown, 201 if number is None else 200, headers)


async def show(
    request: Request,
    resource: Resource[R],
    number: int,
    min_position: int | None,
    *,
    version: int | None = None,
    at: datetime | None = None,
) -> Response:
    """An aggregate's row as it is or, by the resource's `fold`, as it was at a version or at a time.

    `If-Match` and `If-None-Match` are heeded. Raises Problem, or a store's error.
    """
    service: Service = request.app.state.service
    if resource.fold and (version or at):
        await service.require_logged(min_position)
        async with service.turn(request, service.log):
            row, marks = await history.as_of(service, resource.category, number, resource.fold, version=version, at=at)
        if marks:  # without a tag: it isn't what it was at this version
            return Response(to_json({**row._asdict(), **marks}), 200, media_type="application/json")
    else:
        projection = resource.projection.name
        if min_position:
            await service.require(request, projection, min_position)
        found = await service.read_models[projection].read(resource.find, number)
        if not found:
            raise await history.missing(service, resource.category, number)
        row = found
    return unmet(request, row.version) or _shown(row, 200, {})


async def show_page(
    request: Request,
    projection: Projection,
    query: Callable[..., Sequence[Any]],
    min_position: int | None,
    *,
    limit: int,
    key: str,
) -> Response:
    """Up to `limit` of the projection's rows that `query` finds, and a link to those behind the last one's `key`.

    `query` takes a connection, and a `limit` of rows. Raises Problem, or a store's error.
    """
    service: Service = request.app.state.service
    await service.require(request, projection.name, min_position)
    store = service.read_models[projection.name]
    async with service.turn(request, store):
        rows = await store.read(query, limit=limit + 1)
        return await page(request, rows, lambda row: row._asdict(), limit=limit, key=key)


async def show_history(
    request: Request,
    category: str,
    number: int,
    changed: Callable[[RecordedEvent], dict[str, Any]],
    min_position: int | None,
    *,
    after: int,
    limit: int,
) -> Response:
    """The versions of an aggregate behind `after`, each a Change; `changed` tells the fields that an event changed."""
    service: Service = request.app.state.service
    stream = f"{category}-{number}"
    await service.require_logged(min_position)

    def change(event: RecordedEvent) -> dict[str, Any]:
        return history.change(event, f"/{category}s/{number}", changed(event))

    async with service.turn(request, service.log):
        events = await service.log.read(event_store.read_stream, stream, after=after, limit=limit + 1)
        if not events and not await service.log.read(event_store.stream_version, stream):
            raise history.nothing(category, number)
        return await page(request, events, change, limit=limit, key="version")


def command_shown(command: Accepted, outcome: Outcome | None) -> dict[str, Any]:
    """The command as callers see it; its aggregate's number is named after the category, `user_id`.

    Operators' commands are to no aggregate that has a number.
    """
    category, _, number = command.stream.rpartition("-")
    metadata = from_json(command.metadata)
    path = f"/commands/{command.command_id}"
    return {
        "command_id": command.command_id,
        "type": command.type,
        "status": outcome.status if outcome else "accepted",
        **({} if category == CATEGORY else {f"{category}_id": int(number)}),
        "correlation_id": metadata.get("correlation_id"),
        "principal": metadata.get("principal"),
        "accepted_at": command.accepted_at,
        "handled_at": outcome and outcome.handled_at,
        "version": outcome and outcome.version,
        "position": outcome and outcome.position,
        "problem": outcome and outcome.problem and problems.document(**outcome.problem, instance=path),
        "links": {"self": path, category: _path(command.stream)},
    }


def _own(request: Request, key: str) -> str:
    """The idempotency key as it is stored: each principal has its own ones, of which only a hash is kept."""
    principal: Principal = request.scope["principal"]
    return key if principal == LOCAL else f"{principal.name} {sha256(f'{principal.name} {key}'.encode()).hexdigest()}"


async def accept(
    request: Request, submission: Submission, idempotency_key: str | None
) -> tuple[Acceptance, dict[str, str]]:
    """Accept a command; returns the acceptance, and the headers that say so. Raises Problem, or a store's error."""
    if idempotency_key:
        submission = submission._replace(idempotency_key=_own(request, idempotency_key))
    accepted = await _accept(request.app.state.service, submission)
    return accepted, {"Idempotency-Replayed": "true"} if accepted.replayed else {}


def accepted_as(command: Accepted, outcome: Outcome | None, headers: dict[str, str], **more: str) -> Response:
    """The answer 202, with the command, its outcome if there is one, and what `more` is shown beside."""
    headers = {**headers, "Location": f"/commands/{command.command_id}"}
    return Response(to_json(command_shown(command, outcome) | more), 202, headers, "application/json")


async def _accept(service: Service, submission: Submission) -> Acceptance:
    if not service.traced:
        return await service.acceptor.accept(submission)
    with tracing.span(f"accept {submission.type}", principal=submission.metadata["principal"]) as traceparent:
        metadata = {**submission.metadata, "traceparent": traceparent}
        return await service.acceptor.accept(submission._replace(metadata=metadata))


async def result(
    request: Request, resource: Resource[R] | None, accepted: Acceptance, prefer: str, headers: dict[str, str]
) -> R | Outcome | None:
    """The row as the command left it, if the caller waits for it and it is visible in time; adds to `headers`.

    Without a resource, for a principal who is no reader, and if no row is left, the outcome; for one whose key or token
    ended, None.

    Raises Problem if the command did not succeed. Trouble with a store is none: accepted the command is.
    """
    service: Service = request.app.state.service
    command, replayed = accepted
    wished = wait_of(prefer, longest=service.settings.max_wait)
    with service.waiting(request, wished) as wait, suppress(DBAPIError, UnknownShape):
        if wait is not None:
            headers |= applied(wait)
            results = service.results
            ended = results.visible[resource.projection.name] if resource else results.outcomes
            if outcome := await ended.get(command.seq, within=wait, later=not replayed):
                if not request.app.state.access.still_admits(request):
                    return None
                if outcome.problem:
                    raise Problem(**outcome.problem, headers=headers, instance=f"/commands/{command.command_id}")
                if not resource or not may(request, "reader"):
                    return outcome
                return await _left(request, resource, command.stream, outcome.version or 0) or outcome
    return None


async def _left(request: Request, resource: Resource[R], stream: str, version: int) -> R | None:
    """The row at a version, however much came after it; None if what came after it left nothing to show."""
    service: Service = request.app.state.service
    number = int(stream.rpartition("-")[2])
    found = await service.read_models[resource.projection.name].read(resource.find, number)
    if found and found.version > version:
        async with service.turn(request, service.log):
            found = await history.as_projected(service, resource.projection, stream, resource.find, version=version)
    return found


def _shown(row: Row, status: int, headers: dict[str, str]) -> Response:
    return Response(to_json(row._asdict()), status, {**headers, "ETag": tag_of(row.version)}, "application/json")


def _path(stream: str) -> str:
    """Where the aggregate is, `/users/1` for `user-1`."""
    category, _, number = stream.rpartition("-")
    return "/audit" if category == CATEGORY else f"/{category}s/{number}"
