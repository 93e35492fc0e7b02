"""`cqrs audit`: what operators did and who was erased, from this machine's log or from an API on another machine."""

import re
from collections import deque
from typing import Any

from cli.access.remote import Api
from shared.database import engines
from shared.operations import record
from shared.settings import Settings
from shared.stores import event_store

PAGE = 1000
"""Operations that an API is asked for at once."""


def latest(settings: Settings, limit: int) -> list[dict[str, Any]]:
    """The last operations, as `record.shown` shows them, the newest last. Raises Refused."""
    if settings.api_url:
        return _elsewhere(Api(settings.api_url, settings.api_key), limit)
    with engines.reading(settings.event_store) as connection:
        return list(map(record.shown, event_store.read_latest(connection, types=record.AUDITED, limit=limit)))


def in_words(done: dict[str, Any]) -> str:
    """An operation in one line: when it was, who did it, what it was, and about what."""
    what = re.sub("(?<=[a-z])(?=[A-Z])", " ", done["type"]).lower()  # `key added` for KeyAdded
    data = {name: ",".join(value) if isinstance(value, list) else value for name, value in done["data"].items()}
    about = " ".join(f"{name}={value}" for name, value in data.items() if value is not None)
    return f"{done['at'][:19]}Z  {done['by']}  {what}  {about}"


def _elsewhere(api: Api, limit: int) -> list[dict[str, Any]]:
    """The newest operations that an API has. It shows the oldest first, so all pages are read."""
    last: deque[dict[str, Any]] = deque(maxlen=limit)
    after = 0
    while page := api.get(f"/audit?after={after}&limit={PAGE}", kind=list):
        last += page
        after = page[-1]["id"]
    return list(last)
