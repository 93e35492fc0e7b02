"""An installation that a version before filled, which stored personal data in the clear."""

from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest
from sqlalchemy import text

from shared.database import engines
from shared.domain.users.messages import UserCreated, UserEmailUpdated
from shared.messages import RecordedEvent
from shared.schemas import chain
from shared.settings import Settings
from shared.stores import event_store, inbox
from shared.stores.deciding import note_of
from shared.stores.inbox import Answer, Submission
from shared.stores.subjects import Subjects, heed
from tests.support.stores import Stores, create, update
from workers.handling.handler import CommandHandler
from workers.poison.watch import Watch

DORA, EMIL = "dora@example.com", "emil@example.com"

VALUES = [b"dora", b"emil", b"John", b"Doe"]
"""What must be found nowhere, once it is encrypted."""


@contextmanager
def opened(settings: Settings) -> Iterator[Stores]:
    """Stores that nobody uses any more after the block, as `cqrs protect` needs them."""
    with (
        closing(Subjects.of(settings)) as people,
        engines.briefly(heed(engines.writer(settings.inbox, lock="inbox"), people)) as inbox_,
        engines.briefly(heed(engines.writer(settings.event_store, lock="event_store"), people)) as events,
        engines.briefly(engines.writer(settings.read_model_of("users"), lock="users")) as read_model,
    ):
        handler = CommandHandler(inbox_, events, Watch(note_of(settings.event_store)))
        yield Stores(settings, inbox_, events, read_model, handler)


def take(settings: Settings, *submissions: Submission) -> list[Answer]:
    """Accept commands and handle them, as this version does."""
    with opened(settings) as stores:
        with stores.inbox.begin() as connection:
            answers = inbox.accept(connection, submissions)
        while stores.handler.handle():
            pass
    return answers


def take_as_before(settings: Settings, *submissions: Submission) -> None:
    """Accept commands and handle them, as a version did that stored personal data in the clear."""
    with pytest.MonkeyPatch.context() as patch:
        for event in (UserCreated, UserEmailUpdated):
            patch.setattr(event, "personal", ())
        take(settings, *(each._replace(personal=()) for each in submissions))


def fill(settings: Settings) -> None:
    """Two users, of whom one moves; a third is refused the other's address."""
    keyed = create(DORA, idempotency_key="once")
    take_as_before(settings, keyed, create("x@example.org"), update(2, EMIL), create(DORA))


def as_stored(settings: Settings) -> list[RecordedEvent]:
    """The log as it is stored, once its hashes are found to fit."""
    with engines.reading(settings.event_store) as log:
        list(chain.checked(log))
        return event_store.read_all(log)


def found(settings: Settings, request: pytest.FixtureRequest) -> set[bytes]:
    """Those of the values that a file has."""
    folders = [settings.data_dir]
    if not engines.is_local(settings.event_store):
        with engines.reading(settings.event_store) as connection:
            oid = connection.scalar(text("SELECT oid FROM pg_database WHERE datname = current_database()"))
            connection.exec_driver_sql("CHECKPOINT")
        folders.append(request.getfixturevalue("postgres").folder / "data" / "base" / str(oid))
    files = [path.read_bytes() for folder in folders for path in folder.rglob("*") if path.is_file()]
    return {value for value in VALUES if any(value in file for file in files)}
