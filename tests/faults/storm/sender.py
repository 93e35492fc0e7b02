"""Sending until there is an answer, and setting down what it was."""

import asyncio
import json
import time
from collections.abc import Callable, Mapping

from benchmarks.load.connections import Connections, Reply
from tests.faults.storm.ledger import Ledger, Request

GIVE_UP = 90.0
"""Seconds without an answer after which that is unexpected."""

RETRY_PAUSE, BUSY_PAUSE = 0.05, 0.25
"""Seconds before a request is sent again: after a lost connection, after a 503."""


class Sender:
    """One client's way to the service."""

    def __init__(self, connections: Connections, ledger: Ledger, name: str) -> None:
        self.ledger = ledger
        self.name = name
        self._connections = connections
        self._numbers = 0

    def unique(self) -> str:
        """For keys and addresses."""
        self._numbers += 1
        return f"{self.name}-{self._numbers}"

    async def command(
        self, method: str, path: str, body: Mapping[str, str], *, if_match: int | None = None, wait: bool = False
    ) -> Request:
        request = Request(self.unique(), method, path, body, if_match, wait, sent=time.monotonic())
        self.ledger.requests.append(request)
        await self.repeat(request)
        return request

    async def repeat(self, request: Request) -> None:
        """Send a command, for the first time or once more; an answer that it may have is noted in it."""

        def count() -> None:
            request.tries += 1

        headers = request.headers(wait=request.wait)
        reply = await self.ask(request.method, request.path, request.body, headers, count)
        if reply is None:
            return
        if reply.status not in request.allowed:
            self.ledger.wrong(f"{request} is answered {reply}")
            return
        if request.tries == 1 and "idempotency-replayed" in reply.headers:
            self.ledger.wrong(f"{request} is replayed at its first try: {reply}")
        request.note(reply, time.monotonic())

    async def ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, str] | None,
        headers: Mapping[str, str],
        sending: Callable[[], None] = lambda: None,
    ) -> Reply | None:
        """Sent again on a lost connection and on 503, until there is another answer; None if that never comes."""
        encoded = json.dumps(body).encode() if body else None
        deadline, last = time.monotonic() + GIVE_UP, ""
        while time.monotonic() < deadline:
            sending()
            try:
                reply = await self._connections.request(method, path, encoded, headers)
            except OSError as error:
                last = repr(error)
                await asyncio.sleep(RETRY_PAUSE)
                continue
            if reply.status != 503:
                return reply
            last = repr(reply)
            if "retry-after" not in reply.headers:
                self.ledger.wrong(f"{method} {path} is answered {reply}, without Retry-After")
            await asyncio.sleep(BUSY_PAUSE)
        self.ledger.wrong(f"{method} {path} had no answer within {GIVE_UP:.0f} s, at last {last}")
        return None
