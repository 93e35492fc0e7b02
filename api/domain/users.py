"""Users: the commands that change them, and what the read model shows of them."""

from functools import partial
from typing import Annotated

from fastapi import Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from api.domain.addresses import Email
from api.domain.names import Name
from api.http.documentation import (
    CONDITIONS,
    ERASED,
    PAGE,
    PAST,
    UNREADABLE,
    Change,
    accepts,
    erases,
    errors,
    headers,
    shows,
)
from api.http.headers import Prefer
from api.http.paging import MAX_INTEGER, After, At, Boolean, Limit, MinPosition, Version
from api.http.routing import Router
from api.routes.submit import IdempotencyKey, Resource, show, show_history, show_page, submit
from shared.domain.users import history
from shared.domain.users.messages import CreateUser, DeactivateUser, EraseUser, ReactivateUser, UpdateUserEmail
from shared.domain.users.read_models import emails
from shared.domain.users.read_models import users as read_model

router = Router(tags=["users"])

USER = Resource("user", read_model.users, read_model.user, history.fold)

UserId = Annotated[int, Path(ge=1, le=MAX_INTEGER, description="The user's number")]


Active = Annotated[
    Boolean | None,
    Query(description="Only users that are active, or only those that are deactivated", examples=[False]),
]


class Body(BaseModel):
    """What commands to users have in common: no unknown fields, and no spaces around values."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)


class NewUser(Body):
    """What a new user is to be."""

    first_name: Name = Field(examples=["John"])
    last_name: Name = Field(examples=["Doe"])
    email: Email = Field(examples=["john.doe@example.com"])


class NewEmail(Body):
    """The address that a user moves to."""

    email: Email = Field(examples=["john.new@example.com"])


class Nothing(Body):
    """No fields. The body may be left out."""


class User(BaseModel):
    """A user as queries show it. Names and address are null where a user that was erased is shown as it was."""

    user_id: int = Field(examples=[1])
    first_name: str | None = Field(examples=["John"])
    last_name: str | None = Field(examples=["Doe"])
    email: str | None = Field(examples=["john.new@example.com"])
    version: int = Field(examples=[2])
    active: bool = Field(True, description="Shown only for a user that is deactivated: `false`")
    erased: bool = ERASED
    unreadable: bool = UNREADABLE


THERE = {404: "user-not-found", 410: "user-erased"}
"""What may be wrong with a command to a user."""

MARKED = accepts(200, User, THERE)
"""The answers of the routes that deactivate and reactivate."""


@router.post("/users/", role="writer", status_code=202, responses=accepts(201, User, {409: "email-taken"}))
async def create_user(
    request: Request, body: NewUser, idempotency_key: IdempotencyKey = None, prefer: Prefer = None
) -> Response:
    """Accept a new user. The number in the answer is good at once: commands to it are handled after this one."""
    return await submit(request, USER, CreateUser, body, idempotency_key=idempotency_key, prefer=prefer)


@router.put(
    "/users/{user_id}",
    role="writer",
    status_code=202,
    responses=accepts(200, User, {**THERE, 409: "email-taken user-deactivated"}),
    openapi_extra=CONDITIONS,
)
async def update_user_email(
    request: Request, user_id: UserId, body: NewEmail, idempotency_key: IdempotencyKey = None, prefer: Prefer = None
) -> Response:
    """Accept a new e-mail address for a user."""
    return await submit(request, USER, UpdateUserEmail, body, user_id, idempotency_key=idempotency_key, prefer=prefer)


@router.post(
    "/users/{user_id}/deactivation", role="writer", status_code=202, responses=MARKED, openapi_extra=CONDITIONS
)
async def deactivate_user(
    request: Request,
    user_id: UserId,
    body: Nothing | None = None,
    idempotency_key: IdempotencyKey = None,
    prefer: Prefer = None,
) -> Response:
    """Accept that a user is deactivated: it takes no more changes, and keeps its number and its address."""
    return await submit(request, USER, DeactivateUser, body, user_id, idempotency_key=idempotency_key, prefer=prefer)


@router.delete(
    "/users/{user_id}/deactivation", role="writer", status_code=202, responses=MARKED, openapi_extra=CONDITIONS
)
async def reactivate_user(
    request: Request, user_id: UserId, idempotency_key: IdempotencyKey = None, prefer: Prefer = None
) -> Response:
    """Accept that a deactivated user is active again, and takes changes."""
    return await submit(request, USER, ReactivateUser, None, user_id, idempotency_key=idempotency_key, prefer=prefer)


@router.delete(
    "/users/{user_id}",
    role="eraser",
    status_code=202,
    responses=erases({**THERE, 409: "log-in-the-clear"}),
    openapi_extra=CONDITIONS,
)
async def erase_user(
    request: Request, user_id: UserId, idempotency_key: IdempotencyKey = None, prefer: Prefer = None
) -> Response:
    """Accept that a user is erased, for good: what is personal of it can then be read nowhere."""
    return await submit(request, USER, EraseUser, None, user_id, idempotency_key=idempotency_key, prefer=prefer)


@router.get(
    "/users/{user_id}",
    role="reader",
    response_model=User,
    responses={**shows("user-not-found version-not-found", gone="user-erased"), **PAST},
    openapi_extra=CONDITIONS,
)
async def show_user(
    request: Request, user_id: UserId, version: Version = None, at: At = None, min_position: MinPosition = None
) -> Response:
    """One user, as it is or as it was."""
    return await show(request, USER, user_id, min_position, version=version, at=at)


@router.get(
    "/users/{user_id}/history",
    role="auditor",
    response_model=list[Change],
    responses={200: headers("Link"), **errors({404: "user-not-found"}), **PAST},
)
async def list_versions(
    request: Request, user_id: UserId, after: After = 0, limit: Limit = 100, min_position: MinPosition = None
) -> Response:
    """Every version of a user: what changed, when, and by which command."""
    return await show_history(request, "user", user_id, history.changed, min_position, after=after, limit=limit)


@router.get("/users/", role="reader", response_model=list[User], responses=PAGE)
async def list_users(
    request: Request,
    after: After = 0,
    limit: Limit = 100,
    email: Annotated[
        Email | None,
        Query(description="Only who holds this address, however it is spelled", examples=["john.doe@example.com"]),
    ] = None,
    active: Active = None,
    min_position: MinPosition = None,
) -> Response:
    """Users in order of their number."""
    if email is None:
        which, query = read_model.users, partial(read_model.users_after, user_id=after, active=active)
    else:
        which, query = emails.emails, partial(emails.users_with, email=email, after=after, active=active)
    return await show_page(request, which, query, min_position, limit=limit, key="user_id")
