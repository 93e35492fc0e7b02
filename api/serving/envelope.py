"""The envelope of every request: its ids, its answer's headers, HEAD in the place of GET, and how long it took."""

import re
import secrets
import time
from collections.abc import Awaitable, Iterable
from functools import cache

from prometheus_client import Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared.errors.visible import without_secrets
from shared.telemetry import logs, metrics, tracing

REQUEST_ID = re.compile(rb"[\w.:/+=-]{1,128}", re.ASCII)
"""Another one is not taken: it goes into logs, stores and answers. No `@`: an address must not come there."""

TRACEPARENT = re.compile(rb"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")

HEADERS = {"correlation_id": b"x-request-id", "traceparent": b"traceparent"}

NOSNIFF = (b"x-content-type-options", b"nosniff")
"""A browser is to take an answer for what it says it is."""

METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
"""Others are one in metrics: what a client makes up must not become a series."""


class Envelope:
    """Around the app and its middleware, so that it sees the answer to a bug, too.

    `X-Request-ID` and W3C's `traceparent` are taken from the caller, made if there are none, and given back; they stand
    in `scope["metadata"]`, in each line of the log, and in the events that the request leads to. Headers
    in `scope["rate"]` say how much of its rate the client has left. HEAD is answered as GET (RFC 9110, section 9.3.2),
    and its answer ends behind the headers: a stream then finds that its client has left.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._traced = tracing.asked_for()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 500
        metadata = self._metadata(scope["headers"])
        logs.common.set(metadata)  # a request has a task of its own, and with it these
        is_head = scope["method"] == "HEAD"
        if is_head:
            scope = {**scope, "method": "GET"}  # a copy: the server goes by its own when it counts what it sends
        scope["metadata"] = metadata

        def sending(message: Message) -> Awaitable[None]:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] += [
                    (HEADERS[name], value.encode()) for name, value in metadata.items() if name in HEADERS
                ]
                message["headers"].append(NOSNIFF)
                message["headers"] += scope.get("rate", ())
                return _send_all(send, message, {"type": "http.response.body"}) if is_head else send(message)
            return _send_all(send) if is_head else send(message)

        try:
            await self._app(scope, receive, sending)
        finally:
            route = scope["route"].path if "route" in scope else "none"
            method = scope["method"] if scope["method"] in METHODS else "other"
            metrics.observe(_requests(method, route, status), time.perf_counter() - began)

    def _metadata(self, headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
        given = dict(headers)
        request_id, traceparent = given.get(b"x-request-id"), given.get(b"traceparent")
        taken = request_id and REQUEST_ID.fullmatch(request_id)
        if taken and without_secrets(its := taken[0].decode()) != its:
            taken = None
        metadata = {"correlation_id": taken[0].decode() if taken else secrets.token_hex(16)}
        if self._traced and (current := tracing.traceparent()):
            metadata["traceparent"] = current
        elif traceparent and TRACEPARENT.fullmatch(traceparent):
            metadata["traceparent"] = traceparent.decode()
        return metadata


async def _send_all(send: Send, *messages: Message) -> None:
    for message in messages:
        await send(message)


@cache
def _requests(method: str, route: str, status: int) -> Histogram:
    return metrics.REQUESTS.labels(method, route, status)
