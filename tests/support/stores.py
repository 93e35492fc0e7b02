"""Canonical messages, and the shorthand that tests share."""

import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from sqlalchemy import Connection, Engine, delete

from shared.database import engines
from shared.domain.users.messages import CreateUser, UpdateUserEmail
from shared.settings import Settings
from shared.stores import event_store, inbox, outcomes
from shared.stores.deciding import note_of
from shared.stores.inbox import Acceptance, Accepted, Submission
from shared.stores.subjects import Subjects, heed
from workers.handling.handler import CommandHandler
from workers.poison.watch import Watch

JOHN = {"first_name": "John", "last_name": "Doe", "email": "john.doe@example.com"}


class Stores(NamedTuple):
    settings: Settings
    inbox: Engine
    events: Engine
    read_model: Engine
    handler: CommandHandler


def reads(settings: Settings, url: str) -> Engine:
    """Reads a store, and reveals what is personal."""
    return heed(engines.reader(url), Subjects.of(settings))


def hashed(settings: Settings, *emails: str) -> list[str]:
    """The values under which addresses are kept, so that no two users have one."""
    return [Subjects.of(settings).blind("email", email) for email in emails]


@contextmanager
def inbox_of(settings: Settings) -> Iterator[Connection]:
    """One transaction of the inbox, as an API has it."""
    engine = engines.writer(settings.inbox, lock="inbox")
    with closing(Subjects.of(settings)) as people, engines.briefly(heed(engine, people)), engine.begin() as connection:
        yield connection


def new_handler(settings: Settings, events: Engine, *, rests: float = 0) -> CommandHandler:
    """What a command worker has when it has just started."""
    people = Subjects.of(settings)
    inbox = heed(engines.reader(settings.inbox), people)
    return CommandHandler(inbox, heed(events, people), Watch(note_of(settings.event_store)), rests=rests)


@contextmanager
def refusing(engine: Engine, what: str, table: str, row: str = "1 = 1") -> Iterator[None]:
    """Meanwhile the database itself refuses rows: `row` is a condition on NEW, `what` INSERT or UPDATE."""
    trigger = f"CREATE TRIGGER no BEFORE {what} ON {table}"
    statements = [
        "CREATE OR REPLACE FUNCTION no() RETURNS trigger AS 'BEGIN RAISE EXCEPTION $$refused$$; END' LANGUAGE plpgsql",
        f"{trigger} FOR EACH ROW WHEN ({row}) EXECUTE FUNCTION no()",
    ]
    end = f"DROP TRIGGER no ON {table}"
    if engine.dialect.name == "sqlite":
        statements = [f"{trigger} WHEN {row} BEGIN SELECT RAISE(ABORT, 'refused'); END"]
        end = "DROP TRIGGER no"
    with engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
    yield
    with engine.begin() as connection:
        connection.exec_driver_sql(end)


def fail(settings: Settings, command_id: str) -> None:
    """Have a command that was rejected look as if it had failed."""
    with engines.reading(settings.inbox) as connection:
        command = inbox.find(connection, command_id)
    assert command
    with engines.writing(settings.event_store, lock=event_store.LOCK) as connection:
        [outcome] = outcomes.find(connection, [command.seq]).values()
        connection.execute(delete(outcomes.outcomes).where(outcomes.outcomes.c.seq == command.seq))
        outcomes.record(connection, [outcome._replace(status="failed")])


def elsewhere(settings: Settings, folder: Path) -> Settings:
    """A place for stores on another machine, where the master key was brought."""
    folder.mkdir(mode=0o700)
    shutil.copy(settings.master_file, folder)
    return Settings(data_dir=folder, _env_file=None)


def heir(settings: Settings, another: Settings) -> Settings:
    """Other stores, with the keys of the same people."""
    return another.model_copy(update={"subjects_url": settings.subjects})


def create(email: str = JOHN["email"], **more: Any) -> Submission:
    return Submission("CreateUser", "user", None, {**JOHN, "email": email}, personal=CreateUser.personal, **more)


def update(user_id: int, email: str, **more: Any) -> Submission:
    return Submission("UpdateUserEmail", "user", user_id, {"email": email}, personal=UpdateUserEmail.personal, **more)


def deactivate(user_id: int, **more: Any) -> Submission:
    return Submission("DeactivateUser", "user", user_id, {}, **more)


def erase(user_id: int, **more: Any) -> Submission:
    return Submission("EraseUser", "user", user_id, {}, **more)


def reactivate(user_id: int, **more: Any) -> Submission:
    return Submission("ReactivateUser", "user", user_id, {}, **more)


def accept(stores: Stores, *submissions: Submission) -> list[Accepted]:
    """Put commands into the inbox, all in one batch."""
    with stores.inbox.begin() as connection:
        answers = inbox.accept(connection, submissions)
    return [answer.command for answer in answers if isinstance(answer, Acceptance)]


def once_on_postgresql(first: Any, *others: Any) -> list[Any]:
    """Cases of a test that is `both_engines`: on PostgreSQL the first stands for all, where the engine adds nothing."""
    tuples = [each if isinstance(each, tuple) else (each,) for each in others]
    return [first, *(pytest.param(*each, marks=pytest.mark.sqlite_only) for each in tuples)]
