"""All that the stores hold of one stream, for whoever asks what is known of a person."""

from collections.abc import Iterator, Sequence
from typing import Any

from pydantic_core import from_json, to_jsonable_python
from sqlalchemy import ColumnElement, Connection, Table, select

from cli.errors import Refused
from cli.stores.snapshots import Snapshots, snapshots
from shared.access.principals import operator_here
from shared.clock import now
from shared.database import engines
from shared.domain.projections import PROJECTIONS
from shared.operations import record
from shared.operations.record import StreamExported
from shared.settings import Settings
from shared.stores import event_store, inbox, outcomes, set_aside, unique_keys
from shared.stores.event_store import pages

IN_JSON = {"data", "metadata", "precondition", "problem"}
"""Columns that hold JSON, or nothing."""

Rows = list[dict[str, Any]]


def export(settings: Settings, stream: str) -> dict[str, Any]:
    """What `holdings` finds of a stream, and when. That it was asked for is in the log before this returns.

    Raises Refused if there is nothing.
    """
    with snapshots(settings) as stores:
        found = holdings(stores, stream)
    if not any(found.values()):
        raise Refused(f"the stores hold nothing of {stream}")
    with engines.writing(settings.event_store, lock=event_store.LOCK) as log:
        record.record(log, StreamExported(stream=stream), by=operator_here())
    return {"stream": stream, "exported_at": now(), "found": found}


def holdings(stores: Snapshots, stream: str) -> dict[str, Rows]:
    """The rows of a stream by store and table, such as `inbox.commands`, each with all its columns, as they are stored.

    What is personal is revealed. Rows of a projection are found if they have the aggregate's number in a column such
    as `user_id`.
    """
    commands = _rows(stores.inbox, inbox.commands, inbox.commands.c.stream == stream)
    seqs = [command["seq"] for command in commands]
    revealed = inbox.find_all(stores.inbox, [command["command_id"] for command in commands])
    data = {each.command_id: from_json(each.data) for each in revealed.values() if not each.is_emptied}
    of_stream = (set_aside.table, unique_keys.unique_keys, unique_keys.contested_keys)
    return {
        **_projected(stores, stream),
        **{f"event_store.{table.name}": _rows(stores.log, table, table.c.stream == stream) for table in of_stream},
        "event_store.events": _revealed(stores, stream),
        "event_store.outcomes": list(_outcomes(stores.log, seqs)),
        "inbox.commands": [{**row, "data": data.get(row["command_id"])} for row in commands],
        f"event_store.events of {record.STREAM}": _operations(stores.log, stream),
    }


def _projected(stores: Snapshots, stream: str) -> dict[str, Rows]:
    category, _, number = stream.rpartition("-")
    column = f"{category}_id"
    return {
        f"read_model.{table.name}": _rows(stores.read_models[name], table, table.c[column] == int(number))
        for name, which in PROJECTIONS.items()
        for table in which.tables
        if column in table.c
    }


def _outcomes(log: Connection, seqs: Sequence[int]) -> Iterator[dict[str, Any]]:
    for page in pages(seqs):
        yield from _rows(log, outcomes.outcomes, outcomes.outcomes.c.seq.in_(page))


def _revealed(stores: Snapshots, stream: str) -> Rows:
    """The rows of the stream's events, with what is personal as it was before it was sealed."""
    found = _rows(stores.log, event_store.events, event_store.events.c.stream == stream)
    data = {event.version: event.data for event in event_store.read_stream(stores.log, stream)}
    return [{**row, "data": data[row["version"]]} for row in found]


def _operations(log: Connection, stream: str) -> Rows:
    """What operators did with this stream, such as exports before this one."""
    done = event_store.read_stream(log, record.STREAM)
    return [event.shown() for event in done if event.data.get("stream") == stream]


def _rows(connection: Connection, table: Table, which: ColumnElement[bool]) -> Rows:
    found = connection.execute(select(table).where(which).order_by(*table.primary_key)).mappings()
    return [{name: _shown(name, value) for name, value in row.items()} for row in found]


def _shown(column: str, value: Any) -> Any:
    """The value as JSON has it; an emptied command has no data."""
    if column in IN_JSON:
        return from_json(value) if value else None
    return to_jsonable_python(value, bytes_mode="hex")
