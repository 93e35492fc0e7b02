"""Two small HTTP/1.1 clients that outrun the service: one for any request, one to pour out many that all succeed."""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple, Self, TypeVar

TIMEOUT = 40.0
"""Seconds to an answer; longer than the service lets a request wait."""

IDLE = 3.0
"""Seconds after which a connection isn't used again: uvicorn ends one after 5, maybe just as it is asked."""

POUR_WITHIN = 300.0
"""Seconds to the last answer of all that is poured."""

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)

T = TypeVar("T")


class Wrong(Exception):
    """The service didn't do what it promises."""


class Reply(NamedTuple):
    """The answer to a request; the names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Connections:
    """As many connections to one server as there are requests at a time, kept alive."""

    def __init__(self, host: str, port: int, *, always: Mapping[str, str] = MappingProxyType({})) -> None:
        """`always`: headers that each request has, such as a key."""
        self._address = host, port
        self._always = always
        self._idle: list[_Connection] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for connection in self._idle:
            connection.writer.close()

    async def request(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Reply:
        """Send a request. Raises OSError: a TimeoutError, or a ConnectionError if the connection is lost."""
        connection = await self._take()
        try:
            async with asyncio.timeout(TIMEOUT):
                return await connection.ask(self.encode(method, path, body, headers or {}))
        except TimeoutError:
            raise TimeoutError(f"no answer to {method} {path} within {TIMEOUT:.0f} s") from None
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError):
            raise ConnectionError(f"the answer to {method} {path} is not whole, or not HTTP") from None
        finally:
            self._idle.append(connection)

    async def _take(self) -> "_Connection":
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                return connection
            connection.writer.close()
        return _Connection(*await asyncio.open_connection(*self._address))

    def encode(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> bytes:
        """The request as it goes over the wire."""
        lines = [f"{method} {path} HTTP/1.1", "Host: {}:{}".format(*self._address)]
        lines += [f"{name}: {value}" for name, value in {**self._always, **headers}.items()]
        if body is not None:
            lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
        return "\r\n".join([*lines, "", ""]).encode() + (body or b"")


class _Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        self._reader = reader
        self._fresh_until = 0.0

    @property
    def usable(self) -> bool:
        return time.monotonic() < self._fresh_until and not self._reader.at_eof()

    async def ask(self, request: bytes) -> Reply:
        fresh_until, self._fresh_until = time.monotonic() + IDLE, 0.0  # not until the answer is whole
        self.writer.write(request)
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        status, *lines = head.rstrip().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = await self._reader.readexactly(int(headers.get("content-length", 0)))
        if headers.get("connection") != "close":
            self._fresh_until = fresh_until
        return Reply(int(status.split()[1]), headers, body)


async def each(items: Iterable[T], do: Callable[[T], Awaitable[None]], *, at_once: int) -> None:
    """Do it for every item, so many at once. The first error ends it all."""
    remaining = iter(items)

    async def work() -> None:
        for item in remaining:
            await do(item)

    workers = [asyncio.create_task(work()) for _ in range(at_once)]
    try:
        await asyncio.gather(*workers)
    finally:
        for worker in workers:
            worker.cancel()


async def pour(host: str, port: int, requests: Iterable[bytes], *, at_once: int) -> None:
    """Return once each request is answered with a status of 2xx. Raises Wrong if one isn't."""
    loop, remaining = asyncio.get_running_loop(), iter(requests)
    done: list[asyncio.Future[None]] = [loop.create_future() for _ in range(at_once)]
    transports: list[asyncio.BaseTransport] = []
    try:
        async with asyncio.timeout(POUR_WITHIN):
            lanes = [partial(_Lane, remaining, its) for its in done]
            transports += [(await loop.create_connection(lane, host, port))[0] for lane in lanes]
            await asyncio.gather(*done)
    except TimeoutError:
        raise Wrong(f"not everything was answered within {POUR_WITHIN:.0f} s") from None
    finally:
        for transport in transports:
            transport.close()


class _Lane(asyncio.Protocol):
    """One connection that sends the next request as soon as the last is answered: no task, no parser, half the cost."""

    def __init__(self, remaining: Iterator[bytes], done: asyncio.Future[None]) -> None:
        self._done = done
        self._remaining = remaining
        self._received = b""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._ask()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        length = LENGTH.search(head)
        if not end or (length and len(body) < int(length[1])):
            return
        if head[9:10] != b"2" or not length:
            self._fail(Wrong(f"a request was answered {self._received.decode()}"))
            return
        self._received = b""
        self._ask()

    def connection_lost(self, _: Exception | None) -> None:
        self._fail(Wrong("a connection was lost"))

    def _ask(self) -> None:
        request = next(self._remaining, None)
        if request is not None:
            self._transport.write(request)
        elif not self._done.done():
            self._done.set_result(None)

    def _fail(self, error: Wrong) -> None:
        if not self._done.done():
            self._done.set_exception(error)
