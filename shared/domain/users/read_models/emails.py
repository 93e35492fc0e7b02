"""The read model of users by e-mail address: a projection independent of that of users by number (users.py)."""

from collections.abc import Iterable

from sqlalchemy import Boolean, Column, Connection, Index, String, Table, bindparam, delete, func, select, true, update

from shared.database.statements import BigInt, execute_rows, fetch, insert_rows
from shared.domain.users.addresses import key
from shared.domain.users.messages import UserEvent
from shared.domain.users.read_models.users import User, changes, users
from shared.messages import RecordedEvent
from shared.projection import Bar, Projection, metadata

PAGE_SIZE = 2000
"""Rows that `rekey` reads and changes at a time."""

table = Table(
    "emails",
    metadata,
    Column("user_id", BigInt, primary_key=True, autoincrement=False),
    Column("first_name", String, nullable=False),
    Column("last_name", String, nullable=False),
    Column("email", String, nullable=False),
    Column("version", BigInt, nullable=False),
    Column("key", String, nullable=False),
    Column("active", Boolean, nullable=False, server_default=true()),
    # Not unique: within a chunk, the new holder of an address may be written before the old one gives it up.
    Index("emails_by_key", "key"),
)


def project(connection: Connection, events: Iterable[tuple[RecordedEvent, UserEvent]]) -> None:
    """Apply events to the table."""
    created, moved, marked, erased = changes(events)
    insert_rows(connection, table, [(*user[:-1], key(user.email or ""), user.active) for user in created])
    execute_rows(connection, _move, [(each.email, each.version, key(each.email or ""), each.user_id) for each in moved])
    execute_rows(connection, _mark, marked)
    execute_rows(connection, _erase, erased)


def users_with(connection: Connection, email: str, *, after: int, active: bool | None = None, limit: int) -> list[User]:
    """The users that hold the address, in any spelling, and have a number higher than `after`.

    Only those that are active or only the others, if asked.
    """
    return [User(*row) for row in fetch(connection, _users_with[active], key=key(email), after=after, limit=limit)]


def rekey(connection: Connection, bar: Bar) -> None:
    """Make the keys of all addresses anew. Run by an upgrade past a version with another rule for keys."""
    last = connection.scalar(select(func.max(table.c.user_id))) or 0
    after = 0
    with bar("keys of addresses made anew") as show:
        while page := fetch(connection, _page, after=after, limit=PAGE_SIZE):
            anew = [(key(email), user_id) for user_id, email, old in page if key(email) != old]
            execute_rows(connection, _rekey, anew)
            after = page[-1][0]
            show(after, last)


_all = (
    select(*(table.c[name] for name in User._fields))
    .where(table.c.key == bindparam("key"), table.c.user_id > bindparam("after"))
    .order_by(table.c.user_id)
    .limit(bindparam("limit"))
)
_users_with = {None: _all, True: _all.where(table.c.active), False: _all.where(~table.c.active)}
_its = update(table).where(table.c.user_id == bindparam("id"))
_move = _its.values(email=bindparam("email"), version=bindparam("version"), key=bindparam("its_key"))
_erase = delete(table).where(table.c.user_id == bindparam("id"))
_mark = _its.values(version=bindparam("version"), active=bindparam("active"))
_page = (
    select(table.c.user_id, table.c.email, table.c.key)
    .where(table.c.user_id > bindparam("after"))
    .order_by(table.c.user_id)
    .limit(bindparam("limit"))
)
_rekey = _its.values(key=bindparam("its_key"))

emails = Projection(
    name="emails", tables=[table], events=users.events, project=project, gathers=0.05, amend={"0003": rekey}
)
