"""The read model of users by number: the table, what events change in it, and the queries."""

from collections.abc import Collection, Iterable
from typing import NamedTuple, get_args

from sqlalchemy import Column, Connection, String, Table, bindparam, select, update

from shared.database.statements import BigInt, execute_rows, fetch, insert_rows
from shared.domain.users.messages import UserCreated, UserEmailUpdated, UserEvent
from shared.messages import RecordedEvent
from shared.projection import Projection, metadata

table = Table(
    "users",
    metadata,
    Column("user_id", BigInt, primary_key=True, autoincrement=False),
    Column("first_name", String, nullable=False),
    Column("last_name", String, nullable=False),
    Column("email", String, nullable=False),
    Column("version", BigInt, nullable=False),
)


class User(NamedTuple):
    """A user as queries see it."""

    user_id: int
    first_name: str
    last_name: str
    email: str
    version: int


class Moved(NamedTuple):
    """A user's new e-mail address, and the version of the user that it came with."""

    email: str
    version: int
    user_id: int


def project(connection: Connection, events: Iterable[tuple[RecordedEvent, UserEvent]]) -> None:
    """Apply events to the table."""
    created, moved = changes(events)
    insert_rows(connection, table, created)
    execute_rows(connection, _update, moved)


def changes(events: Iterable[tuple[RecordedEvent, UserEvent]]) -> tuple[list[User], Collection[Moved]]:
    """What events change: the users to insert, and then the last new address of each user who got one."""
    created: list[User] = []
    moved: dict[int, Moved] = {}
    for recorded, event in events:
        match event:
            case UserCreated():
                its = event.user_id, event.first_name, event.last_name, event.email, recorded.version
                created.append(User._make(its))
            case UserEmailUpdated():
                moved[event.user_id] = Moved._make((event.new_email, recorded.version, event.user_id))
    return created, moved.values()


def user(connection: Connection, user_id: int) -> User | None:
    """The user with this number, None if there is none."""
    return next((User(*row) for row in fetch(connection, _user, id=user_id)), None)


def users_after(connection: Connection, user_id: int, *, limit: int) -> list[User]:
    """The users with a higher number, in order of number."""
    return [User(*row) for row in fetch(connection, _users_after, after=user_id, limit=limit)]


_user = select(table).where(table.c.user_id == bindparam("id"))
_users_after = (
    select(table).where(table.c.user_id > bindparam("after")).order_by(table.c.user_id).limit(bindparam("limit"))
)
_update = (
    update(table)
    .where(table.c.user_id == bindparam("id"))
    .values(email=bindparam("email"), version=bindparam("version"))
)

users = Projection(
    name="users", tables=[table], events={event.__name__: event for event in get_args(UserEvent)}, project=project
)
