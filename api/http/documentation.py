"""What the OpenAPI page says beyond the types: answers, headers, and errors with an example each."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, Field
from pydantic_core import to_json

from api.http.access import Roles, named
from api.http.problems import MEDIA_TYPE, Details, document

Responses = dict[int | str, dict[str, Any]]

HEADERS = {
    "ETag": "The version, in quotes",
    "Idempotency-Replayed": "`true`: this is the first answer again",
    "Link": 'The next page, if there is one: `<…>; rel="next"`',
    "Location": "The command, or what it created if that is there already",
    "Preference-Applied": "`wait=N`, as it was honoured",
    "RateLimit": 'What is left of the rate, as in `"key";r=0;t=1` (draft-ietf-httpapi-ratelimit-headers-11)',
    "RateLimit-Policy": 'The rate, as in `"key";q=1000;w=1`: requests in a second',
    "Retry-After": "Seconds",
    "WWW-Authenticate": "What is asked for, or what was wrong with it (RFC 6750)",
}

SCHEME = "key"
"""The name of the security scheme."""

SCHEMES = {
    SCHEME: {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "cqrs_… or JWT",
        "description": "A key of this service, or a token of the identity provider. The roles stand beside each route.",
    }
}

AFTER_WAITING = "Idempotency-Replayed", "Preference-Applied"

ERASED: Any = Field(False, description="`true` where personal fields are null, since the person was erased")
UNREADABLE: Any = Field(False, description="`true` where personal fields are null, since the person's key is lost")


class Command(BaseModel):
    """A command that was accepted. `version` and `position` come with success, `problem` with the other ends."""

    command_id: str = Field(examples=["019aaf3e-5c10-7cc3-98c4-dc0c0c07398f"])
    type: str = Field(examples=["CreateUser"])
    status: Literal["accepted", "succeeded", "rejected", "failed"] = Field(examples=["succeeded"])
    user_id: int | None = Field(None, examples=[1], description="Another aggregate's number is named after it")
    correlation_id: str | None = Field(
        examples=["9f86d081884c7d659a2feaa0c55ad015"], description="The `X-Request-ID` it was accepted under"
    )
    principal: str | None = Field(
        examples=["key:5f0c9a1e"], description="Who sent it: a key, a token's subject, or `local` where the API is open"
    )
    accepted_at: str = Field(examples=["2026-01-31T12:00:00.000000Z"])
    handled_at: str | None = Field(examples=["2026-01-31T12:00:00.004000Z"])
    version: int | None = Field(examples=[1], description="The version of its stream after the command")
    position: int | None = Field(examples=[1], description="What to ask queries for as `min_position`")
    problem: Details | None = Field(examples=[None])
    links: dict[str, str] = Field(
        examples=[{"self": "/commands/019aaf3e-5c10-7cc3-98c4-dc0c0c07398f", "user": "/users/1"}]
    )


class Change(BaseModel):
    """A version of an aggregate: one event."""

    version: int = Field(examples=[2])
    type: str = Field(description="The name of the event")
    changed: dict[str, Any] = Field(
        examples=[{"email": "john.new@example.com"}], description="Fields, with what they were then"
    )
    position: int = Field(examples=[2], description="Its place in the log")
    recorded_at: str = Field(examples=["2026-01-31T12:00:00.004000Z"])
    command_id: str | None = Field(examples=["019aaf3e-5c10-7cc3-98c4-dc0c0c07398f"], description="What it came of")
    principal: str | None = Field(examples=["key:5f0c9a1e"], description="Who sent that command")
    links: dict[str, str] = Field(
        examples=[{"self": "/users/1?version=2", "command": "/commands/019aaf3e-5c10-7cc3-98c4-dc0c0c07398f"}]
    )
    erased: bool = ERASED
    unreadable: bool = UNREADABLE


def headers(*names: str) -> dict[str, Any]:
    """An answer's headers, for `responses` of a route."""
    return {"headers": {name: {"description": HEADERS[name], "schema": {"type": "string"}} for name in names}}


def errors(problems: Mapping[int, str], *headers_: str) -> Responses:
    """Problems by status, as in `{409: "email-taken"}`, with a space between several. Each may have the headers."""
    return {status: _error(status, names.split(), headers_) for status, names in problems.items()}


