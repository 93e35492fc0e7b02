"""Keys for the tests: made, revoked and rotated in a store, as `cqrs keys` does."""

from datetime import UTC, datetime, timedelta

from shared.access import key_table
from shared.access.keys import Key, new_key
from shared.database import engines
from shared.roles import Role
from shared.settings import Settings
from shared.stores import event_store

BY = "cli:test@here"


def add(settings: Settings, *roles: Role, name: str = "test", seconds: float | None = None) -> Key:
    """A new key; `seconds`: how long it counts."""
    key = new_key()
    expires_at = None if seconds is None else _in(seconds)
    with engines.writing(settings.event_store, lock=event_store.LOCK) as connection:
        key_table.add(connection, key, name, roles, expires_at=expires_at, by=BY)
    return key


def revoke(settings: Settings, key: Key) -> None:
    with engines.writing(settings.event_store, lock=event_store.LOCK) as connection:
        key_table.revoke(connection, key_table.find(connection, key.id), by=BY)


def rotate(settings: Settings, key: Key, *, grace: float = 0) -> Key:
    """The key's new text; the one before counts for so many seconds."""
    new = new_key(key.id)
    with engines.writing(settings.event_store, lock=event_store.LOCK) as connection:
        key_table.rotate(connection, key_table.find(connection, key.id), new, old_until=_in(grace), by=BY)
    return new


def bearer(key: Key | str) -> dict[str, str]:
    """The header with which a request has the key."""
    return {"Authorization": f"Bearer {key if isinstance(key, str) else key.text}"}


def principal(key: Key) -> str:
    return f"key:{key.id}"


def _in(seconds: float) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)
