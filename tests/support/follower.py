"""A client that follows server-sent events, in a thread of its own."""

import json
import socket
import threading
import time
from contextlib import suppress
from http.client import HTTPConnection, HTTPException, HTTPResponse
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from tests.support.service import eventually


class Message(NamedTuple):
    id: str
    data: Any
    came: float


class Follower:
    """It is connected when it is made. `clean` tells whether the server ended it as it should; None: not yet."""

    def __init__(self, url: str, **headers: str) -> None:
        where = urlsplit(url)
        self._connection = HTTPConnection(where.hostname or "", where.port, timeout=60)
        self._connection.request("GET", f"{where.path}?{where.query}", headers=headers)
        self._socket: socket.socket = self._connection.sock
        self.answer: HTTPResponse = self._connection.getresponse()
        self.messages: list[Message] = []
        self.comments = 0
        self.last_id = ""
        self.clean: bool | None = None
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    @property
    def ids(self) -> list[int]:
        return [int(each.id) for each in self.messages]

    def leave(self) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        for each in (self.answer, self._connection, self._socket):
            each.close()

    def ended(self) -> bool:
        """Whether the server ended it as it should, which it must soon."""
        eventually(lambda: self.clean is not None)
        self.leave()
        return bool(self.clean)

    def _read(self) -> None:
        try:
            self._take_lines()
            self.clean = self.clean is None
        except (OSError, HTTPException, ValueError):
            self.clean = False

    def _take_lines(self) -> None:
        data = ""
        for line in self.answer:
            field, _, value = line.decode().rstrip("\n").partition(": ")
            if field == "id":
                self.last_id = value
            elif field == "data":
                data = value
            elif field == ":":
                self.comments += 1
            elif not field and data:
                self.messages.append(Message(self.last_id, json.loads(data), time.time()))
                data = ""
