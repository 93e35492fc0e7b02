"""The users that queries see: the table, how an event changes it, and the queries."""

from collections.abc import Sequence
from typing import NamedTuple, get_args

from sqlalchemy import Column, Connection, Integer, String, Table, bindparam, insert, select, update

from shared.event_store import RecordedEvent
from shared.projection import Projection, metadata
from shared.users.messages import UserCreated, UserEmailUpdated, UserEvent

table = Table(
    "users",
    metadata,
    Column("user_id", Integer, primary_key=True, autoincrement=False),
    Column("first_name", String, nullable=False),
    Column("last_name", String, nullable=False),
    Column("email", String, nullable=False),
    Column("version", Integer, nullable=False),
)


class User(NamedTuple):
    user_id: int
    first_name: str
    last_name: str
    email: str
    version: int


def project(connection: Connection, events: Sequence[tuple[RecordedEvent, UserEvent]]) -> None:
    created: list[dict[str, object]] = []
    updated: list[dict[str, object]] = []
    for recorded, event in events:
        match event:
            case UserCreated():
                created.append({**event.model_dump(), "version": recorded.version})
            case UserEmailUpdated():
                updated.append({"id": event.user_id, "email": event.new_email, "version": recorded.version})
    if created:
        connection.execute(insert(table), created)
    if updated:
        connection.execute(_update, updated)


def user(connection: Connection, user_id: int) -> User | None:
    row = connection.execute(_user, {"id": user_id}).one_or_none()
    return User(*row) if row else None


def users_after(connection: Connection, user_id: int, *, limit: int) -> list[User]:
    """Users with a higher number, in order of number."""
    query = select(table).where(table.c.user_id > user_id).order_by(table.c.user_id).limit(limit)
    return [User(*row) for row in connection.execute(query)]


_user = select(table).where(table.c.user_id == bindparam("id"))
_update = (
    update(table)
    .where(table.c.user_id == bindparam("id"))
    .values(email=bindparam("email"), version=bindparam("version"))
)

users = Projection(name="users", events={event.__name__: event for event in get_args(UserEvent)}, project=project)
