"""Anchors: heads of the log that were kept elsewhere, and the check of the log against them."""

from collections.abc import Iterable, Sequence
from typing import Annotated, Any

from pydantic import BaseModel, Field

from cli.errors import Refused
from cli.output import progress
from shared.chain import START
from shared.database import engines
from shared.schemas import chain
from shared.schemas.folding import Wrong
from shared.settings import Settings
from shared.stores import event_store


class Anchor(BaseModel):
    """A position of the log, 0 before the first event, and the hash of the event there, in hexadecimal digits."""

    position: Annotated[int, Field(ge=0)]
    hash: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]

    def __str__(self) -> str:
        return f"{self.position} {self.hash}"


def head(settings: Settings) -> Anchor:
    """The head of the log as it is now. Raises Refused if a worker of an older version appended the last event."""
    with engines.reading(settings.event_store) as connection:
        position, hash = event_store.head(connection)
    if hash is None:
        raise Refused(f"event {position} has no hash: an older version appended it; `cqrs init` gives it one")
    return Anchor(position=position, hash=hash.hex())


def read(lines: Iterable[str]) -> list[Anchor]:
    """The anchors in a file, one a line as `cqrs events head` prints it, with or without --json. Raises Refused."""
    anchors = [_anchor(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if not anchors:
        raise Refused("the file has no head of a log: make one by `cqrs events head`")
    return anchors


def check(settings: Settings, kept: Sequence[Anchor]) -> Anchor:
    """Make all hashes of the log anew; returns its head. Raises Wrong if it isn't the log that had all these heads."""
    asked = {anchor.position for anchor in kept}
    hashes, last, hash = {0: START}, 0, START
    with engines.snapshot(settings.event_store) as log:
        for page in progress(chain.checked(log), "hashes"):
            hashes |= {position: page[position] for position in asked & page.keys()}
            last, hash = page.popitem()
    for anchor in sorted(kept, key=lambda each: each.position):
        if anchor.position > last:
            raise Wrong(f"the log ends at event {last}; it had event {anchor.position} when its head was kept")
        if hashes[anchor.position].hex() != anchor.hash:
            raise Wrong(f"event {anchor.position} has another hash than was kept: the log isn't the one that it was")
    return Anchor(position=last, hash=hash.hex())


def verdict(settings: Settings, kept: Sequence[Anchor]) -> dict[str, Any]:
    """Check the log against the anchors; returns the result as a program reads it."""
    try:
        return {"well": True, "wrong": None, **check(settings, kept).model_dump()}
    except Wrong as wrong:
        return {"well": False, "wrong": str(wrong), "position": None, "hash": None}


def _anchor(number: int, line: str) -> Anchor:
    try:
        if line.lstrip().startswith("{"):
            return Anchor.model_validate_json(line)
        position, hash = line.split()
        return Anchor(position=int(position), hash=hash)
    except ValueError:
        raise Refused(f"line {number} is no head of a log") from None
