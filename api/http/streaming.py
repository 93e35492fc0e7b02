"""Answers that stay open: server-sent events, as EventSource reads them (HTML, section 9.2)."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from fastapi import Request, Response
from pydantic_core import to_json
from starlette.types import Receive, Scope, Send

from api.http.clients import Shares, client_of
from api.http.problems import too_many, unavailable
from shared.access.principals import Principal
from shared.telemetry import metrics

HEARTBEAT_EVERY = 15.0
"""Seconds without a word after which a comment is sent: proxies end what is silent, often after 60."""

SEND_TIMEOUT = 15.0
"""Seconds in which a client must take what it is sent, or it is dropped, where the system didn't do so before."""

PIECE_BYTES = 64 * 1024
"""Bytes sent at once: as many as the server buffers before it waits for the client."""

RETRY_MS = 1000
"""Milliseconds after which an EventSource comes back."""

HEADERS = {"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}

LAST_EVENT_ID = "The `id` that came last: the stream goes on behind it. An EventSource sends it by itself"


def message(id: object, data: Any) -> bytes:
    """An event of a stream: its id, and data that is made JSON, which has no line breaks."""
    return b"id: %s\ndata: %s\n\n" % (str(id).encode(), to_json(data))


class Streams:
    """The streams that are open: so many at most, also of one client, and none once the API stops."""

    def __init__(self, total: int, per_client: int) -> None:
        self._shares = Shares(total, per_client)
        self._stopped = False
        self._open: dict[asyncio.Task[None], Principal] = {}
        metrics.STREAMS.set(0)

    def answer(self, request: Request, messages: AsyncIterator[bytes]) -> "EventStream":
        """The answer that sends the messages. Raises Problem if there are enough already."""
        client = client_of(request)
        if self._shares.gone:
            raise unavailable("too-many-streams", f"{self._shares.total} streams are open, and no more may be.")
        if self._shares.used_up(client):
            detail = f"A client may have {self._shares.per_client} streams open, and this one has."
            raise too_many("too-many-streams-of-client", detail)
        return EventStream(self, client, request.scope["principal"], messages)

    @contextmanager
    def one(self, client: str, principal: Principal, leaves: asyncio.Task[None]) -> Iterator[None]:
        """A stream of the client while it is open.

        `leaves` ends when the client leaves, and is cancelled by `stop` and, for a principal who may not stay, `keep`.
        """
        with self._shares.one(client):
            self._open[leaves] = principal
            metrics.STREAMS.inc()
            if self._stopped:
                leaves.cancel()
            try:
                yield
            finally:
                del self._open[leaves]
                metrics.STREAMS.dec()

    def stop(self) -> None:
        """End all streams at once, and those that are yet to begin."""
        self._stopped = True
        for leaves in self._open:
            leaves.cancel()

    def keep(self, may_stay: Callable[[Principal], bool]) -> None:
        """End the streams of principals who may not stay."""
        for leaves, principal in self._open.items():
            if not may_stay(principal):
                leaves.cancel()


class EventStream(Response):
    """Ends with its messages, or when the client leaves or takes nothing, or the API stops."""

    media_type = "text/event-stream"

    def __init__(self, streams: Streams, client: str, principal: Principal, messages: AsyncIterator[bytes]) -> None:
        super().__init__(headers=HEADERS)
        del self.headers["Content-Length"]
        self._streams = streams
        self._client = client
        self._principal = principal
        self._messages = messages
        self._sent_at = 0.0

    async def __call__(self, _: Scope, receive: Receive, send: Send) -> None:
        leaves = asyncio.create_task(_leaves(receive))
        with self._streams.one(self._client, self._principal, leaves):
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            tasks = leaves, asyncio.create_task(self._send_messages(send)), asyncio.create_task(self._beat(send))
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in tasks:
                    task.cancel()
                ends = await asyncio.gather(*tasks, return_exceptions=True)
        for end in ends:
            if isinstance(end, Exception) and not isinstance(end, TimeoutError):
                raise end
        with suppress(TimeoutError):
            async with asyncio.timeout(0.1):  # the client is told that this is the end, unless it doesn't listen
                await send({"type": "http.response.body", "body": b""})

    async def _send_messages(self, send: Send) -> None:
        await self._send(send, b"retry: %d\n\n" % RETRY_MS)
        async for each in self._messages:
            for start in range(0, len(each), PIECE_BYTES):
                await self._send(send, each[start : start + PIECE_BYTES])

    async def _beat(self, send: Send) -> None:
        self._sent_at = time.monotonic()
        while True:
            await asyncio.sleep(max(0.0, self._sent_at + HEARTBEAT_EVERY - time.monotonic()))
            if time.monotonic() - self._sent_at >= HEARTBEAT_EVERY:
                await self._send(send, b":\n\n")

    async def _send(self, send: Send, text: bytes) -> None:
        """Raises TimeoutError if the client doesn't take it. The server waits only once its buffer is full."""
        async with asyncio.timeout(SEND_TIMEOUT):
            await send({"type": "http.response.body", "body": text, "more_body": True})
        self._sent_at = time.monotonic()


async def _leaves(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
