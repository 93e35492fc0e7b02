"""The page of a command."""

from fastapi import Request, Response

from api.console.commands import looking, sending, story
from api.console.commands.jobs import Job
from api.console.commands.looking import only
from api.console.doing import do_and_go_back, is_revealed, reveal
from api.console.live import Parts, live
from api.console.pages import Pages, fragment, guard_of, page, principal_of, service_of
from api.http.access import may
from api.routes.commands import OWN, find
from shared.access.roles import Role
from shared.operations.commands import RetryCommand
from shared.stores.inbox import Accepted

router = Pages(section="Commands")


@router.get("/console/commands/{command_id}", role=OWN, title="Command")
async def show_command(request: Request, command_id: str) -> Response:
    """A command's story."""
    service = service_of(request)
    command = await find(request, command_id)
    told = await story.tell(service, command)
    role = _revealer(request, command)
    shows = is_revealed(request, role, command.stream)
    data = None if command.is_emptied else await story.data_of(service, command, revealed=shows)
    route = sending.routes(request.app).get(command.type)
    async with service.turn(request, service.inbox):
        related = await story.related(service, told.row, principal=only(request))
    is_retry = command.type == RetryCommand.__name__
    again = ""
    if route and data:
        names = [*data.hidden, *data.lost]
        url, closed = str(request.base_url), guard_of(request).closed
        again = sending.again(route, command, data.values, names, url=url, closed=closed)
    return page(
        request,
        "commands_one.html",
        told=told,
        row=told.row,
        command=command,
        trail=command.trail(),
        related=related,
        data=data,
        shows=shows,
        may_reveal=may(request, role),
        revealer=role,
        again=again,
        is_of_job=is_retry and Job.named(command.trail().get("correlation_id") or ""),
        retried=data.values.get("command_id") if data and is_retry else None,
    )


@router.get("/console/commands/{command_id}/live", role=OWN, title="Command")
async def follow_command(request: Request, command_id: str) -> Response:
    """What happens to it."""
    service = service_of(request)
    command = await find(request, command_id)

    told: story.Story | None = None
    parts: Parts = {}

    async def look() -> Parts:
        nonlocal told, parts
        if not told or not told.is_over or await looking.rows(service, [command]) != [told.row]:
            told = await story.tell(service, command)
            parts = {"story": fragment(request, "commands_story.html", told=told, row=told.row, command=command)}
        return parts

    return live(request, look)


@router.post("/console/commands/{command_id}/reveal", role=OWN, title="Command")
async def reveal_command(request: Request, command_id: str) -> Response:
    """Show what is personal in it."""
    command = await find(request, command_id)
    path = f"/console/commands/{command.command_id}"
    return await reveal(request, _revealer(request, command), path, [command.stream])


@router.post("/console/commands/{command_id}/retry", role="operator", title="Command")
async def retry_command(request: Request, command_id: str) -> Response:
    """Have it handled again."""
    command = await find(request, command_id)
    path = f"/console/commands/{command.command_id}"
    return await do_and_go_back(request, RetryCommand, {"command_id": command.command_id}, path)


def _revealer(request: Request, command: Accepted) -> Role:
    """The role that is shown what is personal in a command: of one's own one is shown it as reader or writer."""
    if may(request, "auditor") or command.principal != principal_of(request).name:
        return "auditor"
    return "reader" if may(request, "reader") else "writer"
