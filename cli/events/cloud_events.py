"""The log as JSON lines: a CloudEvent 1.0 for each event, then one with the number of events and their digest.

`dataschema` holds the schema version. Three extensions hold what CloudEvents has no name for: `streamversion`,
`metadata`, which is JSON in a string, and `hash`, in hexadecimal digits.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from functools import cache, partial
from typing import Any, BinaryIO, TypeVar
from urllib.parse import quote

from pydantic_core import from_json, to_json
from sqlalchemy import Connection

from cli.errors import Damaged
from shared import chain
from shared.clock import now, written
from shared.errors.visible import visible_json
from shared.messages import RecordedEvent
from shared.stores import event_store
from shared.stores.event_store import pages

T = TypeVar("T")

SOURCE = "/events/"

END = "LogExported"

LONGEST = 2**20
"""Bytes that a line may have, without its end."""


def lines(connection: Connection) -> Iterator[bytes]:
    """The lines of the whole log as it is now, and the last line."""
    digest, count = hashlib.sha256(), 0
    last = event_store.last_position(connection)
    for page in pages(event_store.read_between(connection, after=0, upto=last)):
        hashes = event_store.hashes(connection, after=page[0].position - 1, upto=page[-1].position)
        for event in page:
            line = _line(event, hashes[event.position])
            digest.update(line)
            count += 1
            yield line
    yield _end(count, digest.hexdigest())


def read_lines(file: BinaryIO) -> Iterator[bytes]:
    """The lines of a file. Raises Damaged at one that is too long, and reads no more of it than a line may have."""
    number = 0
    while line := file.readline(LONGEST + 1):
        number += 1
        if len(line.rstrip(b"\n")) > LONGEST:
            raise Damaged(f"line {number} is longer than 1 MiB")
        yield line


def events(exported: Iterable[bytes]) -> Iterator[RecordedEvent]:
    """The events of exported lines. Raises Damaged, perhaps only at the end: then none of the events may be used."""
    digest, count, last = hashlib.sha256(), 0, chain.START
    ended = False
    for number, line in enumerate(exported, 1):
        found = _parsed(number, line)
        if ended:
            raise Damaged(f"line {number} comes after the end")
        if found["type"] == END:
            _check_end(found, count, digest.hexdigest())
            ended = True
            continue
        digest.update(line)
        count += 1
        event = _event(number, found)
        last = event.hash(last)
        if found.get("hash", last.hex()) != last.hex():  # exports from before there were any have none
            raise Damaged(f"line {number} isn't as it was recorded: its hash doesn't fit")
        yield event
    if not ended:
        raise Damaged(f"the end is missing: the last line is {count}")


def _line(event: RecordedEvent, hash: bytes | None = None) -> bytes:
    attributes = {
        "specversion": "1.0",
        "id": str(event.position),
        "source": SOURCE,
        "type": event.type,
        "subject": event.stream,
        "time": event.recorded_at,
        "streamversion": event.version,
        "metadata": event.metadata_json,
        "datacontenttype": "application/json",
        "dataschema": _schema(event.type, event.schema_version),
        **({"hash": hash.hex()} if hash else {}),
    }
    line = f'{to_json(attributes)[:-1].decode()},"data":{event.data_json}}}'
    return f"{visible_json(line)}\n".encode()


def _end(count: int, digest: str) -> bytes:
    attributes = {"specversion": "1.0", "id": digest, "source": SOURCE, "type": END, "time": now()}
    return to_json({**attributes, "data": {"events": count, "sha256": digest}}) + b"\n"


def _parsed(number: int, line: bytes) -> dict[str, Any]:
    try:
        found = from_json(line, allow_inf_nan=False)
    except ValueError:
        found = None
    if not isinstance(found, dict) or found.get("specversion") != "1.0" or not isinstance(found.get("type"), str):
        raise Damaged(f"line {number} is no CloudEvent 1.0")
    return found


def _event(number: int, found: dict[str, Any]) -> RecordedEvent:
    read = partial(_read, number, found)
    return RecordedEvent(
        position=read("id", _number),
        stream=read("subject", _stream),
        version=read("streamversion", lambda version: _number(str(version))),
        type=found["type"],
        data_json=read("data", _data),
        metadata_json=read("metadata", _metadata),
        recorded_at=read("time", _time),
        schema_version=read("dataschema", partial(_schema_version, found["type"])),
    )


def _read(number: int, found: dict[str, Any], name: str, read: Callable[[Any], T]) -> T:
    """An attribute of a line. Raises Damaged if it isn't right, which has the attribute's name and not its value."""
    try:
        return read(found.get(name))
    except (AttributeError, TypeError, ValueError):
        why = f"its {name} is not as a log has it" if name in found else f"it has no {name}"
        raise Damaged(f"line {number} is no event of a log: {why}") from None


def _number(digits: str) -> int:
    """A number in digits: written in one way, and not the last that JSON's readers can tell apart."""
    number = int(digits)
    if str(number) != digits or not 0 < number < 2**53:
        raise ValueError(digits)
    return number


def _stream(name: str) -> str:
    _number(name.rpartition("-")[2])
    return name


def _data(data: Any) -> str:
    """JSON, as it is stored. Raises ValueError for a number beyond the largest, which is an infinity by now."""
    if not isinstance(data, dict):
        raise TypeError(type(data))
    written = to_json(data)
    if b"Infinity" in written:
        from_json(written, allow_inf_nan=False)
    return written.decode()


def _metadata(metadata: str) -> str:
    if not isinstance(found := from_json(metadata, allow_inf_nan=False), dict):
        raise TypeError(metadata)
    _data(found)
    return metadata


def _time(time: str) -> str:
    """A time as it is stored: times are compared as text, so there is one way to write each."""
    if not time.endswith("Z") or written(datetime.fromisoformat(time)) != time:
        raise ValueError(time)
    return time


@cache
def _schema(type: str, version: object) -> str:
    return f"urn:cqrs:{quote(type)}:{version}"


def _schema_version(type: str, schema: str | None) -> int:
    """The schema version of an event: 1 for exports from before there were any."""
    name, _, version = (_schema(type, 1) if schema is None else schema).rpartition(":")
    if f"{name}:" != _schema(type, "") or not re.fullmatch("[1-9][0-9]{0,8}", version):
        raise ValueError(schema)
    return int(version)


def _check_end(end: dict[str, Any], count: int, digest: str) -> None:
    if end.get("data") != {"events": count, "sha256": digest}:
        raise Damaged(f"the {count} events aren't those that were exported: their checksum is another")
