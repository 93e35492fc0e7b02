"""Sessions: people who signed in to the console with a key. They stand in the inbox, which the API may write."""

import hashlib
from typing import NamedTuple

from sqlalchemy import Column, Connection, String, Table, bindparam, delete, select

from shared.clock import now
from shared.database.statements import fetch, insert_rows
from shared.stores.inbox import metadata

table = Table(
    "sessions",
    metadata,
    Column("digest", String, primary_key=True),
    Column("principal", String, nullable=False),
    Column("credential", String, nullable=False),
    Column("began_at", String, nullable=False),
    Column("ends_at", String, nullable=False),
)


MOST = 100
"""Sessions of one principal: the next one ends the oldest."""


class Session(NamedTuple):
    """A session by the SHA-256 of its token, and the key that it began with: its principal's name and its digest."""

    digest: str
    principal: str
    credential: str
    began_at: str
    ends_at: str


def digest_of(token: str) -> str:
    """What is stored of a session's token: its SHA-256, in hex."""
    return hashlib.sha256(token.encode()).hexdigest()


def begin(connection: Connection, session: Session) -> None:
    """Add a session, and take those away that are over, or too many."""
    connection.execute(delete(table).where(table.c.ends_at <= now()))
    its = table.c.principal == session.principal
    latest = select(table.c.digest).where(its).order_by(table.c.began_at.desc()).limit(MOST - 1)
    connection.execute(delete(table).where(its, table.c.digest.not_in(latest)))
    insert_rows(connection, table, [session])


def find(connection: Connection, digest: str) -> Session | None:
    """The session, unless it is over."""
    return next((Session._make(row) for row in fetch(connection, _find, digest=digest, now=now())), None)


def of_principal(connection: Connection, principal: str) -> list[Session]:
    """The sessions of a principal that aren't over, the latest first."""
    return [Session._make(row) for row in fetch(connection, _of_principal, principal=principal, now=now())]


def end(connection: Connection, principal: str, digest: str | None = None) -> None:
    """End a principal's session, or all of them."""
    gone = delete(table).where(table.c.principal == principal)
    connection.execute(gone.where(table.c.digest == digest) if digest else gone)


def end_all(connection: Connection) -> None:
    """End everybody's sessions."""
    connection.execute(delete(table))


_find = select(table).where(table.c.digest == bindparam("digest"), table.c.ends_at > bindparam("now"))
_of_principal = (
    select(table)
    .where(table.c.principal == bindparam("principal"), table.c.ends_at > bindparam("now"))
    .order_by(table.c.began_at.desc())
)
