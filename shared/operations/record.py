"""Operations: what operators do, recorded in the log before it is done, or together with it. Erasures count as such."""

from typing import Any

from sqlalchemy import Connection

from shared.domain.projections import ERASING
from shared.messages import Event, NewEvent, RecordedEvent
from shared.stores import event_store
from shared.stores.event_store import Append

CATEGORY = "operations"

STREAM = f"{CATEGORY}-1"


class Operation(Event):
    """Something that an operator did or began. Its metadata has the operator's principal."""


class KeyAdded(Operation):
    """A key was made."""

    key_id: str
    name: str
    roles: list[str]
    expires_at: str | None


class KeyRotated(Operation):
    """A key got a new secret. The old one is taken until `old_until`."""

    key_id: str
    name: str
    old_until: str


class KeyRevoked(Operation):
    """A key was revoked: it is refused for good."""

    key_id: str
    name: str


class MasterKeyRotated(Operation):
    """The keys of people got a new master key, which wraps them from then on."""


class CommandRetried(Operation):
    """A command that had failed was put back, to be handled again."""

    command_id: str


class ProjectionPaused(Operation):
    """A projection was told to apply no more events."""

    projection: str


class ProjectionResumed(Operation):
    """A paused projection was told to go on."""

    projection: str


class RebuildRequested(Operation):
    """A projection's worker was told to rebuild its tables."""

    projection: str


class RebuildStarted(Operation):
    """A rebuild of a projection's tables began on the machine, by the command."""

    projection: str


class BackupRestored(Operation):
    """A backup was put in the place of the stores: the events before this one are the backup's."""

    taken_at: str
    last_event: int


class StreamExported(Operation):
    """All that the stores hold of a stream was exported, as for a person who asks what is known of them."""

    stream: str


class PersonalShown(Operation):
    """Somebody was shown what is personal on a page of the console, of those whose streams these are."""

    schema_version = 2
    upcasters = {1: lambda data: {**data, "streams": None}}

    page: str
    streams: list[str] | None
    """None if they weren't recorded yet."""


class LogImported(Operation):
    """All events before this one were imported into an empty log."""

    events: int


class LogProtected(Operation):
    """Events, and commands in the inbox, were in the clear, and what is personal in them was encrypted.

    Heads of the log that were kept before count no longer: from the first of these events on, hashes are others.
    """

    events: int
    commands: int


EVENTS = {each.__name__: each for each in Operation.__subclasses__()}
"""All operations, by name."""

AUDITED = [*EVENTS, *sorted(ERASING)]
"""The types of all events that auditors are shown: operations, and the events by which people are erased."""


def record(connection: Connection, done: Operation, *, by: str) -> None:
    """Append an operation to the log, in a transaction with the event store's lock. `by`: the principal's name."""
    new = NewEvent(type(done).__name__, done, {"principal": by}, done.schema_version)
    event_store.append(connection, Append(STREAM, [new]))


def shown(event: RecordedEvent) -> dict[str, Any]:
    """An audited event as it is shown: its `id` (the position), `type`, `at`, `by` (the principal) and `data`."""
    by = event.metadata.get("principal")
    return {"id": event.position, "type": event.type, "at": event.recorded_at, "by": by, "data": event.data}
