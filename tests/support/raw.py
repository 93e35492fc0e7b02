"""Bytes to a server and the answers to them, for requests that no HTTP client would make."""

import socket
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import httptools
from pydantic_core import from_json

LAST = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
"""A request after which the server closes the connection."""


@dataclass
class Answer:
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    def json(self) -> Any:
        return from_json(self.body)


class Answers(list[Answer]):
    """The parser calls the `on_` methods."""

    def __init__(self) -> None:
        super().__init__()
        self._parser = httptools.HttpResponseParser(self)

    def read(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        self.append(Answer())

    def on_header(self, name: bytes, value: bytes) -> None:
        self[-1].headers[name.decode().lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self[-1].status = self._parser.get_status_code()

    def on_body(self, part: bytes) -> None:
        self[-1].body += part


def exchange(port: int, *pieces: bytes, pause: float = 0.05, within: float = 20) -> Answers:
    """The answers up to the server's closing of the connection. It gets the pieces with a pause before each."""
    answers = Answers()
    with socket.create_connection(("127.0.0.1", port), timeout=within) as client:
        send(client, pieces, pause=pause)
        with suppress(ConnectionResetError):
            while data := client.recv(65536):
                answers.read(data)
    return answers


def send(client: socket.socket, pieces: Iterable[bytes], *, pause: float = 0.0) -> None:
    """All of them, or those that the server takes before it closes the connection."""
    with suppress(ConnectionResetError, BrokenPipeError):
        for number, piece in enumerate(pieces):
            time.sleep(pause if number else 0)
            client.sendall(piece)


def request(line: str, *headers: str, body: bytes = b"", host: str = "localhost") -> bytes:
    """With a Content-Length, if there is a body."""
    lines = [f"{line} HTTP/1.1", f"Host: {host}", *headers, *([f"Content-Length: {len(body)}"] if body else [])]
    return "\r\n".join([*lines, "", ""]).encode() + body


def in_chunks(line: str, *headers: str, body: bytes, size: int = 7) -> bytes:
    """With a body in chunks of so many bytes."""
    parts = [body[start : start + size] for start in range(0, len(body), size)]
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)
    return request(line, "Transfer-Encoding: chunked", *headers) + chunks + b"0\r\n\r\n"
