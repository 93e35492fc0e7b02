"""Handling: inbox rows to events, outcomes and unique keys, in one transaction of the event store."""

import logging
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DatabaseError, InternalError, OperationalError

from shared import event_store, inbox, outcomes
from shared.decider import Decider, UniqueKey
from shared.inbox import Accepted
from shared.outcomes import Outcome
from shared.users.decider import users
from workers.batch import Batch

AGGREGATES: Mapping[str, Decider[Any, Any, Any]] = {"user": users}

CHUNK = 500
"""Commands in one transaction, at most."""

STORE_TROUBLE = (OperationalError, InternalError, DatabaseError)
"""Full, locked, read-only, corrupt: these very types. Their subclasses come from what a command would have written."""

log = logging.getLogger(__name__)


def handle(inbox_: Engine, store: Engine) -> int:
    """Handle the next commands in the inbox; returns how many it took up, 0 if none was waiting.

    What commits, commits whole: events, outcomes, unique keys and what is set aside. Commands take effect in order
    of seq, each exactly once, however many workers are at it: they take turns.
    """
    with store.begin() as connection, inbox_.connect() as reading:
        chunk = inbox.read_after(reading, outcomes.last_seq(connection), limit=CHUNK)
        if not chunk:
            return 0
        ended = _handle(connection, chunk, outcomes.stuck_streams(connection), {})
    _report(ended)
    return len(chunk)


def retry(inbox_: Engine, store: Engine) -> int:
    """Handle each command that was set aside, as `handle` does; returns how many have an outcome now."""
    count = after = 0
    stuck: set[str] = set()
    while True:
        with store.begin() as connection, inbox_.connect() as reading:
            tries = outcomes.take_set_aside(connection, after=after, limit=CHUNK)
            if not tries:
                return count
            ended = _handle(connection, inbox.read(reading, tries), stuck, tries)
        _report(ended)
        count, after = count + len(ended), max(tries)


def _handle(
    connection: Connection, chunk: Sequence[Accepted], stuck: set[str], tries: Mapping[int, int]
) -> Sequence[Outcome]:
    """Handle a chunk; if what comes of it can't be written, handle each of its commands by itself.

    A command to a stream in `stuck` is set aside, and the stream of every command set aside here is added to it.
    """
    try:
        with connection.begin_nested():
            batch = _decide(connection, chunk, stuck, tries)
            _write(connection, batch)
    except Exception as error:
        if type(error) in STORE_TROUBLE:
            raise
        if len(chunk) > 1:
            return [ended for command in chunk for ended in _handle(connection, [command], stuck, tries)]
        batch = Batch({}, {}, [], 0, {}, (), tries)
        batch.stumble(chunk[0], error)
        _write(connection, batch)
    stuck |= {each.stream for each in batch.set_aside}
    return batch.outcomes


def _write(connection: Connection, batch: Batch) -> None:
    event_store.append(connection, *batch.appends)
    outcomes.record(connection, batch.outcomes)
    outcomes.move_keys(connection, batch.moved)
    outcomes.set_aside(connection, batch.set_aside)


def _report(ended: Sequence[Outcome]) -> None:
    if ended:
        count = Counter(outcome.status for outcome in ended)
        log.info("handled %s", " ".join(f"{status}={count[status]}" for status in sorted(count)))


def _decide(
    connection: Connection, chunk: Sequence[Accepted], stuck: Collection[str], tries: Mapping[int, int]
) -> Batch:
    """Decide as if every key asked for were free, look them up at once, and decide again if one was taken."""
    versions = event_store.stream_versions(connection, {command.stream for command in chunk})
    history = event_store.read_streams(connection, [stream for stream, version in versions.items() if version])
    position = event_store.last_position(connection)
    owners: dict[UniqueKey, str | None] = {}
    while True:
        batch = Batch(AGGREGATES, versions, history, position, owners, stuck, tries)
        for command in chunk:
            batch.handle(command)
        taken = outcomes.owners(connection, batch.assumed_free)
        if not taken:
            return batch
        owners |= dict.fromkeys(batch.assumed_free) | taken
