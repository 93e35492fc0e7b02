"""Backups: when the last one was taken here, in a file beside the stores. The log says what was restored."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from pydantic_core import from_json, to_json

from shared.settings import Settings

NOTE = "last-backup.json"


class Taken(NamedTuple):
    """A backup: when it was taken, and the last event in it."""

    taken_at: str
    last_event: int


def note(settings: Settings, taken: Taken) -> None:
    """Keep in mind that a backup was taken. One that can't be noted is a backup all the same."""
    path = _path(settings)
    new = path.with_suffix(".new")
    with suppress(OSError), os.fdopen(os.open(new, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "wb") as file:
        file.write(to_json(taken._asdict()))
        new.rename(path)


def last(settings: Settings) -> Taken | None:
    """The last backup that `cqrs backup` took of stores in this data dir; None if none is known."""
    try:
        found: dict[str, Any] = from_json(_path(settings).read_bytes())
        return Taken(str(found["taken_at"]), int(found["last_event"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _path(settings: Settings) -> Path:
    return settings.data_dir / NOTE
