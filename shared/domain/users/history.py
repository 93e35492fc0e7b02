"""The history of one user, made in memory from the stream by the same function as the read model."""

from collections.abc import Iterable
from typing import Any

from shared.domain.users.messages import UserEvent
from shared.domain.users.read_models.users import Marked, Moved, User, changes, users
from shared.messages import RecordedEvent


def fold(user: User | None, events: Iterable[RecordedEvent]) -> User | None:
    """The user after more events of the stream. `user` is the user before them, None before the first event."""
    created, moved, marked, erased = changes(map(_decoded, events), nulls=True)
    for each in created:
        user = each
    updates: list[Moved | Marked] = [*moved, *marked]
    for its in updates:
        user = user and user._replace(**its._asdict())
    return None if erased else user


def changed(event: RecordedEvent) -> dict[str, Any]:
    """The fields that an event set, with their values."""
    created, moved, marked, _ = changes([_decoded(event)], nulls=True)
    rows: list[User | Moved | Marked] = [*created, *moved, *marked]
    fields = {name: value for row in rows for name, value in row._asdict().items()}
    return {name: value for name, value in fields.items() if name not in {"user_id", "version"}}


def _decoded(event: RecordedEvent) -> tuple[RecordedEvent, UserEvent]:
    decoded: Any = event.model(users.events)
    return event, decoded
