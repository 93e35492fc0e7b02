"""Requests of a connection: one at a time, each ended by its own framing and by nothing else."""

import contextvars
import math
from abc import abstractmethod
from enum import Enum, auto
from io import BytesIO
from typing import Any

import httptools
from starlette.types import Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from api.http.problems import Problem
from api.serving import request_head
from shared.settings import Settings

END = b"\r\n\r\n"

LINGER_SECONDS = 2.0
"""How long a client that was refused may go on sending, so that it gets to read why (RFC 9112, section 9.6)."""


class Stage(Enum):
    """What a connection waits for."""

    HEAD = auto()
    """The rest of the next request's head, of which nothing may be there yet."""
    BODY = auto()
    """The rest of the body."""
    ANSWER = auto()
    """The app's answer, and the client to take it."""
    CLOSING = auto()
    """The client, to take the last answer: nothing more is read."""


HEAD, BODY, ANSWER, CLOSING = Stage
"""As names of the module: looking them up in the class takes longer than all else that is done with them."""


class Framed(HttpToolsProtocol):
    """uvicorn's protocol, which gets nothing of a request before the one ahead of it is answered.

    A request goes to the app once it is whole; as soon as its head is there, if it expects `100 Continue` or the API is
    closed: then it is refused before its body comes.
    """

    def __init__(self, settings: Settings, **uvicorns: Any) -> None:
        super().__init__(**uvicorns)
        self._settings = settings
        self._all = self.app
        self.url = b""
        self._stage = HEAD
        self._unread = b""
        self._looked = 0
        """Bytes of `_unread` in which the end of a head has been looked for in vain."""
        self._keep_alive = self._begun = self._whole = False
        self._body = bytearray()
        self._left: int | None = 0
        self._around = 0
        """Bytes of a body in chunks that aren't its content."""
        self.deadline = math.inf
        """Until when the stage may last, by the loop's clock."""

    def wait(self, stage: Stage, seconds: float) -> None:
        """Enter a stage, which may last so many seconds."""
        self._stage = stage
        self.deadline = self.loop.time() + seconds

    @abstractmethod
    def refuse(self, problem: Problem) -> None:
        """Answer a problem in the place of the app; nothing more is read."""

    def data_received(self, data: bytes) -> None:
        if self._stage is not CLOSING:
            self._unread += data
            self._read()

    def on_headers_complete(self) -> None:
        self._keep_alive = self.parser.should_keep_alive()

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        self._whole = True

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        if self._stage is BODY and not self.transport.is_closing():  # the rest of the body is thrown away
            self.wait(BODY, LINGER_SECONDS)
        else:
            self._end()

    def _end(self) -> None:
        if self.transport.is_closing():  # once the client has taken the answer, or hasn't for as long as this
            self.wait(CLOSING, self._settings.body_timeout)
            return
        self.wait(HEAD, self._settings.idle_timeout)
        if self._unread:  # in a context of its own: this one is the last request's
            self.loop.call_soon(self._read, context=contextvars.Context())

    def _read(self) -> None:
        """Take what is there of the next request, which is refused if it is none."""
        try:
            while self._unread and self._read_next():
                pass
        except Problem as problem:
            self.refuse(problem)
        except httptools.HttpParserError:
            self.refuse(request_head.malformed())

    def _read_next(self) -> bool:
        """Read the next part; returns whether there may be more to be read now."""
        if self._stage is HEAD:
            return self._read_head()
        if self._stage is BODY:
            self._read_body()
            return True
        if (
            len(self._unread) > self._settings.max_head
        ):  # too much to be kept while an answer is made: that is the last one
            self._unread = b""
            self.cycle.keep_alive = False
            self.flow.pause_reading()
        return False

    def _read_head(self) -> bool:
        self.url = b""  # a head that is refused unread has none
        head = self._take_head()
        if not head:
            return False
        self._parse(head)
        version = self.parser.get_http_version()
        self._left, expects_continue = request_head.check(version, self.headers, self._settings)
        if not self.url.startswith(b"/"):
            self.url = request_head.to_origin_form(self.url, self.headers)
        old = version == "1.0"
        self._keep_alive = self._keep_alive and not old
        self.app = self._answer_1_0 if old else self._all
        self._begun = False
        if self._whole:
            self._deliver()
        elif self._left and self._left <= len(self._unread):
            self._read_body()
        else:
            self._expect_body(begin=expects_continue or self._settings.closed, continues=expects_continue)
        return True

    def _take_head(self) -> bytes:
        """The next head, empty unless all of it is there."""
        if self._unread[0] in b"\r\n":  # RFC 9112, section 2.2
            self._unread = self._unread.lstrip(b"\r\n")
        looked, self._looked = self._looked, 0
        end = self._unread.find(END, max(0, looked - len(END)))
        size = end + len(END) if end >= 0 else len(self._unread)
        if size > self._settings.max_head:
            raise request_head.head_too_large(self._settings, self._unread)
        if end >= 0:
            head, self._unread = self._unread[:size], self._unread[size:]
            return head
        if request_head.BROKEN.search(self._unread, max(0, looked - 1)):
            raise request_head.unreadable(self._unread)
        if self._unread and not looked:
            self.wait(HEAD, self._settings.head_timeout)
        self._looked = len(self._unread)
        return b""

    def _parse(self, head: bytes) -> None:
        """Parse a head. An upgrade that is offered is not taken (RFC 9110, section 7.8): its body would be lost."""
        self._whole = False
        try:
            self.parser.feed_data(head)
        except httptools.HttpParserUpgrade:
            if head.startswith(b"CONNECT "):
                raise request_head.not_implemented() from None
            self._whole = False
            self.parser.feed_data(request_head.UPGRADE.sub(b"", head))
        except httptools.HttpParserError as error:
            raise request_head.unreadable(head, error) from None

    def _expect_body(self, *, begin: bool, continues: bool) -> None:
        self._around = 0
        self.wait(BODY, self._settings.body_timeout)
        self.headers = []  # what is a trailer is no header
        if begin:
            self._begin(expects_continue=continues)
            # A body that was to be asked for may never come: then nobody knows where the next request begins.
            self.cycle.keep_alive = not continues

    def _read_body(self) -> None:
        if self._left is None:
            self._read_chunks()
        else:
            piece, self._unread = self._unread[: self._left], self._unread[self._left :]
            self._left -= len(piece)
            self.parser.feed_data(piece)
        if self._whole:
            self._deliver()
        elif self._left == 0:  # the parser has read another length
            raise request_head.malformed()

    def _read_chunks(self) -> None:
        """Read by lines: a body in chunks ends with a line, and the parser gets nothing of what is behind it."""
        lines = BytesIO(self._unread)
        for line in lines:
            before = len(self._body)
            self.parser.feed_data(line)
            self._around += len(line) - (len(self._body) - before)
            if len(self._body) > self._settings.max_body:
                raise request_head.body_too_large(self._settings)
            if self._around > self._settings.max_head:
                raise request_head.head_too_large(self._settings)
            if self._whole:
                break
        self._unread = lines.read()

    def _begin(self, *, expects_continue: bool = False) -> None:
        self._begun = True
        self.expect_100_continue = expects_continue
        super().on_headers_complete()

    def _deliver(self) -> None:
        """Give the app the request, which is whole, or what the app still lacks of it."""
        if not self._begun:
            self._begin()
        cycle = self.cycle
        if cycle.response_complete:  # the request was refused before
            self._body = bytearray()
            if not self._keep_alive:
                self.transport.close()
            self._end()
            return
        cycle.waiting_for_100_continue = False
        if not cycle.response_started:
            cycle.keep_alive = self._keep_alive
        cycle.body, cycle.more_body = self._body, False
        cycle.message_event.set()
        self._body = bytearray()
        self._stage, self.deadline = ANSWER, math.inf
        if self.flow.write_paused:
            self.wait(ANSWER, self._settings.body_timeout)

    def pause_writing(self) -> None:
        """The client doesn't take what it is sent; it has as long for that as for a body."""
        super().pause_writing()
        if self._stage is ANSWER:
            self.wait(ANSWER, self._settings.body_timeout)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stage is ANSWER:
            self.deadline = math.inf

    async def _answer_1_0(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer HTTP/1.0, which knows no chunks: an answer without a length ends with the connection."""
        cycle, endless = self.cycle, False

        async def sending(message: Message) -> None:
            nonlocal endless
            if message["type"] == "http.response.start":
                endless = all(name.lower() != b"content-length" for name, _ in message["headers"])
                cycle.chunked_encoding = False if endless else None
                cycle.keep_alive = cycle.keep_alive and not endless
            elif endless:
                cycle.expected_content_length = len(message.get("body", b""))
            await send(message)

        await self._all(scope, receive, sending)
