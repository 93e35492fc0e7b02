"""Probes: whether stores can be written, found out without changing anything or holding up a writer."""

import os
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from shared.database import engines, postgresql, sqlite
from shared.database.errors import is_busy
from shared.errors.reasons import reason_of

LOCK_WITHIN = 1.0
"""Seconds after which a lock with the same holder counts as stuck."""

ANSWER_WITHIN = 3.0
"""Seconds after which a store that says nothing is in trouble."""

LOCKED = "locked by another process"


class Probes:
    """The probes of all databases. One that hangs is not asked again before it has answered."""

    def __init__(self, stores: Mapping[str, Mapping[str, str]]) -> None:
        """`stores`: for each store its locks, each with the URL of the database that it is in."""
        self._stores = stores
        self._locks: dict[str, list[str]] = defaultdict(list)
        for locks in stores.values():
            for lock, url in locks.items():
                self._locks[url].append(lock)
        self._probes = {url: _FileProbe(url) if engines.is_local(url) else _ServerProbe(url) for url in self._locks}
        self._threads = ThreadPoolExecutor(len(self._probes), "probes")
        self._asked: dict[str, Future[dict[str, str]]] = {}

    def troubles(self) -> dict[str, str]:
        """Why stores can't be written, by the store's name; no entry for those that can. Blocks for 3 s at most."""
        for url, probe in self._probes.items():
            if url not in self._asked or self._asked[url].done():
                self._asked[url] = self._threads.submit(probe.trouble, self._locks[url])
        wait(self._asked.values(), ANSWER_WITHIN)
        found: dict[str, str] = {}
        for url, answer in self._asked.items():
            silent = dict.fromkeys(self._locks[url], f"it said nothing for {ANSWER_WITHIN:g} s")
            found |= answer.result() if answer.done() else silent
        its = {store: {lock: found[lock] for lock in locks if lock in found} for store, locks in self._stores.items()}
        return {store: _summary(why, self._stores[store]) for store, why in its.items() if why}

    def close(self) -> None:
        """Close the connections. A probe that hangs goes on."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for probe in self._probes.values():
            probe.engine.dispose()


def _summary(found: Mapping[str, str], locks: Mapping[str, str]) -> str:
    """One text if the trouble is the same at all locks of a store; else each lock with its own."""
    if len(found) == len(locks) and len(set(found.values())) == 1:
        return next(iter(found.values()))
    return "; ".join(f"{lock} {why}" for lock, why in found.items())


class _FileProbe:
    """Takes the write lock of a SQLite file for a moment, and writes a page that says the same as before."""

    def __init__(self, url: str) -> None:
        self._path = sqlite.path_of(url)
        self.engine = sqlite.engine_of(url, ("synchronous = NORMAL",), timeout=LOCK_WITHIN, mode="rw")

    def trouble(self, locks: Iterable[str]) -> dict[str, str]:
        """Why the file can't be written, by lock; empty if it can. All get the same text: a file has one lock."""
        why = "" if all(map(self._may_be_written, ("", "-wal", "-shm"))) else "read-only"
        try:
            with self.engine.connect() as connection:
                _commit_nothing(connection)
        except DBAPIError as error:
            why = LOCKED if is_busy(error) else reason_of(error)
        return dict.fromkeys(locks, why) if why else {}

    def _may_be_written(self, end: str) -> bool:
        # Whether a process that opens the file now may write: one that has it open goes on until it is started again.
        path = self._path.with_name(self._path.name + end)
        return os.access(path, os.W_OK) or not path.exists()


def _commit_nothing(connection: Connection) -> None:
    """Commit a transaction that changes nothing, unless somebody else has committed one since the last look."""
    before = connection.info.get("version")
    connection.info["version"] = version = _version(connection)
    if before is not None and version != before:
        return
    try:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    except DBAPIError:
        if _version(connection) == version:
            raise
        return  # the store is busy: others commit
    number = connection.exec_driver_sql("PRAGMA user_version").scalar()
    connection.exec_driver_sql(f"PRAGMA user_version = {number}")
    connection.exec_driver_sql("COMMIT")


def _version(connection: Connection) -> int:
    """A number that changes with each commit of another connection."""
    return int(connection.exec_driver_sql("PRAGMA data_version").scalar() or 0)


class _ServerProbe:
    """Looks at who holds a PostgreSQL database's advisory locks. To try a lock could keep a writer waiting."""

    def __init__(self, url: str) -> None:
        self.engine = postgresql.engine_of(url, statement_timeout=int(postgresql.STATEMENT_TIMEOUT * 1000))

    def trouble(self, locks: Iterable[str]) -> dict[str, str]:
        """Why writers that take these locks can't write, by lock; no entry for a lock whose writers can."""
        names = {postgresql.number_of(lock): lock for lock in locks}
        try:
            with self.engine.connect() as connection:
                in_recovery, read_only = connection.exec_driver_sql(_STATE).one()
                if in_recovery or read_only:
                    why = "in recovery, so read-only" if in_recovery else "read-only"
                    return dict.fromkeys(names.values(), why)
                return {names[number]: LOCKED for number in _held_throughout(connection, names)}
        except DBAPIError as error:
            return dict.fromkeys(names.values(), reason_of(error))


def _held_throughout(connection: Connection, numbers: Iterable[int]) -> Iterable[int]:
    """The locks that one transaction holds for the whole of LOCK_WITHIN. A lock that is merely busy changes hands."""
    until = time.monotonic() + LOCK_WITHIN
    held = {number: holder for number, holder in _holders(connection).items() if number in numbers}
    while held and time.monotonic() < until:
        time.sleep(LOCK_WITHIN / 10)
        now = _holders(connection)
        held = {number: holder for number, holder in held.items() if now.get(number) == holder}
    return held


def _holders(connection: Connection) -> dict[int, str]:
    """The transaction that holds each advisory lock, by the lock's number."""
    return {number: holder for number, holder in connection.exec_driver_sql(_HOLDERS)}  # noqa: C416 of rows, not pairs


_STATE = "SELECT pg_is_in_recovery(), current_setting('transaction_read_only') = 'on'"

_HOLDERS = """
    SELECT objid::bigint, virtualtransaction FROM pg_locks
    WHERE locktype = 'advisory' AND granted AND classid = 0 AND objsubid = 1
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
