"""The chain of hashes checked: the hash of each event in the log is made anew and held against the one it has."""

import struct
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from sqlalchemy import Connection

from shared import chain
from shared.schemas.folding import Wrong
from shared.stores import event_store

BEFORE_ALL = -(2**63)
"""Less than any position, also one that no log has."""


def checked(log: Connection, *, past: int = 0) -> Iterator[dict[int, bytes]]:
    """The hashes of all events by position, a page at a time. Raises Wrong at the first event that doesn't fit.

    `past`: a position whose hash is taken as it is; only those behind it are looked at.
    """
    after, position, last = BEFORE_ALL, 0, chain.START
    if past:
        after, position, last = past, past, _known(log, past)
    while rows := event_store.read_stored(log, after=after):
        page: dict[int, bytes] = {}
        for row in rows:
            if row[0] != position + 1:
                raise Wrong(f"the log: event {row[0]} follows {position}")
            position += 1
            page[position] = last = _checked(row, last)
        yield page
        after = position


def _known(log: Connection, position: int) -> bytes:
    hash = event_store.hashes(log, after=position - 1, upto=position).get(position)
    if hash is None:
        raise Wrong(f"event {position} has no hash")
    return hash


def _checked(row: Sequence[Any], previous: bytes) -> bytes:
    """The hash of an event, whose row has it as its last column. Raises Wrong if it should be another."""
    *columns, found = row
    if found is None:
        raise Wrong(f"event {row[0]} has no hash; what an older version appended gets its hashes by `cqrs init`")
    with suppress(struct.error, TypeError):  # a column isn't of its type, which SQLite allows
        if (made := chain.link(previous, *columns)) == found:
            return made
    raise Wrong(f"event {row[0]} isn't as it was recorded: its hash doesn't fit")
