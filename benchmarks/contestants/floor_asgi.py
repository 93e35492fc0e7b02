"""The same answers from a bare ASGI app on the same server: what HTTP costs without FastAPI."""

from typing import Any

from benchmarks.contestants.floor_http import COMMAND, USER

TYPE = (b"content-type", b"application/json")

HEADERS = {body: [TYPE, (b"content-length", b"%d" % len(body))] for body in (COMMAND, USER)}


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Read the body, and answer a user or the acceptance of a command."""
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    is_read = scope["method"] == "GET"
    while not is_read and (await receive()).get("more_body"):
        pass
    status, body = (200, USER) if is_read else (202, COMMAND)
    await send({"type": "http.response.start", "status": status, "headers": HEADERS[body]})
    await send({"type": "http.response.body", "body": body})
