"""The chain of hashes through the log: the hash of an event is made of the one before it and of the event's own row."""

import hashlib
from struct import Struct

START = bytes(32)
"""Stands for the hash before the first event's."""

_pack = Struct(">8Q").pack
_new = hashlib.sha256().copy  # half the time of a new one, whose algorithm OpenSSL looks up


def link(
    previous: bytes,
    position: int,
    stream: bytes,
    version: int,
    type: bytes,
    data: bytes,
    metadata: bytes,
    recorded_at: bytes,
    schema_version: int,
) -> bytes:
    """The hash of an event, 32 bytes, given the hash before it and its columns as they are stored, texts in UTF-8.

    It is the SHA-256 of the previous hash, then one number for each column, in order, of 8 bytes with the highest
    first: the number itself or, for a text, its length in bytes; then the texts, in order.
    Raises struct.error for a number that is none, or below 0.
    """
    numbers = _pack(
        position, len(stream), version, len(type), len(data), len(metadata), len(recorded_at), schema_version
    )
    hash = _new()
    hash.update(b"".join((previous, numbers, stream, type, data, metadata, recorded_at)))
    return hash.digest()
