"""`cqrs audit`: the operations in the log of this machine, or those that an API elsewhere shows."""

import re
from collections import deque
from typing import Any

from rich.table import Table

from cli.access.remote import Api
from cli.output import table
from shared.access import operations
from shared.database import engines
from shared.settings import Settings
from shared.stores import event_store

PAGE = 1000
"""Operations that an API is asked for at once."""


def latest(settings: Settings, limit: int) -> list[dict[str, Any]]:
    """The last operations, as `operations.shown` shows them, the last one last. Raises Refused."""
    if settings.api_url:
        return _elsewhere(Api(settings.api_url, settings.api_key), limit)
    with engines.reading(settings.event_store) as connection:
        return list(map(operations.shown, event_store.read_latest(connection, stream=operations.STREAM, limit=limit)))


def shown(found: list[dict[str, Any]]) -> Table:
    """The operations as people read them."""
    rows = [(f"{each['at'][:19]}Z", str(each["by"]), _in_words(each["type"]), _about(each["data"])) for each in found]
    return table("at", "by", "what", "about", rows=rows)


def _elsewhere(api: Api, limit: int) -> list[dict[str, Any]]:
    """The last of all pages: an API shows the first one first."""
    last: deque[dict[str, Any]] = deque(maxlen=limit)
    after = 0
    while page := api.get(f"/audit?after={after}&limit={PAGE}", kind=list):
        last += page
        after = page[-1]["id"]
    return list(last)


def _in_words(type_: str) -> str:
    """`key added` for `KeyAdded`."""
    return re.sub("(?<=[a-z])(?=[A-Z])", " ", type_).lower()


def _about(data: dict[str, Any]) -> str:
    told = {name: ",".join(value) if isinstance(value, list) else value for name, value in data.items()}
    return " ".join(f"{name}={value}" for name, value in told.items() if value is not None)
