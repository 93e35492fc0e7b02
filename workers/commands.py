"""Handling: inbox rows to events, outcomes and unique keys, in one transaction of the event store."""

import logging
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Engine

from shared import event_store, inbox, outcomes
from shared.decider import Decider, UniqueKey
from shared.inbox import Accepted
from shared.users.decider import users
from workers.batch import Batch

AGGREGATES: Mapping[str, Decider[Any, Any, Any]] = {"user": users}

CHUNK = 500
"""Commands in one transaction, at most."""

log = logging.getLogger(__name__)


def handle(commands: Engine, store: Engine) -> int:
    """Handle the next commands in the inbox; returns how many it took up, 0 if none was waiting.

    What commits, commits whole: events, outcomes, unique keys and what is set aside. Commands take effect in order
    of seq, each exactly once, however many workers are at it: they take turns.
    """
    with store.begin() as connection, commands.connect() as accepted:
        chunk = inbox.read_after(accepted, outcomes.last_seq(connection), limit=CHUNK)
        if not chunk:
            return 0
        batch = _handle(connection, chunk, outcomes.stuck_streams(connection), {})
    _report(batch)
    return len(chunk)


def retry(commands: Engine, store: Engine) -> None:
    """Handle the commands that were set aside, as `handle` does."""
    with store.begin() as connection, commands.connect() as accepted:
        tries = outcomes.take_set_aside(connection, limit=CHUNK)
        if not tries:
            return
        batch = _handle(connection, inbox.read(accepted, tries), set(), tries)
    _report(batch)


def _handle(
    connection: Connection, chunk: Sequence[Accepted], stuck: Collection[str], tries: Mapping[int, int]
) -> Batch:
    batch = _decide(connection, chunk, stuck, tries)
    event_store.append(connection, *batch.appends)
    outcomes.record(connection, batch.outcomes)
    outcomes.move_keys(connection, batch.moved)
    outcomes.set_aside(connection, batch.set_aside)
    return batch


def _report(batch: Batch) -> None:
    if batch.outcomes:
        count = Counter(outcome.status for outcome in batch.outcomes)
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
