"""Deeds: operators' commands as an aggregate, and their effects in the event store beside events.

An effect is part of the transaction that appends the command's events. It raises Rejected for what can't be done.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, Engine

from shared.decider import Decider, Rejected
from shared.messages import Command
from shared.operations import key_table, record
from shared.operations.commands import (
    AddKey,
    Deed,
    PauseProjection,
    RebuildProjection,
    ResumeProjection,
    RetryCommand,
    RevokeKey,
    RotateKey,
    ShowPersonal,
)
from shared.operations.record import Operation
from shared.stores import inbox, outcomes


class At(NamedTuple):
    """Where a deed is done, and by whom."""

    log: Connection
    """Writes the event store, under its lock."""
    inbox: Engine
    """Reads the inbox, under the same lock: the upkeep needs it to take data away."""
    by: str
    """The principal's name."""


def do(at: At, command: Deed) -> None:
    """Do a deed at once, without the inbox. Raises Rejected; the transaction must be rolled back then."""
    for done in OPERATIONS.decide(command, None):
        record.record(at.log, done, by=at.by)
    if effect := EFFECTS.get(type(command)):
        effect(at, command)


def _retry(at: At, command: RetryCommand) -> None:
    id = command.command_id
    with at.inbox.connect() as reading:
        accepted = inbox.find(reading, id)
    if not accepted:
        raise Rejected("command-not-found", f"No command {id} was accepted.", status=404)
    outcome = outcomes.find(at.log, [accepted.seq]).get(accepted.seq)
    if not outcome or outcome.status != "failed":
        state = f"has {outcome.status}" if outcome else "waits"
        raise Rejected("command-not-failed", f"The command {id} {state}: only a failed command is retried.")
    if accepted.is_emptied:
        detail = f"The command {id} is too old to be retried: its data was taken away (CQRS_KEEP_COMMANDS)."
        raise Rejected("command-emptied", detail)
    outcomes.begin_again(at.log, accepted)


EFFECTS: Mapping[type[Command], Callable[[At, Any], None]] = {
    RetryCommand: _retry,
    AddKey: lambda at, command: key_table.add(at.log, command, by=at.by),
    RotateKey: lambda at, command: key_table.rotate(at.log, command),
    RevokeKey: lambda at, command: key_table.revoke(at.log, command),
}
"""What commands change beside the log, by their class: nothing, for most."""

_DONE: Mapping[type[Command], type[Operation]] = {
    RetryCommand: record.CommandRetried,
    AddKey: record.KeyAdded,
    RotateKey: record.KeyRotated,
    RevokeKey: record.KeyRevoked,
    PauseProjection: record.ProjectionPaused,
    ResumeProjection: record.ProjectionResumed,
    RebuildProjection: record.RebuildRequested,
    ShowPersonal: record.PersonalShown,
}
"""What is recorded of each deed: the event has those of the command's fields that it knows, so no digest."""


def _decide(command: Command, state: object) -> Sequence[Operation]:
    return [_DONE[type(command)].model_validate(command.model_dump())]


def _evolve(state: int | None, event: Operation) -> int:
    return (state or 0) + 1


OPERATIONS: Decider[Any, Operation, int] = Decider(
    commands={each.__name__: each for each in _DONE}, events=record.EVENTS, decide=_decide, evolve=_evolve
)
"""The operations as an aggregate. It has more events than commands lead to: some deeds are done on the machine only."""
