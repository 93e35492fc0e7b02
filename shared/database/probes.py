"""Whether a store can be written: nothing is changed, no writer held up, and nothing waited for long."""

import os
import time
from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Protocol

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from shared.database import engines, postgresql, sqlite
from shared.domain.projections import PROJECTIONS
from shared.errors.reasons import reason_of
from shared.settings import Settings
from shared.stores import event_store, inbox

WITHIN = 1.0
"""Seconds in which a lock must change hands."""

SILENT = 3.0
"""Seconds after which a store that says nothing is in trouble."""

LOCKED = "locked by another process"


class Probes:
    """Those of all stores. One that hangs is not asked again before it has answered."""

    def __init__(self, settings: Settings) -> None:
        self._locks: dict[str, list[str]] = defaultdict(list)
        self._locks[settings.inbox].append(inbox.LOCK)
        self._locks[settings.event_store].append(event_store.LOCK)
        for name in PROJECTIONS:
            self._locks[settings.read_model_of(name)].append(name)
        self._probes = {url: _probe(url) for url in self._locks}
        self._threads = ThreadPoolExecutor(len(self._probes), "probes")
        self._asked: dict[str, Future[dict[str, str]]] = {}

    def troubles(self) -> dict[str, str]:
        """Why stores can't be written: `inbox`, `event_store`, `read_model`. Blocks for some seconds at most."""
        for url, probe in self._probes.items():
            if url not in self._asked or self._asked[url].done():
                self._asked[url] = self._threads.submit(probe.trouble, self._locks[url])
        wait(self._asked.values(), SILENT)
        found: dict[str, str] = {}
        for url, answer in self._asked.items():
            silent = dict.fromkeys(self._locks[url], f"it said nothing for {SILENT:g} s")
            found |= answer.result() if answer.done() else silent
        return _by_store(found)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        for probe in self._probes.values():
            probe.close()


def _by_store(found: dict[str, str]) -> dict[str, str]:
    """Of read models, which have a lock each, it is said which, unless it is the same with all."""
    read_models = {name: found.pop(name) for name in PROJECTIONS if name in found}
    if not read_models:
        return found
    if len(read_models) == len(PROJECTIONS) and len(set(read_models.values())) == 1:
        return found | {"read_model": next(iter(read_models.values()))}
    return found | {"read_model": "; ".join(f"{name} {why}" for name, why in read_models.items())}


class Probe(Protocol):
    """Of what is at one URL."""

    def trouble(self, locks: Iterable[str]) -> dict[str, str]:
        """Why it can't be written, by the lock that a writer takes; none for those with which it can."""

    def close(self) -> None:
        """Its connection, that is."""


def _probe(url: str) -> Probe:
    return _File(url) if engines.is_local(url) else _Server(url)


class _File:
    def __init__(self, url: str) -> None:
        self._path = sqlite.path_of(url)
        self._engine = sqlite.engine_of(url, ("synchronous = NORMAL",), timeout=WITHIN, mode="rw")

    def trouble(self, locks: Iterable[str]) -> dict[str, str]:
        """A file has one lock, whatever it is called."""
        why = "" if all(map(self._may_be_written, ("", "-wal", "-shm"))) else "read-only"
        try:
            with self._engine.connect() as connection:
                _commit_nothing(connection)
        except DBAPIError as error:
            why = LOCKED if engines.is_busy(error) else reason_of(error)
        return dict.fromkeys(locks, why) if why else {}

    def close(self) -> None:
        self._engine.dispose()

    def _may_be_written(self, end: str) -> bool:
        """By who opens it now. Who has it open goes on, until it is started again."""
        path = self._path.with_name(self._path.name + end)
        return os.access(path, os.W_OK) or not path.exists()


def _commit_nothing(connection: Connection) -> None:
    """Not even that if somebody has committed since the last look."""
    before = connection.info.get("version")
    connection.info["version"] = version = _version(connection)
    if before is not None and version != before:
        return
    try:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    except DBAPIError:
        if _version(connection) == version:
            raise
        return  # it is busy
    number = connection.exec_driver_sql("PRAGMA user_version").scalar()
    connection.exec_driver_sql(f"PRAGMA user_version = {number}")  # a page is written, though it says the same
    connection.exec_driver_sql("COMMIT")


def _version(connection: Connection) -> int:
    """Another one after each commit of others."""
    return int(connection.exec_driver_sql("PRAGMA data_version").scalar() or 0)


class _Server:
    """It is only looked at: to try a lock would keep a writer from it."""

    def __init__(self, url: str) -> None:
        self._engine = postgresql.engine_of(url, statement_timeout=int(postgresql.STATEMENT_TIMEOUT * 1000))

    def trouble(self, locks: Iterable[str]) -> dict[str, str]:
        names = {postgresql.number_of(lock): lock for lock in locks}
        try:
            with self._engine.connect() as connection:
                in_recovery, read_only = connection.exec_driver_sql(_STATE).one()
                if in_recovery or read_only:
                    why = "in recovery, so read-only" if in_recovery else "read-only"
                    return dict.fromkeys(names.values(), why)
                return {names[number]: LOCKED for number in _held_throughout(connection, names)}
        except DBAPIError as error:
            return dict.fromkeys(names.values(), reason_of(error))

    def close(self) -> None:
        self._engine.dispose()


def _held_throughout(connection: Connection, numbers: Iterable[int]) -> Iterable[int]:
    """The locks that one transaction holds all the time: those that are busy change hands."""
    until = time.monotonic() + WITHIN
    held = {number: holder for number, holder in _holders(connection) if number in numbers}
    while held and time.monotonic() < until:
        time.sleep(WITHIN / 10)
        now = dict(_holders(connection))
        held = {number: holder for number, holder in held.items() if now.get(number) == holder}
    return held


def _holders(connection: Connection) -> list[tuple[int, str]]:
    return [(number, transaction) for number, transaction in connection.exec_driver_sql(_HOLDERS)]


_STATE = "SELECT pg_is_in_recovery(), current_setting('transaction_read_only') = 'on'"

_HOLDERS = """
    SELECT objid::bigint, virtualtransaction FROM pg_locks
    WHERE locktype = 'advisory' AND granted AND classid = 0 AND objsubid = 1
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
