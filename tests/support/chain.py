"""The hash of an event, made as docs/operations/tamper-evidence.md says, and not by the project's own code."""

import hashlib
from typing import Any

COLUMNS = ("position", "stream", "version", "type", "data", "metadata", "recorded_at", "schema_version")


def hash_of(before: bytes, event: Any) -> bytes:
    values = [getattr(event, name) for name in COLUMNS]
    parts = [value if isinstance(value, int) else value.encode() for value in values]
    numbers = [part if isinstance(part, int) else len(part) for part in parts]
    texts = [part for part in parts if isinstance(part, bytes)]
    return hashlib.sha256(b"".join([before, *(each.to_bytes(8, "big") for each in numbers), *texts])).digest()
