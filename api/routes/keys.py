"""Keys: operators see, add, rotate and revoke them. A key's text is made here, shown once, and stored nowhere."""

from collections.abc import Collection
from typing import Annotated, Any

from fastapi import Path, Request, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import to_json

from api.http.documentation import Command, errors
from api.http.headers import Prefer
from api.http.problems import Problem
from api.http.routing import Router
from api.routes.deeds import operate, operates
from api.routes.submit import IdempotencyKey
from shared.access.keys import NAME, Key, digest_of, new_key
from shared.access.roles import ROLES, Role
from shared.clock import now, parsed, written
from shared.decider import Rejected
from shared.operations import key_table
from shared.operations.commands import AddKey, RevokeKey, RotateKey
from shared.operations.key_table import KnownKey

router = Router(tags=["keys"])

Time = Annotated[str, AfterValidator(lambda text: written(parsed(text)))]
"""RFC 3339, as it is stored."""

KeyId = Annotated[str, Path(description="The key's id", examples=["5f0c9a1e"])]


class NewKey(BaseModel):
    """What a new key is to be."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(pattern=NAME, examples=["billing"], description="Its holder: an app or a person")
    roles: list[Role] = Field(min_length=1, examples=[["reader", "writer"]])
    expires_at: Time | None = Field(None, examples=["2026-04-30T12:00:00Z"])


class Rotation(BaseModel):
    """How a key is rotated."""

    model_config = ConfigDict(extra="forbid")

    old_until: Time | None = Field(
        None, examples=["2026-01-31T13:00:00Z"], description="Until when the old secret goes on working"
    )


class KeyShown(BaseModel):
    """A key without its secret. Times are None for never, or not yet."""

    id: str = Field(examples=["5f0c9a1e"])
    name: str = Field(examples=["billing"])
    roles: list[Role] = Field(examples=[["reader", "writer"]])
    created_at: str = Field(examples=["2026-01-31T12:00:00.004000Z"])
    created_by: str = Field(examples=["key:0f0c9a1e"])
    expires_at: str | None
    revoked_at: str | None
    old_until: str | None
    state: str = Field(examples=["active"], description="`active`, `expired` or `revoked`")


class Shown(Command):
    """The command with the key, which is shown only this once: not when the request is sent again."""

    key: str | None = Field(None, examples=["cqrs_…"])


@router.get("/keys/", role="operator", response_model=list[KeyShown], responses=errors({503: "store-unavailable"}))
async def list_keys(request: Request) -> Response:
    """All keys that were ever made, expired and revoked ones too."""
    service = request.app.state.service
    known = await service.log.read(key_table.all_keys)
    return Response(to_json([each.shown() for each in known]), media_type="application/json")


@router.post("/keys/", role="operator", status_code=202, responses=operates({}, Shown))
async def add_key(
    request: Request, body: NewKey, idempotency_key: IdempotencyKey = None, prefer: Prefer = None
) -> Response:
    """Accept a new key, and show it, only this once. It works once the command has succeeded."""
    key, given, made = added(body.name, body.roles, body.expires_at)
    return await operate(
        request, AddKey, given, made=made, key=key.text, idempotency_key=idempotency_key, prefer=prefer
    )


@router.post(
    "/keys/{key_id}/rotation",
    role="operator",
    status_code=202,
    responses=operates({404: "key-not-found", 409: "key-revoked key-expired"}, Shown),
)
async def rotate_key(
    request: Request,
    key_id: KeyId,
    body: Rotation | None = None,
    idempotency_key: IdempotencyKey = None,
    prefer: Prefer = None,
) -> Response:
    """Accept that a key gets a new secret, and show it, only this once."""
    key, given, made = rotated(await known_key(request, key_id), body.old_until if body else None)
    return await operate(
        request, RotateKey, given, made=made, key=key.text, idempotency_key=idempotency_key, prefer=prefer
    )


@router.delete(
    "/keys/{key_id}", role="operator", status_code=202, responses=operates({404: "key-not-found", 409: "key-revoked"})
)
async def revoke_key(
    request: Request, key_id: KeyId, idempotency_key: IdempotencyKey = None, prefer: Prefer = None
) -> Response:
    """Accept that a key is refused for good, within a second."""
    known = await known_key(request, key_id)
    given = {"key_id": known.id, "name": known.name}
    return await operate(request, RevokeKey, given, idempotency_key=idempotency_key, prefer=prefer)


Making = tuple[Key, dict[str, Any], dict[str, str]]
"""A key with its text, and the fields of the deed by which it counts: those that were given, and those that weren't."""


def added(name: str, roles: Collection[Role], expires_at: str | None) -> Making:
    """A new key, and the fields of AddKey."""
    key = new_key()
    given: dict[str, Any] = {"name": name, "roles": [each for each in ROLES if each in roles]}
    if expires_at:
        given["expires_at"] = expires_at
    return key, given, {"key_id": key.id, "digest": digest_of(key.text)}


def rotated(known: KnownKey, old_until: str | None) -> Making:
    """A key with another text, and the fields of RotateKey. `old_until` None: the one before counts no more."""
    key = new_key(known.id)
    given, made = {"key_id": known.id, "name": known.name}, {"digest": digest_of(key.text)}
    if old_until:
        return key, {**given, "old_until": old_until}, made
    return key, given, {**made, "old_until": now()}


async def known_key(request: Request, key_id: str) -> KnownKey:
    """The key with this id. Raises Problem if there is none, or a store's error."""
    service = request.app.state.service
    try:
        known: KnownKey = await service.log.read(key_table.find, key_id)
    except Rejected as no:
        raise Problem(no.type, no.status, no.detail) from None
    return known
