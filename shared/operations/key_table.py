"""The table of keys, in the database of the event store. Deeds change it, together with the event that records each.

Changes are numbered: whoever keeps the keys in memory reads them again when the highest number has grown.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import Column, Connection, Index, String, Table, Text, bindparam, func, insert, select, update

from shared.access.keys import Key, digest_of
from shared.access.roles import Role, roles_of
from shared.clock import now
from shared.database.statements import BigInt, fetch
from shared.decider import Rejected
from shared.operations.commands import AddKey, RevokeKey, RotateKey
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

    def shown(self) -> dict[str, Any]:
        """The key without its digests."""
        shown = self._asdict() | {"roles": sorted(self.roles), "state": self.state}
        return {name: value for name, value in shown.items() if "digest" not in name}


def changes(connection: Connection) -> int:
    """The number of the last change, 0 if there was none."""
    return int(fetch(connection, _changes)[0][0] or 0)


def all_keys(connection: Connection) -> list[KnownKey]:
    """All keys ever made, in the order in which they were made."""
    return [_known(row) for row in fetch(connection, _all)]


def find(connection: Connection, id: str) -> KnownKey:
    """The key with this id, be it revoked or not. Raises Rejected if there is none."""
    for each in all_keys(connection):
        if each.id == id:
            return each
    raise Rejected("key-not-found", f"There is no key {id}.", status=404)


def add(connection: Connection, command: AddKey, *, by: str) -> None:
    """Add a key. Raises IntegrityError if the id is taken."""
    _insert(connection, command.key_id, command.name, command.roles, command.digest, command.expires_at, by)


def add_first(connection: Connection, key: Key, name: str, roles: Sequence[Role], *, by: str) -> None:
    """Store a key that the installation was given in its settings, unless its id is known already.

    It leaves no event: the log of a new installation stays empty, so that another log can be imported into it.
    """
    if not any(each.id == key.id for each in all_keys(connection)):
        _insert(connection, key.id, name, roles, digest_of(key.text), None, by)


def revoke(connection: Connection, command: RevokeKey) -> None:
    """Revoke a key. Each process refuses it from its next look at the table on. Raises Rejected."""
    _change(connection, _not_revoked(connection, command.key_id), revoked_at=now())


def rotate(connection: Connection, command: RotateKey) -> None:
    """Replace a key's text. Raises Rejected.

    Its id stays, so its holder keeps the same principal, commands and idempotency keys.
    """
    key = _not_revoked(connection, command.key_id)
    if key.state == "expired":
        raise Rejected("key-expired", f"The key {key.name} ({key.id}) has expired and can't be rotated: make another.")
    _change(connection, key, digest=command.digest, old_digest=key.digest, old_until=command.old_until)


def _not_revoked(connection: Connection, id: str) -> KnownKey:
    key = find(connection, id)
    if key.revoked_at:
        raise Rejected("key-revoked", f"The key {key.name} ({key.id}) is revoked.")
    return key


def _insert(
    connection: Connection, id: str, name: str, roles: Sequence[Role], digest: str, expires_at: str | None, by: str
) -> None:
    new = KnownKey(id, name, frozenset(roles), digest, now(), by, expires_at, None, None, None)
    row = new._asdict() | {"roles": " ".join(sorted(roles)), "change": changes(connection) + 1}
    connection.execute(insert(table).values(row))


def _change(connection: Connection, key: KnownKey, **values: Any) -> None:
    changed = {**values, "change": changes(connection) + 1}
    connection.execute(update(table).where(table.c.id == bindparam("key")).values(changed), {"key": key.id})


def _known(row: Sequence[str | None]) -> KnownKey:
    id, name, roles, *more = row
    return KnownKey(id, name, roles_of((roles or "").split()), *more)  # type: ignore[arg-type]


_changes = select(func.max(table.c.change))
_all = select(*(table.c[name] for name in KnownKey._fields)).order_by(table.c.created_at, table.c.id)
