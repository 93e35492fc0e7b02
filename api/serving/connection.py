"""A connection of HTTP/1.1, with bounds on how long its client may take, and on how many there are."""

import asyncio
import math
from collections import Counter
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from api.http.clients import network_of
from api.http.problems import Answer, Problem, unavailable
from api.serving import request_head
from api.serving.framing import ANSWER, BODY, CLOSING, HEAD, LINGER_SECONDS, Framed
from shared.settings import Settings
from shared.telemetry.refused import Refused

LEAVING_SHARE = 20
"""One of so many waiting connections is closed when there are too many: to find the oldest takes a look at all."""


class Bounds:
    """What connections share: the settings, how many there may be, how problems are answered, and what is refused."""

    def __init__(self, settings: Settings, most: int, answer: Answer) -> None:
        self.settings = settings
        self.most = most
        self.answer = answer
        self.refused = Refused()
        self.open: dict[Connection, None] = {}
        """Connections in the order in which they came, without those that make room for others."""


class Connection(Framed):
    """A connection whose client is refused or dropped when it takes too long, or when there are too many."""

    def __init__(self, bounds: Bounds, **uvicorns: Any) -> None:
        super().__init__(bounds.settings, **uvicorns)
        self._bounds = bounds

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.wait(HEAD, self._settings.idle_timeout)
        self._bounds.open[self] = None
        if len(self._bounds.open) > self._bounds.most and not self._make_room():
            full = "As many connections are being answered as may be open."
            self.refuse(unavailable("too-many-connections", full))

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._stage, self._unread, self.deadline = CLOSING, b"", math.inf
        self._bounds.open.pop(self, None)

    def expire(self) -> None:
        """End what took too long; called once the deadline is over."""
        if self._stage in {ANSWER, CLOSING}:
            self.transport.abort()
        elif self._stage is BODY:
            self.refuse(request_head.too_slow("body", self._settings.body_timeout))
        elif self._unread:
            self.refuse(request_head.too_slow("head", self._settings.head_timeout))
        else:
            self._close()

    def shutdown(self) -> None:
        if self._stage is not CLOSING:
            super().shutdown()
        elif not self.transport.is_closing():  # else it is still taking its answer
            self.transport.abort()

    def leave(self) -> None:
        """Make room for other connections."""
        self._bounds.open.pop(self, None)
        if self._stage in {ANSWER, CLOSING} or self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            self._close()

    def refuse(self, problem: Problem) -> None:
        """Answer the problem. What the client still sends is thrown away for a while, then the connection is closed."""
        self._bounds.refused.count(problem.name, self.network())
        if self._begun and self._stage is BODY:  # the app waits for the rest
            self.cycle.disconnected = True
            self.cycle.waiting_for_100_continue = False
            self.cycle.message_event.set()
            if self.cycle.response_started:
                self.transport.abort()
                return
        self.transport.write(self._in_full(problem))
        self.transport.write_eof()
        self._unread, self._body = b"", bytearray()
        self.wait(CLOSING, LINGER_SECONDS)

    def _in_full(self, problem: Problem) -> bytes:
        """The answer as bytes: no app is there to send it."""
        path = self.url.partition(b"?")[0].decode("latin-1")
        answer = self._bounds.answer({"type": "http", "method": "", "path": path, "headers": []}, problem)
        headers = [*self.server_state.default_headers, *answer.raw_headers, (b"connection", b"close")]
        lines = [b"%s: %s\r\n" % each for each in headers]
        return b"".join([STATUS_LINE[problem.status_code], *lines, b"\r\n", answer.body])

    def _close(self) -> None:
        """Close once the client has taken what it was sent, or hasn't for as long as a body may take."""
        self.wait(CLOSING, self._settings.body_timeout)
        self.transport.close()

    def _make_room(self) -> bool:
        others = (each for each in self._bounds.open if each.deadline < math.inf and each is not self)
        waiting = sorted(others, key=lambda each: each.deadline)
        for each in waiting[: 1 + len(waiting) // LEAVING_SHARE]:
            each.leave()
        return bool(waiting) or self._take_from_greediest()

    def _take_from_greediest(self) -> bool:
        """Close a connection of the client that has most of them, if that is more than this one's client has."""
        clients = Counter(each.network() for each in self._bounds.open)
        [(greediest, most)] = clients.most_common(1)
        if most <= clients[self.network()]:
            return False
        next(each for each in self._bounds.open if each.network() == greediest).leave()
        return True

    def network(self) -> str:
        """The client, by its network."""
        return network_of(self.client[0]) if self.client else ""