def stream_of(model: type[BaseModel], *, id: str) -> dict[str, Any]:
    """Server-sent events whose data is the model's JSON; `id` says what their ids are."""
    example = {name: field.examples[0] for name, field in model.model_fields.items() if field.examples}
    text = f"id: 1\ndata: {to_json(example).decode()}\n\n"
    return {
        "description": f"Server-sent events: data is {model.__name__} as JSON, id its {id}",
        "content": {"text/event-stream": {"schema": {"type": "string"}, "example": text}},
    }


def accepts(result: int, model: type[BaseModel], problems: Mapping[int, str] = {}) -> Responses:
    """The answers of a command's route.

    `result` is the status for who waits, 201 or 200, `model` what it answers then, `problems` the command's own ones.
    """
    verb, names = ("Created", ["Location"]) if result == 201 else ("Changed", [])
    visible = {"model": model, "description": f"{verb} and visible, for `Prefer: wait`"}
    return {**erases(problems), result: {**visible, **headers(*names, "ETag", *AFTER_WAITING)}}


def erases(problems: Mapping[int, str]) -> Responses:
    """The answers of a command's route that leaves nothing to show: who waits gets the command with its outcome."""
    return {**COMMAND, **errors(problems, *AFTER_WAITING)}


def shows(problem: str, *, gone: str = "") -> Responses:
    """The answers of a route that shows one aggregate; `problem` has the names of those with status 404, `gone` 410."""
    return {
        200: headers("ETag"),
        304: {"description": "Still the version named in `If-None-Match`", **headers("ETag")},
        **errors({400: "malformed-header", 404: problem, 412: "version-conflict"}),
        **(errors({410: gone}) if gone else {}),
        **QUERY,
    }


def _condition(name: str, description: str) -> dict[str, Any]:
    schema = {"type": "string", "example": '"1", "2"'}
    return {"name": name, "in": "header", "required": False, "description": description, "schema": schema}


def _error(status: int, names: list[str], headers_: tuple[str, ...]) -> dict[str, Any]:
    examples = {name: {"value": document(name, status, "…")} for name in names}
    retry = ["Retry-After"] if status in {429, 503} else []
    rate = ["RateLimit-Policy", "RateLimit"] if "too-many-requests" in names else []
    return {
        "description": " or ".join(f"`{name}`" for name in names),
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Details"}, "examples": examples}},
        **headers(*headers_, *retry, *rate),
    }


def refusals(roles: Roles) -> Responses:
    """The answers of a route to requests that may not be made."""
    if roles == "public":
        return {}
    unauthenticated = errors({401: "unauthenticated invalid-credentials", 403: "missing-role"}, "WWW-Authenticate")
    return unauthenticated | errors({429: "too-many-requests", 503: "credentials-unavailable"})


def security(roles: Roles) -> dict[str, Any]:
    """What the page says of the credentials that a route needs, as OpenAPI has it (3.1, section 4.8.30)."""
    return {} if roles == "public" else {"security": [{SCHEME: list(named(roles))}]}


INVALID = errors({422: "invalid-request"})

_POSITION = {422: "invalid-request position-unknown"}

QUERY = errors(
    {**_POSITION, 429: "too-many-requests too-many-waits-of-client", 503: "store-unavailable read-model-behind"}
)
"""What may be wrong with a query of a projection."""

PAGE = {200: headers("Link"), **QUERY}
"""The answers of a route that lists rows of a projection."""

LOG = errors({**_POSITION, 503: "store-unavailable"})

PAST = errors({**_POSITION, 503: "store-unavailable read-model-behind newer-event"})

STREAM = errors({429: "too-many-requests too-many-streams-of-client", 503: "store-unavailable too-many-streams"})

CONDITIONS: dict[str, Any] = {
    "parameters": [
        _condition("If-Match", "Only if it is at one of these versions, or is there at all: `*`"),
        _condition("If-None-Match", "Only if it is at none of these versions, or isn't there: `*`"),
    ]
}
"""What `openapi_extra` says of conditional requests (RFC 9110, section 13.1)."""

COMMAND: Responses = {
    202: {
        "model": Command,
        "description": "Accepted and durable; what becomes of it stands at `Location`",
        **headers("Location", *AFTER_WAITING),
    },
    **errors(
        {
            400: "malformed-json malformed-header",
            413: "content-too-large",
            415: "unsupported-media-type",
            422: "invalid-request idempotency-key-reused",
            503: "store-unavailable backlog-full",
        }
    ),
    **errors({412: "version-conflict", 500: "command-failed internal-server-error"}, *AFTER_WAITING),
}
