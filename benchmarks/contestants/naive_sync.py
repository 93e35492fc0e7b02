"""CRUD with a log: FastAPI runs it in its thread pool, an ORM session writes the event and the user in one request."""

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException
from pydantic import BaseModel, ConfigDict
from sqlalchemy import JSON, create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

engine = create_engine(os.environ["DATABASE_URL"], connect_args={"check_same_thread": False})
new_session = sessionmaker(engine)


class Base(DeclarativeBase):
    pass


class Event(Base):
    __tablename__ = "events"

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(index=True)
    type: Mapped[str]
    data: Mapped[dict[str, Any]] = mapped_column(JSON)
    recorded_at: Mapped[datetime]


class User(Base):
    __tablename__ = "users"

    user_id: Mapped[int] = mapped_column(primary_key=True)
    first_name: Mapped[str]
    last_name: Mapped[str]
    email: Mapped[str]
    version: Mapped[int]


class NewUser(BaseModel):
    first_name: str
    last_name: str
    email: str


class NewEmail(BaseModel):
    email: str


class ShownUser(NewUser):
    model_config = ConfigDict(from_attributes=True)

    user_id: int
    version: int


def database() -> Iterator[Session]:
    with new_session() as session:
        yield session


Database = Annotated[Session, Depends(database)]


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    Base.metadata.create_all(engine)
    yield


app = FastAPI(lifespan=lifespan)


@app.post("/users/", status_code=201)
def create_user(body: NewUser, session: Database) -> ShownUser:
    user = User(**body.model_dump(), version=1)
    session.add(user)
    session.flush()
    session.add(_event(user, "UserCreated", body))
    session.commit()
    return ShownUser.model_validate(user)


@app.put("/users/{user_id}")
def update_user_email(user_id: int, body: NewEmail, session: Database) -> ShownUser:
    user = _find(session, user_id)
    user.email = body.email
    user.version += 1
    session.add(_event(user, "UserEmailUpdated", body))
    session.commit()
    return ShownUser.model_validate(user)


@app.get("/users/{user_id}")
def show_user(user_id: int, session: Database) -> ShownUser:
    return ShownUser.model_validate(_find(session, user_id))


def _find(session: Session, user_id: int) -> User:
    user = session.get(User, user_id)
    if user is None:
        raise HTTPException(404)
    return user


def _event(user: User, type: str, body: BaseModel) -> Event:
    return Event(user_id=user.user_id, type=type, data=body.model_dump(), recorded_at=datetime.now(UTC))
