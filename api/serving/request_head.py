"""Heads of requests: what they must be before anything of them is believed (RFC 9112)."""

import re
from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv6Address
from typing import NamedTuple

import httptools

from api.http.problems import Problem
from shared.settings import Settings

Headers = Sequence[tuple[bytes, bytes]]

FRAMING = {b"host", b"content-length", b"transfer-encoding", b"expect"}

HOST = re.compile(rb"([\w.~!$&'()*+,;=%-]*|\[(?P<address>[\da-fA-F:.]+)\])(:\d*)?", re.ASCII)
"""A host and a port (RFC 3986, section 3.2.2), without a user."""

LINE = re.compile(rb"[!#$%&'*+.^_`|~\w-]+ +\S+ +HTTP/(\d\.\d)\r\n", re.ASCII)

UPGRADE = re.compile(rb"\r\nupgrade:[^\r]*", re.IGNORECASE)

BROKEN = re.compile(rb"\A[^!#$%&'*+.^_`|~\w-]|(?<!\r)\n|\r(?!\n|\Z)", re.ASCII)
"""How no request begins, TLS for one, or no line of it ends (section 2.2)."""


class Body(NamedTuple):
    """How a body is framed: by a length, or in chunks if there is none; and whether `100 Continue` is waited for."""

    length: int | None
    expects_continue: bool


NO_BODY = Body(0, expects_continue=False)

VERSIONS = {"1.0", "1.1"}


def malformed(detail: str = "This is not a request of HTTP/1.1.") -> Problem:
    """A 400 for what is no request."""
    return Problem("malformed-request", 400, detail)


def unsupported_version() -> Problem:
    """A 505 for another version of HTTP."""
    return Problem("http-version-not-supported", 505, "HTTP/1.1 and HTTP/1.0 are what is spoken here.")


def head_too_large(settings: Settings, head: bytes = b"\n") -> Problem:
    """A 431 or, if the first line doesn't end, a 414."""
    if b"\n" not in head[: settings.max_head]:
        return Problem("uri-too-long", 414, f"A request's line is {settings.max_head} bytes at most.")
    detail = f"A request has {settings.max_headers} headers and {settings.max_head} bytes before its body at most."
    return Problem("request-header-fields-too-large", 431, detail)


def body_too_large(settings: Settings) -> Problem:
    """A 413."""
    return Problem("content-too-large", 413, f"A body is {settings.max_body} bytes at most.")


def too_slow(part: str, seconds: float) -> Problem:
    """A 408 for a head or a body that takes too long."""
    return Problem("request-timeout", 408, f"The {part} of a request must have come within {seconds:g} s.")


def unreadable(head: bytes, error: Exception | None = None) -> Problem:
    """A 400, 501 or 505 for a head that the parser didn't take."""
    line = LINE.match(head)
    if line and line[1] not in {b"1.0", b"1.1"}:
        return unsupported_version()
    if line and isinstance(error, httptools.HttpParserInvalidMethodError):
        return not_implemented()
    return malformed()


def not_implemented() -> Problem:
    """A 501 for a method that HTTP doesn't have, or that isn't for servers."""
    return Problem("not-implemented", 501, "This method is not known here.")


def check(version: str, headers: Headers, settings: Settings) -> Body:
    """The body that the head announces. Raises Problem for what is too large, or might be read in two ways."""
    if version not in VERSIONS:
        raise unsupported_version()
    if len(headers) > settings.max_headers:
        raise head_too_large(settings)
    framing = [each for each in headers if each[0] in FRAMING]
    if len(framing) == 1 and framing[0][0] == b"host" and _is_host(framing[0][1]):
        return NO_BODY
    values = dict(framing)
    if len(values) < len(framing):
        raise malformed("Host, Content-Length, Transfer-Encoding and Expect stand in a request once.")
    if not _is_host(values.get(b"host", b"" if version == "1.0" else b"/")):
        raise malformed("A request has one Host, which names a host and maybe a port.")
    return _body(version, values, settings)


@lru_cache(1024)
def _is_host(value: bytes) -> bool:
    its = HOST.fullmatch(value.rstrip())
    if not its or not its["address"]:
        return its is not None
    try:  # Python's own URLs, in which Starlette shows them, have no other address
        IPv6Address(its["address"].decode())
    except ValueError:
        return False
    return True


def _body(version: str, values: dict[bytes, bytes], settings: Settings) -> Body:
    coding = values.get(b"transfer-encoding")
    if coding is not None and version == "1.0":
        raise malformed("HTTP/1.0 has no Transfer-Encoding.")
    if coding is not None and coding.strip().lower() != b"chunked":
        raise Problem("not-implemented", 501, "The only Transfer-Encoding is chunked.")
    length = None if coding else int(values.get(b"content-length", b"0"))
    if length and length > settings.max_body:
        raise body_too_large(settings)
    expected = values.get(b"expect", b"100-continue").strip().lower()
    if expected != b"100-continue" and version != "1.0":
        raise Problem("expectation-failed", 417, "The only expectation is 100-continue.")
    return Body(length, expects_continue=b"expect" in values and version != "1.0")


def to_origin_form(target: bytes, headers: list[tuple[bytes, bytes]]) -> bytes:
    """A target without its host, which becomes the Host header (RFC 9112, section 3.2.2): proxies get such ones."""
    url = httptools.parse_url(target)
    if url.host is None:
        return target
    host = b"[%s]" % url.host if b":" in url.host else url.host
    authority = b"%s:%d" % (host, url.port) if url.port else host
    headers[:] = [each for each in headers if each[0] != b"host"] + [(b"host", authority)]
    return (url.path or b"/") + (b"?" + url.query if url.query else b"")
