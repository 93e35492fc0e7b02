"""Trouble of a store, a broker or the system, in our own words: drivers' texts hold hosts, users and values."""

import os
import re
from socket import gaierror
from typing import Any

SQLITE = {
    3: "access permission denied",
    4: "query aborted",
    5: "locked",
    6: "a table is locked",
    7: "out of memory",
    8: "read-only",
    9: "interrupted",
    10: "its disk fails",
    11: "corrupt",
    13: "its disk is full",
    14: "its file can't be opened",
    15: "locking protocol",
    17: "its schema has changed",
    18: "string or blob too big",
    19: "constraint failed",
    20: "datatype mismatch",
    23: "authorization denied",
    26: "not a database",
}
"""Words by SQLite's primary result code: https://sqlite.org/rescode.html."""

NAMED = re.compile(r"no such [a-z]+: [\w.]+|[A-Z ]+ constraint failed(: [\w., ]+)?", re.ASCII)
"""SQLite's messages about names in a statement. The names are our code's, so these messages may be shown."""

SQLSTATES = {
    "25006": "read-only",
    "42501": "its user may not do what it must",
    "53100": "its disk is full",
    "53300": "it takes no more connections",
    "55P03": "locked",
    "57P03": "not ready yet",
}
"""Words by PostgreSQL's SQLSTATE."""

DEPENDENT = "2BP01"
"""PostgreSQL's code for an object that others depend on. The error's detail holds only names of tables and views."""

POSTGRESQL = {
    "Connection refused": "connection refused",
    "(timeout|timed out)": "no answer in time",
    "password": "the password or the user is refused",
    "role .* does not exist": "the user is refused",
    "database .* does not exist": "the database does not exist",
    "pg_hba": "the server's pg_hba.conf refuses this user, host or database",
    "(starting up|shutting down|recovery)": "the server is starting or stopping",
    "(too many|connection slots)": "it takes no more connections",
    "(closed|terminat|reset)": "the connection was closed",
    "(resolve|translate|name or service|nodename)": "the host's name can't be found",
    "(unreachable|no route)": "the host can't be reached",
    "(SSL|certificate)": "no agreement on TLS",
    "No such file": "nothing listens there",
}
"""Words for errors of the connection, which have no SQLSTATE. The first pattern found in the driver's text counts."""

REDIS = {
    "OOM|OutOfMemory": "out of memory",
    "READONLY|ReadOnly": "read-only, as a replica is",
    "MISCONF": "read-only, since it can't save to its disk (MISCONF)",
    "NOREPLICAS": "read-only, for want of replicas (NOREPLICAS)",
    "MASTERDOWN|MasterDown": "a replica without its master (MASTERDOWN)",
    "WRONGTYPE": "a key has another type than that of a queue (WRONGTYPE)",
    "LOADING|BusyLoading": "loading its data",
    "NOAUTH|WRONGPASS|Authentication": "the password or the user is refused",
    "NOPERM|NoPermission|ACL failure in script|can't run this command": "this user may not do what it must (NOPERM)",
    "MaxConnections": "too many connections",
    "Timeout": "no answer in time",
    "Connection": "the connection was closed",
}
"""Words by a pattern of Redis' message or of the name of the client's error. The first pattern found counts.

A match may be anywhere in the message: a script's error quotes the error within it. For a missing right Redis 7,
Redis 8 and Valkey each have a wording of their own in scripts.
"""


class Silent(TimeoutError):
    """Raised when no answer came in time."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"it said nothing for {seconds:g} s")


def of_surroundings(error: BaseException) -> str:
    """What is wrong with a store, a broker or the system, by an error; "" if the error is of another kind."""
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
    if words := SQLSTATES.get(error.sqlstate):
        return words
    if error.sqlstate == DEPENDENT:
        return f"other objects depend on it: {' '.join(str(error.diag.message_detail).split())}"
    if error.sqlstate:
        words = re.sub("(?<=[a-z])(?=[A-Z])", " ", type(error).__name__).lower()
        constraint = f" {error.diag.constraint_name}" if error.diag.constraint_name else ""
        return f"{words}{constraint} (SQLSTATE {error.sqlstate})"
    kind = type(error).__name__
    if kind not in {"OperationalError", "InterfaceError", "ConnectionTimeout"}:
        return kind  # about values that the driver can't send
    found = (ours for theirs, ours in POSTGRESQL.items() if re.search(theirs, str(error), re.IGNORECASE))
    return next(found, "no connection")


def _of_redis(error: BaseException) -> str:
    if isinstance(error.__context__, OSError):
        return _of_system(error.__context__)
    kind, (code, *_) = type(error).__name__.removesuffix("Error"), [*str(error).split(maxsplit=1), ""]
    if number := re.match(r"Error (\d+) ", str(error)):
        return os.strerror(int(number[1]))
    for theirs, ours in REDIS.items():
        if re.search(rf"\b({theirs})\b", f"{error} {kind}"):
            return ours
    return f"an error {code}" if re.fullmatch("[A-Z]{3,20}", code) else f"an error of the kind {kind}"


def _of_system(error: OSError) -> str:
    if isinstance(error, Silent):
        return str(error)
    if isinstance(error, gaierror):
        return "the host's name can't be found"
    if error.errno and error.errno > 0:
        return os.strerror(error.errno)
    return "no answer in time" if isinstance(error, TimeoutError) else type(error).__name__
