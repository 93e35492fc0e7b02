"""A small HTTP/1.1 client that outruns the service: connections kept alive, each asking one thing at a time."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import NamedTuple, Self, TypeVar

import httptools

TIMEOUT = 40.0
"""Seconds to an answer; longer than the service lets a request wait."""

IDLE = 3.0
"""Seconds after which a connection isn't used again: uvicorn ends one after 5, maybe just as it is asked."""

T = TypeVar("T")


class Reply(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes


class Connections:
    """As many connections to one server as there are requests at a time."""

    def __init__(self, host: str, port: int) -> None:
        self._address = host, port
        self._idle: list[_Connection] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for connection in self._idle:
            connection.writer.close()

    async def request(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Reply:
        """Raises OSError: a TimeoutError, or a ConnectionError if the connection is lost."""
        connection = await self._take()
        try:
            async with asyncio.timeout(TIMEOUT):
                return await connection.ask(self.encode(method, path, body, headers or {}))
        except TimeoutError:
            raise TimeoutError(f"no answer to {method} {path} within {TIMEOUT:.0f} s") from None
        except httptools.HttpParserError as error:
            raise ConnectionError(f"the answer to {method} {path} is not HTTP: {error}") from None
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
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if body is not None:
            lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
        return "\r\n".join([*lines, "", ""]).encode() + (body or b"")


class _Connection:
    """The parser calls the `on_` methods."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        self._reader = reader
        self._parser = httptools.HttpResponseParser(self)

    @property
    def usable(self) -> bool:
        fresh = time.monotonic() < self._asked + IDLE
        return fresh and self._complete and self._keeps_alive and not self._reader.at_eof()

    async def ask(self, request: bytes) -> Reply:
        self._headers: dict[str, str] = {}
        self._body, self._complete = b"", False
        self._asked = time.monotonic()
        self.writer.write(request)
        while not self._complete:
            received = await self._reader.read(2**16)
            if not received:
                raise ConnectionError("the connection was lost before the answer was whole")
            self._parser.feed_data(received)
        return Reply(self._parser.get_status_code(), self._headers, self._body)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode().lower()] = value.decode("latin-1")

    def on_body(self, part: bytes) -> None:
        self._body += part

    def on_message_complete(self) -> None:
        self._complete, self._keeps_alive = True, self._parser.should_keep_alive()


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
