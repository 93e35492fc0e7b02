"""Backups: which were taken here lately, in a file beside the stores. The log says what was restored."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from pydantic_core import from_json, to_json

from shared.settings import Settings

NOTE = "backups.json"

KEPT = 20
"""The last backups that are kept in mind."""


class Taken(NamedTuple):
    """A backup: when it was taken, the last event in it, and the folder that it was written to."""

    taken_at: str
    last_event: int
    folder: str


def note(settings: Settings, taken: Taken) -> None:
    """Keep in mind that a backup was taken. One that can't be noted is a backup all the same."""
    path = _path(settings)
    new = path.with_suffix(".new")
    latest = [each._asdict() for each in [taken, *noted(settings)][:KEPT]]
    with suppress(OSError), os.fdopen(os.open(new, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "wb") as file:
        file.write(to_json(latest))
        new.rename(path)


def noted(settings: Settings) -> list[Taken]:
    """The backups that `cqrs backup` took of stores in this data dir, the latest first, as far as is known."""
    try:
        found: list[dict[str, Any]] = from_json(_path(settings).read_bytes())
        return [Taken(str(each["taken_at"]), int(each["last_event"]), str(each["folder"])) for each in found]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _path(settings: Settings) -> Path:
    return settings.data_dir / NOTE
