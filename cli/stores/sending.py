"""A command sent on this machine: put into the inbox as the API does it, and waited for."""

import time
from contextlib import closing

from cli.errors import Refused
from shared.access.principals import operator_here
from shared.database import engines
from shared.messages import Command
from shared.settings import Settings
from shared.stores import inbox, outcomes
from shared.stores.inbox import Acceptance, Submission
from shared.stores.outcomes import Outcome
from shared.stores.subjects import Subjects, heed

WAIT_SECONDS = 10
"""How long the outcome is waited for. Workers look for commands every 2 s."""

LOOK_EVERY = 0.05
"""Seconds between two looks for the outcome."""


def send(settings: Settings, command: type[Command], category: str, number: int) -> Outcome | None:
    """Have a command that has only the aggregate's number handled; returns its success, None if it isn't handled yet.

    Raises Refused if it was rejected, or failed.
    """
    submission = Submission(command.__name__, category, number, {}, metadata={"principal": operator_here()})
    with (
        closing(Subjects.of(settings)) as people,
        engines.briefly(heed(engines.writer(settings.inbox, lock=inbox.LOCK), people)) as engine,
        engine.begin() as connection,
    ):
        [accepted] = inbox.accept(connection, [submission])
    assert isinstance(accepted, Acceptance), "it has no key, and the inbox no limit"
    outcome = _outcome(settings, accepted.command.seq)
    if outcome and outcome.problem:
        raise Refused(outcome.problem["detail"])
    return outcome


def _outcome(settings: Settings, seq: int) -> Outcome | None:
    until = time.monotonic() + WAIT_SECONDS
    with engines.reading(settings.event_store) as connection:
        while not (found := outcomes.find(connection, [seq])) and time.monotonic() < until:
            time.sleep(LOOK_EVERY)
    return found.get(seq)
