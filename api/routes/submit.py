"""Submitting a command: it is committed, then answered with 202, or with its result if the caller waits."""

from collections.abc import Callable
from contextlib import suppress
from typing import Annotated, Any, Literal, Protocol, TypeVar

from fastapi import Header, Request, Response
from pydantic import BaseModel, Field
from pydantic_core import from_json, to_json
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from api.http import problems
from api.http.preconditions import conditional
from api.http.preferences import applied, wait_of
from api.http.problems import Details, Problem
from api.routes import history
from api.service import Service, turn
from api.serving import correlation
from shared.messages import UnknownShape
from shared.stores.inbox import Acceptance, Accepted, Submission
from shared.stores.outcomes import Outcome
from shared.telemetry import tracing


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
