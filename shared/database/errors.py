"""Errors of the stores: a turn that is taken, and which of the drivers' errors are the store's own fault."""

import sys
from typing import TypeGuard

import pysqlite3.dbapi2 as sqlite3
from sqlalchemy.exc import DBAPIError

SQLITE_STORE_ERRORS = {sqlite3.OperationalError, sqlite3.InternalError, sqlite3.DatabaseError}
"""The driver's errors that are a store's fault, by exact type: subclasses and other types are the values' fault."""

STORE_SQLSTATES = {"08", "25", "40", "53", "55", "57", "58", "XX"}
"""Classes of SQLSTATE that are the store's fault: connection, state, deadlock, room, lock, operator, system, bug."""

FORBIDDEN_SQLSTATE = "42501"
"""The user lacks a right: the fault of whoever set up the store."""


class Taken(Exception):
    """Another writer has the store to itself, and this one doesn't wait for its turn."""


def is_trouble(error: BaseException) -> TypeGuard[DBAPIError]:
    """Whether an error is the store's fault (full, locked, read-only, corrupt, silent, gone) and not the values'."""
    cause = error.orig if isinstance(error, DBAPIError) else None
    if cause is None or isinstance(cause, TimeoutError):
        return cause is not None
    if type(cause) in SQLITE_STORE_ERRORS:
        return bool(code_of(cause) != sqlite3.SQLITE_ERROR)  # that one comes from the statement
    psycopg = sys.modules.get("psycopg")  # loaded with the first engine of PostgreSQL: it takes 10 MB
    if not psycopg or not isinstance(cause, psycopg.Error):
        return False
    if cause.sqlstate is None:  # the driver's own: the connection's end, or values that it can't send
        return isinstance(cause, psycopg.OperationalError | psycopg.InterfaceError)
    return cause.sqlstate[:2] in STORE_SQLSTATES or cause.sqlstate == FORBIDDEN_SQLSTATE


def is_full(error: DBAPIError) -> bool:
    """Whether the disk has no room for what was to be written."""
    return code_of(error.orig) in {sqlite3.SQLITE_FULL, "53100"}


def is_busy(error: DBAPIError) -> bool:
    """Whether another writer's lock was waited for in vain."""
    return code_of(error.orig) in {sqlite3.SQLITE_BUSY, "55P03"}


def is_forbidden(error: DBAPIError) -> bool:
    """Whether the user in PostgreSQL lacks a right."""
    return code_of(error.orig) == FORBIDDEN_SQLSTATE


def code_of(error: BaseException | None) -> int | str | None:
    """SQLite's primary result code, or PostgreSQL's SQLSTATE, of a driver's error."""
    if (code := getattr(error, "sqlite_errorcode", None)) is not None:
        return int(code) & 0xFF
    state: str | None = getattr(error, "sqlstate", None)
    return state
