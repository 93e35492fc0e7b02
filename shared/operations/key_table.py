"""The table of keys, in the database of the event store. A change and the event that records it are committed together.

Changes are numbered: whoever keeps the keys in memory reads them again when the highest number has grown.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Column, Connection, Index, String, Table, Text, bindparam, func, insert, select, update

from shared.access.keys import Key, digest_of
from shared.access.roles import Role, roles_of
from shared.clock import now, written
from shared.database.statements import BigInt, fetch
from shared.operations.record import KeyAdded, KeyRevoked, KeyRotated, record
from shared.plain import Plain
from shared.stores.event_store import metadata

table = Table(
    "access_keys",
    metadata,
    Column("id", String, primary_key=True),
    Column("name", String, nullable=False),
    Column("roles", String, nullable=False),
    Column("digest", String, nullable=False),
    Column("created_at", String, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("expires_at", String),
    Column("revoked_at", String),
    Column("old_digest", String),
    Column("old_until", String),
    Column("change", BigInt, nullable=False),
    Index("access_keys_by_change", "change"),
)


NOBODY_COMES_IN = (
    "requests need a key, and there is none: make one by `cqrs keys add NAME --role reader --role writer`, "
    "name an identity provider in CQRS_OIDC_ISSUER, or let anybody do anything by CQRS_AUTH=off"
)
"""What a closed API says when it refuses to start, since no request could have a key or token."""


class NoSuchKey(Plain):
    """An id or name that stands for no key that isn't revoked, or for several. The message says which."""


class KnownKey(NamedTuple):
    """A key as it is stored. Times are RFC 3339 in UTC; None is never, or not yet.

    `digest` is the SHA-256 of the key's text. After a rotation `old_digest` is that of the text before, which is taken
    until `old_until`.
    """

    id: str
    name: str
    roles: frozenset[Role]
    digest: str
    created_at: str
    created_by: str
    expires_at: str | None
    revoked_at: str | None
    old_digest: str | None
    old_until: str | None

    @property
    def state(self) -> str:
        """`active`, `expired` or `revoked`."""
        if self.revoked_at:
            return "revoked"
        return "expired" if self.expires_at and self.expires_at <= now() else "active"


def changes(connection: Connection) -> int:
    """The number of the last change, 0 if there was none."""
    return int(fetch(connection, _changes)[0][0] or 0)


def all_keys(connection: Connection) -> list[KnownKey]:
    """All keys ever made, in the order in which they were made."""
    return [_known(row) for row in fetch(connection, _all)]


def find(connection: Connection, name: str) -> KnownKey:
    """The key with this id, or the only one of this name that is not revoked. Raises NoSuchKey."""
    known = [each for each in all_keys(connection) if not each.revoked_at]
    found = [each for each in known if each.id == name] or [each for each in known if each.name == name]
    if len(found) > 1:
        raise NoSuchKey(f"{len(found)} keys are called {name}: use the id, one of {', '.join(k.id for k in found)}")
    if not found:
        raise NoSuchKey(f"there is no key with the id or name {name}, or it is revoked")
    return found[0]


def add(
    connection: Connection, key: Key, name: str, roles: Sequence[Role], *, expires_at: datetime | None = None, by: str
) -> KnownKey:
    """Store a new key's id and digest, never its text. Raises IntegrityError if the id is taken."""
    expires = written(expires_at) if expires_at else None
    record(connection, KeyAdded(key_id=key.id, name=name, roles=list(roles), expires_at=expires), by=by)
    return _insert(connection, key, name, roles, expires, by)


def add_first(connection: Connection, key: Key, name: str, roles: Sequence[Role], *, by: str) -> None:
    """Store a key that the installation was given in its settings, unless its id is known already.

    It leaves no event: the log of a new installation stays empty, so that another log can be imported into it.
    """
    if not any(each.id == key.id for each in all_keys(connection)):
        _insert(connection, key, name, roles, None, by)


def revoke(connection: Connection, key: KnownKey, *, by: str) -> KnownKey:
    """Revoke a key; returns it as it is now. Each process refuses it from its next look at the table on."""
    record(connection, KeyRevoked(key_id=key.id, name=key.name), by=by)
    return _change(connection, key, revoked_at=now())


def rotate(connection: Connection, key: KnownKey, new: Key, *, old_until: datetime, by: str) -> KnownKey:
    """Replace a key's text; returns the key as it is now.

    Its id stays, so its holder keeps the same principal, commands and idempotency keys.
    """
    until = written(old_until)
    record(connection, KeyRotated(key_id=key.id, name=key.name, old_until=until), by=by)
    return _change(connection, key, digest=digest_of(new.text), old_digest=key.digest, old_until=until)


def _insert(
    connection: Connection, key: Key, name: str, roles: Sequence[Role], expires_at: str | None, by: str
) -> KnownKey:
    new = KnownKey(key.id, name, frozenset(roles), digest_of(key.text), now(), by, expires_at, None, None, None)
    row = new._asdict() | {"roles": " ".join(sorted(roles)), "change": changes(connection) + 1}
    connection.execute(insert(table).values(row))
    return new


def _change(connection: Connection, key: KnownKey, **values: Any) -> KnownKey:
    changed = {**values, "change": changes(connection) + 1}
    connection.execute(update(table).where(table.c.id == bindparam("key")).values(changed), {"key": key.id})
    return key._replace(**values)


def _known(row: Sequence[str | None]) -> KnownKey:
    id, name, roles, *more = row
    return KnownKey(id, name, roles_of((roles or "").split()), *more)  # type: ignore[arg-type]


_changes = select(func.max(table.c.change))
_all = select(*(table.c[name] for name in KnownKey._fields)).order_by(table.c.created_at, table.c.id)
