"""The read model of daily numbers: users created, and changes to users."""

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from sqlalchemy import Column, Connection, String, Table, bindparam, select, update

from shared.database.statements import BigInt, execute_rows, fetch, insert_rows
from shared.domain.users.read_models.users import users
from shared.messages import Event, RecordedEvent
from shared.projection import Projection, metadata

table = Table(
    "daily",
    metadata,
    Column("day", String, primary_key=True),
    Column("users", BigInt, nullable=False),
    Column("changes", BigInt, nullable=False),
)


class Day(NamedTuple):
    """A day in UTC: the users created on it, and the changes to users."""

    day: str
    users: int
    changes: int


def project(connection: Connection, events: Iterable[tuple[RecordedEvent, Event]]) -> None:
    """Apply events to the table."""
    counts = Counter((event.recorded_at[:10], event.version == 1) for event, _ in events)
    new = {day: (counts[day, True], counts[day, False]) for day, _ in counts}
    known = {day for (day,) in fetch(connection, _days, first=min(new), last=max(new))}
    insert_rows(connection, table, [(day, *its) for day, its in new.items() if day not in known])
    execute_rows(connection, _add, [(*its, day) for day, its in new.items() if day in known])


def days_after(connection: Connection, day: str, *, limit: int) -> list[Day]:
    """The days after `day` on which anything happened, in order."""
    return [Day(*row) for row in fetch(connection, _days_after, after=day, limit=limit)]


_days = select(table.c.day).where(table.c.day.between(bindparam("first"), bindparam("last")))
_days_after = select(table).where(table.c.day > bindparam("after")).order_by(table.c.day).limit(bindparam("limit"))
_add = (
    update(table)
    .where(table.c.day == bindparam("its_day"))
    .values(users=table.c.users + bindparam("more_users"), changes=table.c.changes + bindparam("more_changes"))
)

stats = Projection(
    name="stats", tables=[table], events=dict.fromkeys(users.events, Event), project=project, gathers=0.05
)
