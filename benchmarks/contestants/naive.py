"""Two services as tutorials have them, on the same tables.

`sync` is CRUD with a log: FastAPI runs it in its thread pool, and an ORM session writes the event and the user in one
request. `queueing` has a Celery task for each command, which appends through the ORM, and one for each event, which
updates the users.
"""

import os
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Annotated, Any

from celery import Celery
from fastapi import Depends, FastAPI, HTTPException
from pydantic import ConfigDict
from sqlalchemy import JSON, create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from benchmarks.contestants.floor_http import NewEmail, NewUser

engine = create_engine(os.environ["DATABASE_URL"], connect_args={"check_same_thread": False})
new_session = sessionmaker(engine)
celery = Celery("naive", broker=os.environ.get("REDIS_URL"))


class Base(DeclarativeBase):
    """The base of both tables."""


class Event(Base):
    """The log."""

    __tablename__ = "events"

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(index=True)
    type: Mapped[str]
    data: Mapped[dict[str, Any]] = mapped_column(JSON)
    recorded_at: Mapped[datetime]


class User(Base):
    """The read model."""

    __tablename__ = "users"

    user_id: Mapped[int] = mapped_column(primary_key=True)
    first_name: Mapped[str]
    last_name: Mapped[str]
    email: Mapped[str]
    version: Mapped[int]


class ShownUser(NewUser):
    """A user as it is answered."""

    model_config = ConfigDict(from_attributes=True)

    user_id: int
    version: int


def database() -> Iterator[Session]:
    """A session for a request."""
    with new_session() as session:
        yield session


Database = Annotated[Session, Depends(database)]


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """The tables are made at the start."""
    Base.metadata.create_all(engine)
    yield


sync, queueing = FastAPI(lifespan=lifespan), FastAPI(lifespan=lifespan)


@sync.post("/users/", status_code=201)
def create_at_once(body: NewUser, session: Database) -> ShownUser:
    """Write the user and its event."""
    user = User(**body.model_dump(), version=1)
    session.add(user)
    session.flush()
    session.add(_event(user.user_id, "UserCreated", body.model_dump()))
    session.commit()
    return ShownUser.model_validate(user)


@sync.put("/users/{user_id}")
def update_at_once(user_id: int, body: NewEmail, session: Database) -> ShownUser:
    """Write the address and its event."""
    user = _find(session, user_id)
    user.email = body.email
    user.version += 1
    session.add(_event(user_id, "UserEmailUpdated", body.model_dump()))
    session.commit()
    return ShownUser.model_validate(user)


@sync.get("/users/{user_id}")
@queueing.get("/users/{user_id}")
def show_user(user_id: int, session: Database) -> ShownUser:
    """Read the user."""
    return ShownUser.model_validate(_find(session, user_id))


@queueing.post("/users/", status_code=202)
def create_later(body: NewUser) -> dict[str, Any]:
    """Leave the command to a worker; the user's number is made up here."""
    user_id = secrets.randbits(62)
    append.delay(user_id, "UserCreated", body.model_dump())
    return {"user_id": user_id, "status": "accepted"}


@queueing.put("/users/{user_id}", status_code=202)
def update_later(user_id: int, body: NewEmail) -> dict[str, Any]:
    """Leave the command to a worker."""
    append.delay(user_id, "UserEmailUpdated", {"new_email": body.email})
    return {"user_id": user_id, "status": "accepted"}


@celery.task  # type: ignore[untyped-decorator]
def append(user_id: int, type: str, data: dict[str, str]) -> None:
    """Handle a command: append its event."""
    with new_session() as session:
        event = _event(user_id, type, data)
        session.add(event)
        session.commit()
        project.delay(event.id)


@celery.task  # type: ignore[untyped-decorator]
def project(event_id: int) -> None:
    """Update the users by an event."""
    with new_session() as session:
        event = session.get_one(Event, event_id)
        if event.type == "UserCreated":
            session.add(User(user_id=event.user_id, **event.data, version=1))
        else:
            user = session.get_one(User, event.user_id)
            user.email = event.data["new_email"]
            user.version += 1
        session.commit()


def _find(session: Session, user_id: int) -> User:
    user = session.get(User, user_id)
    if user is None:
        raise HTTPException(404)
    return user


def _event(user_id: int, type: str, data: dict[str, str]) -> Event:
    return Event(user_id=user_id, type=type, data=data, recorded_at=datetime.now(UTC))
