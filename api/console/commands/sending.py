"""How a command is sent: the route that takes it, and the line of `curl` that sends it again."""

import re
from collections.abc import Iterable, Mapping
from shlex import quote
from typing import Any
from uuid import uuid4

from fastapi import FastAPI
from pydantic_core import to_json

from api.http.access import named
from api.http.headers import ANY, tag_of
from api.http.routing import Route
from shared.preconditions import EXISTS, Precondition
from shared.stores.inbox import Accepted

PARAMETER = re.compile(r"{(\w+)}")


def routes(app: FastAPI) -> dict[str, Route]:
    """The route that takes each type of command: its endpoint is named after the command, `create_user`."""
    listed = (each for each in app.routes if isinstance(each, Route) and each.include_in_schema)
    return {_type_of(each.name): each for each in listed if "GET" not in (each.methods or ())}


def again(
    route: Route, command: Accepted, data: Mapping[str, Any], hidden: Iterable[str], *, url: str, closed: bool
) -> str:
    """The line that sends a command again, under a new idempotency key; `<name>` stands for what is hidden."""
    values = {**data, **{name: f"<{name}>" for name in hidden}}
    path = PARAMETER.sub(lambda each: str(values.get(each[1], f"<{each[1]}>")), route.path)
    words = ["curl", "-X", *(route.methods or ()), quote(f"{url.rstrip('/')}{path}")]
    if closed and named(route.role):
        words += ["-H", '"Authorization: Bearer $CQRS_API_KEY"']
    for header in (f"Idempotency-Key: {uuid4()}", *_conditions(command)):
        words += ["-H", quote(header)]
    if body := _body(route, values):
        words += ["-H", quote("Content-Type: application/json"), "-d", quote(to_json(body).decode())]
    return " ".join(words)


def _type_of(endpoint: str) -> str:
    return "".join(word.capitalize() for word in endpoint.split("_"))


def _body(route: Route, values: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the values that the route's body has."""
    fields = getattr(route.body_field and route.body_field.field_info.annotation, "model_fields", {})
    return {name: values[name] for name in fields if values.get(name) is not None}


def _conditions(command: Accepted) -> Iterable[str]:
    """The headers by which the command asks for a version of its stream."""
    if not command.precondition:
        if command.expected_version is not None:
            yield f"If-Match: {tag_of(command.expected_version)}"
        return
    asked = Precondition.stored(command.precondition)
    if asked == EXISTS:
        yield f"If-Match: {ANY}"
    elif asked.versions == {0}:
        yield f"If-None-Match: {ANY}"
    else:
        tags = ", ".join(tag_of(version) for version in sorted(asked.versions))
        yield f"{'If-None-Match' if asked.excluded else 'If-Match'}: {tags}"
