"""Handling: inbox rows to events, outcomes and unique keys, in one transaction of the event store."""

import logging
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from sqlalchemy import Connection, Engine

from shared import event_store, inbox, outcomes
from shared.decider import Decider, UniqueKey
from shared.event_store import Head, RecordedEvent
from shared.inbox import Accepted
from shared.users.decider import users
from workers.batch import Batch

AGGREGATES: Mapping[str, Decider[Any, Any, Any]] = {"user": users}

CHUNK = 500
"""Commands in one transaction, at most."""

log = logging.getLogger(__name__)


def handle(commands: Engine, store: Engine, upto: Mapping[str, int]) -> bool:
    """Handle the commands of these streams, up to these seqs, that have no outcome. Tells if it appended events.

    What commits, commits whole: events, outcomes, unique keys and stream heads of a chunk. Commands of one stream
    are handled in order of seq, each exactly once, however many workers are at it: they take turns.
    """
    news = False
    while upto:
        with store.begin() as connection, commands.connect() as accepted:
            heads = event_store.heads(connection, upto)
            spans = {stream: (heads[stream].last_command, seq) for stream, seq in upto.items()}
            chunk = inbox.waiting(accepted, spans, limit=CHUNK)
            batch = _decide(connection, chunk, heads)
            _write(connection, batch)
        _report(batch)
        news = news or batch.has_events
        upto = {s: seq for s, seq in upto.items() if s not in batch.stuck} if len(chunk) == CHUNK else {}
    return news


def _decide(connection: Connection, chunk: Sequence[Accepted], heads: Mapping[str, Head]) -> Batch:
    """Decide as if every key asked for were free, look them up at once, and decide again if one was taken."""
    history = _history(connection, chunk, heads)
    position = event_store.last_position(connection)
    owners: dict[UniqueKey, str | None] = {}
    while True:
        batch = Batch(AGGREGATES, heads, history, position, owners, partial(outcomes.tries, connection))
        for command in chunk:
            batch.handle(command)
        taken = outcomes.owners(connection, batch.assumed_free)
        if not taken:
            return batch
        owners |= dict.fromkeys(batch.assumed_free) | taken


def _history(
    connection: Connection, chunk: Sequence[Accepted], heads: Mapping[str, Head]
) -> dict[str, list[RecordedEvent]]:
    history: dict[str, list[RecordedEvent]] = defaultdict(list)
    existing = {command.stream for command in chunk if heads[command.stream].version}
    for event in event_store.read_streams(connection, existing):
        history[event.stream].append(event)
    return history


def _write(connection: Connection, batch: Batch) -> None:
    event_store.append(connection, *batch.appends)
    outcomes.record(connection, batch.outcomes)
    outcomes.record_tries(connection, batch.failed_tries)
    outcomes.move_keys(connection, batch.moved)


def _report(batch: Batch) -> None:
    if batch.outcomes:
        count = Counter(outcome.status for outcome in batch.outcomes)
        log.info("handled %s", " ".join(f"{status}={count[status]}" for status in sorted(count)))
