"""Canonical messages, and the shorthand that tests share."""

from typing import Any, NamedTuple

from sqlalchemy import Engine

from shared import database, inbox
from shared.inbox import Acceptance, Accepted, Submission
from shared.settings import Settings
from workers.commands import CommandHandler
from workers.notes import note_of
from workers.watch import Watch

JOHN = {"first_name": "John", "last_name": "Doe", "email": "john.doe@example.com"}


class Stores(NamedTuple):
    settings: Settings
    inbox: Engine
    events: Engine
    read_model: Engine
    handler: CommandHandler


def new_handler(settings: Settings, events: Engine) -> CommandHandler:
    """What a command worker has when it has just started."""
    return CommandHandler(database.reader(settings.inbox), events, Watch(note_of(settings.event_store)))


def create(email: str = JOHN["email"], **more: Any) -> Submission:
    return Submission("CreateUser", "user", None, {**JOHN, "email": email}, **more)


def update(user_id: int, email: str, **more: Any) -> Submission:
    return Submission("UpdateUserEmail", "user", user_id, {"email": email}, **more)


def accept(stores: Stores, *submissions: Submission) -> list[Accepted]:
    """Put commands into the inbox, all in one batch."""
    with stores.inbox.begin() as connection:
        answers = inbox.accept(connection, submissions)
    return [answer.command for answer in answers if isinstance(answer, Acceptance)]
