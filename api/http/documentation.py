"""What the OpenAPI page says beyond the types: headers, and errors with an example each."""

from typing import Any

from pydantic import BaseModel
from pydantic_core import to_json

from api.http.problems import MEDIA_TYPE, document
from shared.domain.projections import PROJECTIONS

Responses = dict[int | str, dict[str, Any]]

TYPES = list(dict.fromkeys(type for each in PROJECTIONS.values() for type in each.events))
"""Of events."""

HEADERS = {
    "ETag": "The version, in quotes",
    "Idempotency-Replayed": "`true`: this is the first answer again",
    "Link": 'The next page, if there is one: `<…>; rel="next"`',
    "Location": "The command, or what it created if that is there already",
    "Preference-Applied": "`wait=N`, as it was honoured",
    "Retry-After": "Seconds",
}

AFTER_WAITING = "Idempotency-Replayed", "Preference-Applied"


def headers(*names: str) -> dict[str, Any]:
    return {"headers": {name: {"description": HEADERS[name], "schema": {"type": "string"}} for name in names}}


def errors(*headers_: str, **problems: str) -> Responses:
    """Errors by status: `_409="email-taken"`, several with a space between. Each may have the headers."""
    return {int(status[1:]): _error(int(status[1:]), names.split(), headers_) for status, names in problems.items()}


def _condition(name: str, description: str) -> dict[str, Any]:
    schema = {"type": "string", "example": '"1", "2"'}
    return {"name": name, "in": "header", "required": False, "description": description, "schema": schema}


def _error(status: int, names: list[str], headers_: tuple[str, ...]) -> dict[str, Any]:
    examples = {name: {"value": document(name, status, "…")} for name in names}
    return {
        "description": " or ".join(f"`{name}`" for name in names),
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Details"}, "examples": examples}},
        **headers(*headers_, *(["Retry-After"] if status in {429, 503} else [])),
    }


def stream_of(model: type[BaseModel], *, id: str) -> dict[str, Any]:
    """Server-sent events whose data is the model's JSON; `id` says what their ids are."""
    example = {name: field.examples[0] for name, field in model.model_fields.items() if field.examples}
    text = f"id: 1\ndata: {to_json(example).decode()}\n\n"
    return {
        "description": f"Server-sent events: data is {model.__name__} as JSON, id its {id}",
        "content": {"text/event-stream": {"schema": {"type": "string"}, "example": text}},
    }


INVALID = errors(_422="invalid-request")

QUERY = errors(
    _422="invalid-request position-unknown", _429="too-many-waits-of-client", _503="store-unavailable read-model-behind"
)

LOG = errors(_422="invalid-request position-unknown", _503="store-unavailable")

PAST = errors(_422="invalid-request position-unknown", _503="store-unavailable read-model-behind newer-event")

STREAM = errors(_429="too-many-streams-of-client", _503="store-unavailable too-many-streams")

CONDITIONS: dict[str, Any] = {
    "parameters": [
        _condition("If-Match", "Only if it is at one of these versions, or is there at all: `*`"),
        _condition("If-None-Match", "Only if it is at none of these versions, or isn't there: `*`"),
    ]
}
"""What `openapi_extra` says of conditional requests (RFC 9110, section 13.1)."""

COMMAND: Responses = {
    202: {
        "description": "Accepted and durable; what becomes of it stands at `Location`",
        **headers("Location", *AFTER_WAITING),
    },
    **errors(
        _400="malformed-json malformed-header",
        _413="content-too-large",
        _415="unsupported-media-type",
        _422="invalid-request idempotency-key-reused",
        _503="store-unavailable backlog-full",
    ),
    **errors(*AFTER_WAITING, _412="version-conflict", _500="command-failed internal-server-error"),
}
