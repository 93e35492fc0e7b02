"""Checks of what must be true of the service after a run."""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence

from benchmarks.load.connections import Connections, Wrong, each
from benchmarks.load.journey import Json, Run, expect


async def holding(run: Run) -> AsyncIterator[tuple[str, str]]:
    """What holds, and how much was looked at, one by one. Raises Wrong at the first thing that doesn't hold."""
    yield "every command has its outcome", await _outcomes(run)
    yield "everything is visible", f"{run.total:,} commands"  # else the run has raised Wrong
    events = await _pages(run.connections, "/events/")
    yield "every stream's versions are dense", _dense(events)
    users = {user["user_id"]: user for user in await _pages(run.connections, "/users/")}
    yield "the read model is the fold of the events", _same(users, _fold(events), of="all")
    mine = {user_id: users[user_id] for user_id in run.users.keys() & users.keys()}
    yield "every user is as it was sent", _same(mine, run.users, of="this run's")


async def _outcomes(run: Run) -> str:
    async def succeeded(path: str) -> None:
        command = expect(await run.connections.request("GET", path), 200, to=f"GET {path}")
        if command["status"] != "succeeded":
            raise Wrong(f"{path} is {command['status']}: {command['problem']}")

    await each(run.commands, succeeded, at_once=run.at_once)
    return f"{len(run.commands):,} asked for and {len(run.to_visible):,} waited for: all succeeded"


def _dense(events: Iterable[Json]) -> str:
    versions: dict[str, int] = {}
    for event in events:
        stream, version = event["stream"], event["version"]
        if version != versions.get(stream, 0) + 1:
            raise Wrong(f"event {event['id']} is version {version} of {stream}, after {versions.get(stream, 0)}")
        versions[stream] = version
    return f"{sum(versions.values()):,} events in {len(versions):,} streams"


def _fold(events: Iterable[Json]) -> dict[int, Json]:
    users: dict[int, Json] = {}
    for event in events:
        data = event["data"]
        if event["type"] == "UserCreated":
            users[data["user_id"]] = {**data, "version": event["version"]}
        elif event["type"] == "UserEmailUpdated":
            users[data["user_id"]] |= {"email": data["new_email"], "version": event["version"]}
    return users


def _same(shown: Mapping[int, Json], expected: Mapping[int, Json], *, of: str) -> str:
    for user_id in sorted(shown.keys() | expected.keys()):
        if shown.get(user_id) != expected.get(user_id):
            raise Wrong(f"user {user_id} is shown as {shown.get(user_id)}, not as {expected.get(user_id)}")
    return f"{of} {len(expected):,} users"


async def _pages(connections: Connections, path: str) -> Sequence[Json]:
    items: list[Json] = []
    page = f"{path}?limit=1000"
    while page:
        reply = await connections.request("GET", page)
        items += expect(reply, 200, to=f"GET {page}")
        page = reply.headers.get("link", "").partition("<")[2].partition(">")[0]
    return items
