"""What a request and all that comes of it have in common: `X-Request-ID`, and W3C's `traceparent`."""

import re
import secrets
from collections.abc import Awaitable, Iterable

from fastapi import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared.telemetry import logs, tracing

REQUEST_ID = re.compile(rb"[\w.:/+=@-]{1,128}", re.ASCII)
"""Another one is not taken: it goes into logs, stores and answers."""

TRACEPARENT = re.compile(rb"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")

HEADERS = {"correlation_id": b"x-request-id", "traceparent": b"traceparent"}

NOSNIFF = (b"x-content-type-options", b"nosniff")
"""A browser is to take an answer for what it says it is."""

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
        logs.common.set(metadata)  # a request has a task of its own, and with it these

        def giving_back(message: Message) -> Awaitable[None]:
            if message["type"] == "http.response.start":
                message["headers"] += [(HEADERS[name], value.encode()) for name, value in metadata.items()]
                message["headers"].append(NOSNIFF)
            return send(message)

        await self._app(scope, receive, giving_back)


def metadata_of(request: Request) -> Metadata:
    """What the request's commands and their events are to know of it."""
    metadata: Metadata = request.scope["metadata"]
    return metadata


def _metadata(headers: Iterable[tuple[bytes, bytes]]) -> Metadata:
    given = dict(headers)
    request_id, traceparent = given.get(b"x-request-id"), given.get(b"traceparent")
    taken = request_id and REQUEST_ID.fullmatch(request_id)
    metadata = {"correlation_id": taken[0].decode() if taken else secrets.token_hex(16)}
    if current := tracing.traceparent():
        metadata["traceparent"] = current
    elif traceparent and TRACEPARENT.fullmatch(traceparent):
        metadata["traceparent"] = traceparent.decode()
    return metadata
