"""What a request and all that comes of it have in common: `X-Request-ID`, and W3C's `traceparent`."""

import re
import secrets
from collections.abc import Iterable

from fastapi import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bind_contextvars

from shared import tracing

REQUEST_ID = re.compile(rb"[\w.:/+=@-]{1,128}", re.ASCII)
"""Another one is not taken: it goes into logs, stores and answers."""

TRACEPARENT = re.compile(rb"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")

Metadata = dict[str, str]


class Correlation:
    """Takes both from the caller, makes an id for who has none, and gives both back on every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope["metadata"] = metadata = _metadata(scope["headers"])
        bind_contextvars(**metadata)  # a request has a task of its own, and with it these
        back = [(HEADERS[name], value.encode()) for name, value in metadata.items()]

        async def giving_back(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *back]
            await send(message)

        await self._app(scope, receive, giving_back)


HEADERS = {"correlation_id": b"x-request-id", "traceparent": b"traceparent"}


def metadata_of(request: Request) -> Metadata:
    """What the request's commands and their events are to know of it."""
    metadata: Metadata = request.scope["metadata"]
    return metadata


def _metadata(headers: Iterable[tuple[bytes, bytes]]) -> Metadata:
    request_id = traceparent = None
    for name, value in headers:
        if name == b"x-request-id" and REQUEST_ID.fullmatch(value):
            request_id = value.decode()
        elif name == b"traceparent" and TRACEPARENT.fullmatch(value):
            traceparent = value.decode()
    metadata = {"correlation_id": request_id or secrets.token_hex(16)}
    if traceparent := tracing.traceparent() or traceparent:
        metadata["traceparent"] = traceparent
    return metadata
