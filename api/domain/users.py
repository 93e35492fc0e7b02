"""Users: the commands that change them, and what the read model shows of them."""

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import to_json

from api.domain.addresses import Email
from api.domain.names import Name
from api.http.documentation import AFTER_WAITING, COMMAND, CONDITIONS, PAST, QUERY, errors, headers
from api.http.paging import MAX_INTEGER, After, Limit, MinPosition, page
from api.http.preconditions import tag_of, unmet
from api.http.preferences import Prefer
from api.http.routing import Route
from api.routes import history
from api.routes.submit import Command, IdempotencyKey, submit
from api.service import Service, turn
from shared.domain.users import history as past
from shared.domain.users.messages import CreateUser, UpdateUserEmail
from shared.domain.users.read_models import emails
from shared.domain.users.read_models import users as read_model
from shared.stores.inbox import Submission

router = APIRouter(tags=["users"], route_class=Route)

PROJECTION = read_model.users.name
BY_EMAIL = emails.emails.name

UserId = Annotated[int, Path(ge=1, le=MAX_INTEGER, description="The user's number")]


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)


class NewUser(Body):
    first_name: Name = Field(examples=["John"])
    last_name: Name = Field(examples=["Doe"])
    email: Email = Field(examples=["john.doe@example.com"])


class NewEmail(Body):
    email: Email = Field(examples=["john.new@example.com"])


class User(BaseModel):
    user_id: int = Field(examples=[1])
    first_name: str = Field(examples=["John"])
    last_name: str = Field(examples=["Doe"])
    email: str = Field(examples=["john.new@example.com"])
    version: int = Field(examples=[2])


@router.post(
    "/users/",
    status_code=202,
    response_model=Command,
    responses={
        **COMMAND,
        201: {
            "model": User,
            "description": "Created and visible, for `Prefer: wait`",
            **headers("Location", "ETag", *AFTER_WAITING),
        },
        **errors(*AFTER_WAITING, _409="email-taken"),
    },
)
async def create_user(
    request: Request, body: NewUser, idempotency_key: IdempotencyKey = None, prefer: Prefer = None
) -> Response:
    """Accept a new user. The number in the answer is good at once: commands to it are handled after this one."""
    submission = Submission(CreateUser.__name__, "user", None, body.model_dump(), idempotency_key=idempotency_key)
    return await submit(request, submission, prefer, projection=PROJECTION, query=read_model.user, done=_created)


@router.put(
    "/users/{user_id}",
    status_code=202,
    response_model=Command,
    responses={
        **COMMAND,
        200: {
            "model": User,
            "description": "Changed and visible, for `Prefer: wait`",
            **headers("ETag", *AFTER_WAITING),
        },
        **errors(*AFTER_WAITING, _404="user-not-found", _409="email-taken"),
    },
    openapi_extra=CONDITIONS,
)
async def update_user_email(
    request: Request, user_id: UserId, body: NewEmail, idempotency_key: IdempotencyKey = None, prefer: Prefer = None
) -> Response:
    """Accept a new e-mail address for a user."""
    name = UpdateUserEmail.__name__
    submission = Submission(name, "user", user_id, body.model_dump(), idempotency_key=idempotency_key)
    return await submit(request, submission, prefer, projection=PROJECTION, query=read_model.user, done=_updated)


@router.get(
    "/users/{user_id}",
    response_model=User,
    responses={
        200: headers("ETag"),
        304: {"description": "Still the version named in `If-None-Match`", **headers("ETag")},
        **errors(_400="malformed-header", _404="user-not-found version-not-found", _412="version-conflict"),
        **PAST,
    },
    openapi_extra=CONDITIONS,
)
async def show_user(
    request: Request,
    user_id: UserId,
    version: history.Version = None,
    at: history.At = None,
    min_position: MinPosition = None,
) -> Response:
    """One user, as it is or as it was."""
    service = Service.of(request)
    if version or at:
        await service.require_logged(min_position)
        async with turn(request, service.log):
            user = await history.as_of(service, "user", user_id, past.fold, version=version, at=at)
    else:
        await service.require(request, PROJECTION, min_position)
        user = await _find(service, user_id)
    return unmet(request, user.version) or _response(user, 200, {})


@router.get(
    "/users/{user_id}/history",
    response_model=list[history.Change],
    responses={200: headers("Link"), **errors(_404="user-not-found"), **PAST},
)
async def list_versions(
    request: Request, user_id: UserId, after: After = 0, limit: Limit = 100, min_position: MinPosition = None
) -> Response:
    """Every version of a user: what changed, when, and by which command."""
    await Service.of(request).require_logged(min_position)
    return await history.show_changes(request, "user", user_id, past.changed, after=after, limit=limit)


@router.get("/users/", response_model=list[User], responses={200: headers("Link"), **QUERY})
async def list_users(
    request: Request,
    after: After = 0,
    limit: Limit = 100,
    email: Annotated[
        Email | None,
        Query(description="Only who holds this address, however it is spelled", examples=["john.doe@example.com"]),
    ] = None,
    min_position: MinPosition = None,
) -> Response:
    """Users in order of their number."""
    service = Service.of(request)
    which = PROJECTION if email is None else BY_EMAIL
    await service.require(request, which, min_position)
    if email is None:
        query = partial(read_model.users_after, user_id=after, limit=limit + 1)
    else:
        query = partial(emails.users_with, email=email, after=after, limit=limit + 1)
    async with turn(request, store := service.read_models[which]):
        users = await store.read(query)
        return await page(request, users, read_model.User._asdict, limit=limit, key="user_id")


def _created(user: read_model.User, extra: dict[str, str]) -> Response:
    return _response(user, 201, extra | {"Location": f"/users/{user.user_id}"})


def _updated(user: read_model.User, extra: dict[str, str]) -> Response:
    return _response(user, 200, extra)


async def _find(service: Service, user_id: int) -> read_model.User:
    user = await service.read_models[PROJECTION].read(read_model.user, user_id)
    if not user:
        raise history.nothing("user", user_id)
    return user


def _response(user: read_model.User, status: int, extra: dict[str, str]) -> Response:
    headers = extra | {"ETag": tag_of(user.version)}
    return Response(to_json(user._asdict()), status, headers, "application/json")
