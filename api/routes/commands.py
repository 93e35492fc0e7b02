"""Commands that were accepted, and what became of each."""

from collections.abc import AsyncIterator, Collection
from functools import partial
from typing import Annotated

from fastapi import Header, Query, Request, Response
from pydantic_core import to_json

from api.http.access import Roles, may
from api.http.documentation import STREAM, Command, errors, headers, stream_of
from api.http.headers import Prefer, applied, wait_of
from api.http.paging import Boolean, Limit, page
from api.http.problems import Problem
from api.http.routing import Router
from api.http.streaming import LAST_EVENT_ID, EventStream, message
from api.reading.store import persist
from api.routes.deeds import operate, operates
from api.routes.submit import IdempotencyKey, command_shown
from api.service import Service
from shared.operations.commands import RetryCommand
from shared.stores import inbox, outcomes
from shared.stores.inbox import Accepted
from shared.stores.outcomes import Outcome

OWN: Roles = "reader", "writer", "auditor", "operator", "eraser"
"""Roles that see commands: their own ones, and auditors any."""

router = Router(tags=["commands"])


@router.get(
    "/commands/",
    role="auditor",
    response_model=list[Command],
    responses={200: headers("Link"), **errors({404: "command-not-found", 503: "store-unavailable"})},
)
async def list_commands(
    request: Request,
    before: Annotated[
        str | None,
        Query(
            description="Only what was accepted before this command: where the last page ended",
            examples=["019aaf3e-5c10-7cc3-98c4-dc0c0c07398f"],
        ),
    ] = None,
    limit: Limit = 100,
    failed: Annotated[Boolean, Query(description="Only commands that failed", examples=[True])] = False,
) -> Response:
    """Commands of all callers, the latest first."""
    service: Service = request.app.state.service
    end = (await find(request, before)).seq if before else await service.inbox.read(inbox.last_seq) + 1
    async with service.turn(request, service.inbox):
        seqs: Collection[int] = range(max(1, end - limit - 1), end)
        if failed:
            seqs = await service.log.read(outcomes.failed, before=end, limit=limit + 1)
        found = (await service.inbox.read(inbox.read, seqs))[::-1]
        ended = await service.log.read(outcomes.find, [each.seq for each in found])
        return await page(
            request,
            found,
            lambda each: command_shown(each, ended.get(each.seq)),
            limit=limit,
            key="command_id",
            parameter="before",
        )


@router.get(
    "/commands/{command_id}",
    role=OWN,
    response_model=Command,
    responses={200: headers("Preference-Applied"), **errors({404: "command-not-found", 503: "store-unavailable"})},
)
async def show_command(request: Request, command_id: str, prefer: Prefer = None) -> Response:
    """What became of a command. With `Prefer: wait=N` it waits for the outcome."""
    service: Service = request.app.state.service
    command = await find(request, command_id)
    with service.waiting(request, wait_of(prefer, longest=service.settings.max_wait)) as wait:
        outcome = await service.results.outcomes.get(command.seq, within=wait or 0)
    return Response(to_json(command_shown(command, outcome)), 200, applied(wait), "application/json")


@router.get(
    "/commands/{command_id}/stream",
    role=OWN,
    status_code=200,
    response_class=EventStream,
    responses={
        200: stream_of(Command, id="status"),
        204: {"description": "The status in `Last-Event-ID` is the last one: an EventSource asks no more"},
        **errors({404: "command-not-found"}),
        **STREAM,
    },
)
async def follow_command(
    request: Request, command_id: str, last_event_id: Annotated[str | None, Header(description=LAST_EVENT_ID)] = None
) -> Response:
    """A command as server-sent events, each with its status as `id`; ends with the outcome."""
    service: Service = request.app.state.service
    command = await find(request, command_id)
    outcome = (await service.log.read(outcomes.find, [command.seq])).get(command.seq)
    if outcome and last_event_id == outcome.status:
        return Response(status_code=204)
    return service.streams.answer(request, _becomes(service, command, outcome))


@router.post(
    "/commands/{command_id}/retry",
    role="operator",
    status_code=202,
    responses=operates({404: "command-not-found", 409: "command-not-failed command-emptied"}),
)
async def retry_command(
    request: Request, command_id: str, idempotency_key: IdempotencyKey = None, prefer: Prefer = None
) -> Response:
    """Accept that a command which failed is handled again, as if it had been accepted now."""
    given = {"command_id": command_id}
    return await operate(request, RetryCommand, given, idempotency_key=idempotency_key, prefer=prefer)


async def find(request: Request, command_id: str) -> Accepted:
    """The command. Raises Problem if there is none that the principal may see: of another's nothing is told."""
    service: Service = request.app.state.service
    command = await service.inbox.read(inbox.find, command_id)
    if not command or not (may(request, "auditor") or command.principal == request.scope["principal"].name):
        raise Problem("command-not-found", 404, f"No command {command_id} was accepted.")
    return command


async def _becomes(service: Service, command: Accepted, outcome: Outcome | None) -> AsyncIterator[bytes]:
    if not outcome:
        yield message("accepted", command_shown(command, None))
        outcome = await persist(partial(service.results.followed.wait, command.seq))
    yield message(outcome.status, command_shown(command, outcome))
