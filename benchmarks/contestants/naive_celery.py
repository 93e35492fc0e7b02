"""The usual tutorial: a Celery task a command, which appends through the ORM; one an event, which updates the users."""

import os
from collections.abc import Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import uuid4

from celery import Celery
from fastapi import Depends, FastAPI, HTTPException
from pydantic import BaseModel
from sqlalchemy import JSON, create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

engine = create_engine(os.environ["DATABASE_URL"])
new_session = sessionmaker(engine)
celery = Celery("naive", broker=os.environ["REDIS_URL"])


class Base(DeclarativeBase):
    pass


class Event(Base):
    __tablename__ = "events"

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[str] = mapped_column(index=True)
    type: Mapped[str]
    data: Mapped[dict[str, Any]] = mapped_column(JSON)
    recorded_at: Mapped[datetime]


class User(Base):
    __tablename__ = "users"

    user_id: Mapped[str] = mapped_column(primary_key=True)
    first_name: Mapped[str]
    last_name: Mapped[str]
    email: Mapped[str]
    version: Mapped[int]


@celery.task  # type: ignore[untyped-decorator]
def create_user(user_id: str, data: dict[str, str]) -> None:
    append(user_id, "UserCreated", data)


@celery.task  # type: ignore[untyped-decorator]
def update_user_email(user_id: str, email: str) -> None:
    append(user_id, "UserEmailUpdated", {"new_email": email})


def append(user_id: str, type: str, data: dict[str, str]) -> None:
    with new_session() as session:
        event = Event(user_id=user_id, type=type, data=data, recorded_at=datetime.now(UTC))
        session.add(event)
        session.commit()
        project.delay(event.id)


@celery.task  # type: ignore[untyped-decorator]
def project(event_id: int) -> None:
    with new_session() as session:
        event = session.get_one(Event, event_id)
        if event.type == "UserCreated":
            session.add(User(user_id=event.user_id, **event.data, version=1))
        else:
            user = session.get_one(User, event.user_id)
            user.email = event.data["new_email"]
            user.version += 1
        session.commit()


class NewUser(BaseModel):
    first_name: str
    last_name: str
    email: str


class NewEmail(BaseModel):
    email: str


def database() -> Iterator[Session]:
    with new_session() as session:
        yield session


@asynccontextmanager
async def lifespan(_: FastAPI) -> Any:
    Base.metadata.create_all(engine)
    yield


app = FastAPI(lifespan=lifespan)


@app.post("/users/", status_code=202)
def post_user(body: NewUser) -> dict[str, str]:
    user_id = str(uuid4())
    create_user.delay(user_id, body.model_dump())
    return {"user_id": user_id, "status": "accepted"}


@app.put("/users/{user_id}", status_code=202)
def put_user(user_id: str, body: NewEmail) -> dict[str, str]:
    update_user_email.delay(user_id, body.email)
    return {"user_id": user_id, "status": "accepted"}


@app.get("/users/{user_id}")
def get_user(user_id: str, session: Annotated[Session, Depends(database)]) -> dict[str, Any]:
    user = session.get(User, user_id)
    if user is None:
        raise HTTPException(404)
    return {"user_id": user.user_id, "first_name": user.first_name, "last_name": user.last_name, "email": user.email}
