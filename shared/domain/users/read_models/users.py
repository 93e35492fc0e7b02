"""The read model of users by number: the table, what events change in it, and the queries."""

from collections.abc import Iterable
from functools import cache
from typing import Any, NamedTuple, get_args

from sqlalchemy import (
    Boolean,
    Column,
    Connection,
    Index,
    Select,
    String,
    Table,
    bindparam,
    delete,
    or_,
    select,
    true,
    update,
)

from shared.database.statements import BigInt, execute_rows, fetch, insert_rows
from shared.domain.users.messages import (
    UserCreated,
    UserDeactivated,
    UserEmailUpdated,
    UserErased,
    UserEvent,
    UserReactivated,
)
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
    Column("active", Boolean, nullable=False, server_default=true()),
)

INACTIVE = ~table.c.active

PIECE = 5000
"""Users that a look for a name goes through at once."""

Index("users_inactive", table.c.active, table.c.user_id, sqlite_where=INACTIVE, postgresql_where=INACTIVE)


class _Row(NamedTuple):
    user_id: int
    first_name: str | None
    last_name: str | None
    email: str | None
    version: int
    active: bool = True


class User(_Row):
    """A user as queries see it."""

    __slots__ = ()

    def _asdict(self) -> dict[str, Any]:
        """As it is shown: `active` is there only if it is false."""
        shown = super()._asdict()
        if shown.pop("active"):
            return shown
        return {**shown, "active": False}


class Moved(NamedTuple):
    """A user's new e-mail address, and the user's version."""

    email: str | None
    version: int
    user_id: int


class Marked(NamedTuple):
    """Whether a user is active from now on, and the user's version."""

    version: int
    active: bool
    user_id: int


class Changes(NamedTuple):
    """What events change: users to insert, then rows to update, at most one of a kind for each user, then to delete."""

    created: list[User]
    moved: list[Moved]
    marked: list[Marked]
    erased: list[tuple[int]]


def project(connection: Connection, events: Iterable[tuple[RecordedEvent, UserEvent]]) -> None:
    """Apply events to the table."""
    created, moved, marked, erased = changes(events)
    insert_rows(connection, table, created)
    execute_rows(connection, _move, moved)
    execute_rows(connection, _mark, marked)
    execute_rows(connection, _erase, erased)


def changes(events: Iterable[tuple[RecordedEvent, UserEvent]], *, nulls: bool = False) -> Changes:
    """What events change. Updates have the version after all the events, so their order doesn't matter.

    An event without its values is of a user who is erased, by an event still to come: it is left out, unless `nulls`.
    """
    created: list[User] = []
    erased: list[tuple[int]] = []
    emails: dict[int, str | None] = {}
    active: dict[int, bool] = {}
    versions: dict[int, int] = {}
    for recorded, event in events:
        match event:
            case UserCreated(email=None) | UserEmailUpdated(new_email=None) if not nulls:
                continue
            case UserCreated():
                # 1, not True: for that the driver of SQLite looks for an adapter, which costs a rebuild 5 %.
                its = event.user_id, event.first_name, event.last_name, event.email, recorded.version, 1
                created.append(User._make(its))
                continue
            case UserEmailUpdated():
                emails[event.user_id] = event.new_email
            case UserDeactivated() | UserReactivated():
                active[event.user_id] = isinstance(event, UserReactivated)
            case UserErased():
                erased.append((event.user_id,))
                continue
        versions[event.user_id] = recorded.version
    return Changes(
        created,
        [Moved._make((email, versions[number], number)) for number, email in emails.items()],
        [Marked._make((versions[number], mark, number)) for number, mark in active.items()],
        erased,
    )


def user(connection: Connection, user_id: int) -> User | None:
    """The user with this number, None if there is none."""
    return next((User(*row) for row in fetch(connection, _user, id=user_id)), None)


def users_after(connection: Connection, user_id: int, *, active: bool | None = None, limit: int) -> list[User]:
    """The users with a higher number, in order of number; only those that are active or only the others, if asked."""
    return [User(*row) for row in fetch(connection, _after[active], after=user_id, limit=limit)]


def users_before(connection: Connection, user_id: int, *, active: bool | None = None, limit: int) -> list[User]:
    """The users with a lower number, the highest first; only those that are active or only the others, if asked."""
    return [User(*row) for row in fetch(connection, _before[active], before=user_id, limit=limit)]


def users_named(
    connection: Connection, beginning: str, *, before: int, active: bool | None = None, limit: int
) -> tuple[list[User], int]:
    """Of the next PIECE users with a number below `before` those whose name begins so, the highest number first.

    A name is the first one and the last one, or the other way round, in capitals or not. Returns the lowest number that
    was looked at, too; 0 if there are no more users. There is no index: it would cost the projection 9 to 17 %.
    """
    last = fetch(connection, _end_of_piece, before=before)
    down_to = last[0][0] if last else 0
    spelled = {each.translate(_ESCAPED) + "%": None for each in _spellings(beginning)}
    query = _named(len(spelled), active)
    values = {f"spelled_{number}": each for number, each in enumerate(spelled)}
    found = fetch(connection, query, before=before, down_to=down_to, limit=limit, **values)
    return [User(*row) for row in found], down_to


def _spellings(text: str) -> list[str]:
    """A text in capitals or not. SQLite itself compares only ASCII so."""
    return [text] if text.isascii() else [text, text.lower(), text.upper(), text.title()]


@cache
def _named(spellings: int, active: bool | None) -> Select[Any]:
    names = table.c.first_name + " " + table.c.last_name, table.c.last_name + " " + table.c.first_name
    begins = [each.ilike(bindparam(f"spelled_{n}"), escape="\\") for each in names for n in range(spellings)]
    return _before[active].where(table.c.user_id >= bindparam("down_to"), or_(*begins))


_user = select(table).where(table.c.user_id == bindparam("id"))
_all = select(table).where(table.c.user_id > bindparam("after")).order_by(table.c.user_id).limit(bindparam("limit"))
_after = {None: _all, True: _all.where(table.c.active), False: _all.where(INACTIVE)}
_down = select(table).where(table.c.user_id < bindparam("before")).order_by(table.c.user_id.desc())
_below = _down.limit(bindparam("limit"))
_before = {None: _below, True: _below.where(table.c.active), False: _below.where(INACTIVE)}
_end_of_piece = _down.with_only_columns(table.c.user_id).limit(1).offset(PIECE - 1)
_ESCAPED = str.maketrans({each: f"\\{each}" for each in "\\%_"})
_its = update(table).where(table.c.user_id == bindparam("id"))
_move = _its.values(email=bindparam("email"), version=bindparam("version"))
_erase = delete(table).where(table.c.user_id == bindparam("id"))
_mark = _its.values(version=bindparam("version"), active=bindparam("active"))

users = Projection(
    name="users", tables=[table], events={event.__name__: event for event in get_args(UserEvent)}, project=project
)
