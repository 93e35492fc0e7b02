"""Commands as resources: what was accepted, and what became of it."""

from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from functools import partial
from typing import Annotated, Any, Literal, Protocol, TypeVar

from fastapi import APIRouter, Header, Request, Response
from pydantic import BaseModel, Field
from pydantic_core import from_json, to_json
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from api.http import problems
from api.http.clients import client_of
from api.http.documentation import STREAM, errors, headers, stream_of
from api.http.paging import turn
from api.http.preconditions import conditional
from api.http.preferences import Prefer, applied, wait_of
from api.http.problems import Details, Problem
from api.http.routing import Route
from api.http.streaming import LAST_EVENT_ID, EventStream, message, persist
from api.routes import history
from api.service import Service
from api.serving import correlation
from shared.messages import UnknownShape
from shared.stores import inbox, outcomes
from shared.stores.inbox import Acceptance, Accepted, Submission
from shared.stores.outcomes import Outcome
from shared.telemetry import tracing

router = APIRouter(tags=["commands"], route_class=Route)


class Versioned(Protocol):
    """A row of a projection that tells which version of its stream it shows."""

    @property
    def version(self) -> int: ...


R = TypeVar("R", bound=Versioned)

IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=255,
        description="Sent again with the same key, a request gets its first answer and is not done twice",
        examples=["8e03978e-40d5-43dd-bc93-6894a57f9324"],
    ),
]


class Command(BaseModel):
    """A command that was accepted. `version` and `position` come with success, `problem` with the other ends."""

    command_id: str = Field(examples=["019aaf3e-5c10-7cc3-98c4-dc0c0c07398f"])
    type: str = Field(examples=["CreateUser"])
    status: Literal["accepted", "succeeded", "rejected", "failed"] = Field(examples=["succeeded"])
    user_id: int | None = Field(None, examples=[1], description="Another aggregate's number is named after it")
    correlation_id: str | None = Field(
        examples=["9f86d081884c7d659a2feaa0c55ad015"], description="The `X-Request-ID` it was accepted under"
    )
    accepted_at: str = Field(examples=["2026-01-31T12:00:00.000000Z"])
    handled_at: str | None = Field(examples=["2026-01-31T12:00:00.004000Z"])
    version: int | None = Field(examples=[1], description="The version of its stream after the command")
    position: int | None = Field(examples=[1], description="What to ask queries for as `min_position`")
    problem: Details | None = Field(examples=[None])
    links: dict[str, str] = Field(
        examples=[{"self": "/commands/019aaf3e-5c10-7cc3-98c4-dc0c0c07398f", "user": "/users/1"}]
    )


@router.get(
    "/commands/{command_id}",
    response_model=Command,
    responses={200: headers("Preference-Applied"), **errors(_404="command-not-found", _503="store-unavailable")},
)
async def show_command(request: Request, command_id: str, prefer: Prefer = None) -> Response:
    """What became of a command. With `Prefer: wait=N` it waits for the outcome."""
    service = Service.of(request)
    command = await _find(service, command_id)
    with service.waiting(request, wait_of(prefer, longest=service.settings.max_wait)) as wait:
        outcome = await service.outcomes.get(command.seq, within=wait or 0)
    return Response(to_json(resource(command, outcome)), 200, applied(wait), "application/json")


@router.get(
    "/commands/{command_id}/stream",
    status_code=200,
    response_class=EventStream,
    responses={
        200: stream_of(Command, id="status"),
        204: {"description": "The status in `Last-Event-ID` is the last one: an EventSource asks no more"},
        **errors(_404="command-not-found"),
        **STREAM,
    },
)
async def follow_command(
    request: Request, command_id: str, last_event_id: Annotated[str | None, Header(description=LAST_EVENT_ID)] = None
) -> Response:
    """A command as server-sent events, each with its status as `id`; ends with the outcome."""
    service = Service.of(request)
    command = await _find(service, command_id)
    outcome = (await service.log.read(outcomes.find, [command.seq])).get(command.seq)
    if outcome and last_event_id == outcome.status:
        return Response(status_code=204)
    return service.streams.answer(client_of(request), _becomes(service, command, outcome))


async def submit(
    request: Request,
    submission: Submission,
    prefer: str | None,
    *,
    projection: str,
    query: Callable[[Connection, int], R | None],
    done: Callable[[R, dict[str, str]], Response],
) -> Response:
    """Accept a command and answer 202; or, asked to wait, what `done` makes of what it led to, once that is visible.

    `query` finds that in the projection by the aggregate's number. `If-Match` and `If-None-Match` are heeded.
    """
    service = Service.of(request)
    submission = conditional(request, submission)
    command, replayed = await _accept(service, submission, correlation.metadata_of(request))
    extra = {"Idempotency-Replayed": "true"} if replayed else {}
    wished = wait_of(prefer, longest=service.settings.max_wait)
    # accepted it is, whatever the other stores do
    with service.waiting(request, wished) as wait, suppress(DBAPIError, UnknownShape):
        if wait is not None:
            extra |= applied(wait)
            visible = service.visible[projection].get(command.seq, within=wait, later=not replayed)
            if outcome := await visible:
                if outcome.problem:
                    raise Problem(**outcome.problem, headers=extra, instance=f"/commands/{command.command_id}")
                return done(await _left(request, command, outcome, projection, query), extra)
    extra["Location"] = f"/commands/{command.command_id}"
    return Response(to_json(resource(command, None)), 202, extra, "application/json")


def resource(command: Accepted, outcome: Outcome | None) -> dict[str, Any]:
    """The command as callers see it; its aggregate's number is named after the category, `user_id`."""
    category, _, number = command.stream.rpartition("-")
    path = f"/commands/{command.command_id}"
    return {
        "command_id": command.command_id,
        "type": command.type,
        "status": outcome.status if outcome else "accepted",
        f"{category}_id": int(number),
        "correlation_id": from_json(command.metadata).get("correlation_id"),
        "accepted_at": command.accepted_at,
        "handled_at": outcome and outcome.handled_at,
        "version": outcome and outcome.version,
        "position": outcome and outcome.position,
        "problem": outcome and outcome.problem and problems.document(**outcome.problem, instance=path),
        "links": {"self": path, category: f"/{category}s/{number}"},
    }


async def _accept(service: Service, submission: Submission, metadata: dict[str, str]) -> Acceptance:
    if not tracing.on():
        return await service.acceptor.accept(submission.with_metadata(metadata))
    with tracing.span(f"accept {submission.type}") as traceparent:
        return await service.acceptor.accept(submission.with_metadata({**metadata, "traceparent": traceparent}))


async def _left(
    request: Request, command: Accepted, outcome: Outcome, projection: str, query: Callable[[Connection, int], R | None]
) -> R:
    """What the command left, however much came after it."""
    service, version = Service.of(request), outcome.version or 0
    found = await service.read_models[projection].read(query, history.number_of(command.stream))
    if found and found.version > version:
        async with turn(request, service.log):
            found = await history.as_projected(service, projection, command.stream, query, version=version)
    if not found:
        raise history.nothing(*command.stream.rsplit("-", 1))
    return found


async def _find(service: Service, command_id: str) -> Accepted:
    command = await service.inbox.read(inbox.find, command_id)
    if not command:
        raise Problem("command-not-found", 404, f"No command {command_id} was accepted.")
    return command


async def _becomes(service: Service, command: Accepted, outcome: Outcome | None) -> AsyncIterator[bytes]:
    if not outcome:
        yield message("accepted", resource(command, None))
        outcome = await persist(partial(service.followed.wait, command.seq))
    yield message(outcome.status, resource(command, outcome))
