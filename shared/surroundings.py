"""What is wrong with a store, a broker or the system, in our own words: drivers' texts hold hosts, users and values."""

import os
import re
from socket import gaierror
from typing import Any

SQLITE = {
    3: "access permission denied",
    4: "query aborted",
    5: "database is locked",
    6: "database table is locked",
    7: "out of memory",
    8: "attempt to write a readonly database",
    9: "interrupted",
    10: "disk I/O error",
    11: "database disk image is malformed",
    13: "database or disk is full",
    14: "unable to open database file",
    15: "locking protocol",
    17: "database schema has changed",
    18: "string or blob too big",
    19: "constraint failed",
    20: "datatype mismatch",
    23: "authorization denied",
    26: "file is not a database",
}
"""By primary result code: https://sqlite.org/rescode.html, in SQLite's words."""

NAMED = re.compile(r"no such [a-z]+: [\w.]+|[A-Z ]+ constraint failed(: [\w., ]+)?", re.ASCII)
"""What SQLite says of names in a statement, which are the code's."""

POSTGRESQL = {
    "Connection refused": "connection refused",
    "(timeout|timed out)": "no answer in time",
    "password": "the password or the user is refused",
    "role .* does not exist": "the user is refused",
    "database .* does not exist": "the database does not exist",
    "pg_hba": "the server lets this user or host in nowhere",
    "(starting up|shutting down|recovery)": "the server is starting or stopping",
    "(too many|connection slots)": "the server takes no more connections",
    "(closed|terminat|reset)": "the connection was closed",
    "(resolve|translate|name or service|nodename)": "the host's name can't be found",
    "(unreachable|no route)": "the host can't be reached",
    "(SSL|certificate)": "no agreement on TLS",
    "No such file": "nothing listens there",
}
"""Of errors without a SQLSTATE, the connection's: a word of the driver's text, and ours. The first one counts."""

REDIS = {
    "OOM": "out of memory",
    "OutOfMemory": "out of memory",
    "READONLY": "read-only",
    "ReadOnly": "read-only",
    "MISCONF": "it can't write to its disk",
    "WRONGTYPE": "a key is of another type",
    "LOADING": "it is still loading",
    "BusyLoading": "it is still loading",
    "NOAUTH": "it asks for a password",
    "WRONGPASS": "the password or the user is refused",
    "Authentication": "the password or the user is refused",
    "NOPERM": "this user may not do it",
    "NoPermission": "this user may not do it",
    "MaxConnections": "too many connections",
    "Timeout": "no answer in time",
    "Connection": "the connection was closed",
}
"""By the code that an answer begins with, or by the client's class."""


def of_surroundings(error: BaseException) -> str:
    """Empty if the error is none of theirs."""
    package = type(error).__module__.partition(".")[0]
    if hasattr(error, "sqlite_errorcode"):
        return _of_sqlite(error)
    if package == "psycopg":
        return _of_postgresql(error)
    if package == "redis":
        return _of_redis(error)
    if isinstance(error, OSError):
        return _of_system(error)
    return ""


def _of_sqlite(error: Any) -> str:
    text = str(error)
    if NAMED.fullmatch(text):
        return text
    name = str(error.sqlite_errorname)
    words = SQLITE.get(error.sqlite_errorcode & 0xFF)
    return f"{words} ({name})" if words == SQLITE[19] else words or name


def _of_postgresql(error: Any) -> str:
    if error.sqlstate:
        words = re.sub("(?<=[a-z])(?=[A-Z])", " ", type(error).__name__).lower()
        constraint = f" {error.diag.constraint_name}" if error.diag.constraint_name else ""
        return f"{words}{constraint} (SQLSTATE {error.sqlstate})"
    text = str(error)
    return next(
        (ours for theirs, ours in POSTGRESQL.items() if re.search(theirs, text, re.IGNORECASE)), "no connection"
    )


def _of_redis(error: BaseException) -> str:
    if isinstance(error.__context__, OSError):
        return _of_system(error.__context__)
    kind, (code, *_) = type(error).__name__.removesuffix("Error"), [*str(error).split(maxsplit=1), ""]
    if number := re.match(r"Error (\d+) ", str(error)):
        return os.strerror(int(number[1]))
    if words := REDIS.get(code.strip("-:")) or REDIS.get(kind):
        return words
    return f"an error {code}" if re.fullmatch("[A-Z]{3,20}", code) else f"an error of the kind {kind}"


def _of_system(error: OSError) -> str:
    if isinstance(error, gaierror):
        return "the host's name can't be found"
    if error.errno and error.errno > 0:
        return os.strerror(error.errno)
    return "no answer in time" if isinstance(error, TimeoutError) else type(error).__name__
