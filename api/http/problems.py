"""Every error as RFC 9457 problem details."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from http import HTTPStatus
from itertools import islice
from typing import Any
from urllib.parse import quote

from fastapi import FastAPI, Request, Response
from pydantic import BaseModel, Field
from pydantic_core import to_json
from starlette.exceptions import HTTPException
from starlette.routing import Match
from starlette.types import Scope

from shared.errors.visible import shortened

MEDIA_TYPE = "application/problem+json"

RETRY_AFTER = "1"
"""Seconds."""

MAX_FIELD, MAX_DETAIL, MAX_ERRORS = 100, 500, 20
"""Characters of what names a field, and of what says what is wrong with it or with all; fields that are named."""


class FieldError(BaseModel):
    """What is wrong with one field of a request."""

    location: str = Field(alias="in", examples=["body"], description="`body`, `path`, `query` or `header`")
    field: str = Field(examples=["email"])
    detail: str = Field(examples=["An email address must have an @-sign."])


class Details(BaseModel):
    """Problem details, RFC 9457."""

    type: str = Field(examples=["/problems/email-taken"])
    title: str = Field(examples=["Email taken"])
    status: int = Field(examples=[409])
    detail: str = Field(examples=["This email is taken."])
    instance: str | None = Field(None, description="The command that came to this, if one did")
    errors: list[FieldError] | None = Field(None, description="What is wrong with each field, if it is fields")


class Problem(HTTPException):
    """An error as the caller sees it. `type` is its name, as in `email-taken`; `more` are other members of Details."""

    def __init__(
        self, type: str, status: int, detail: str, *, headers: Mapping[str, str] | None = None, **more: Any
    ) -> None:
        super().__init__(status, detail, headers)
        self.name = type
        self.document = document(type, status, detail, **more)

    def response(self) -> Response:
        """The answer to the request that has it."""
        return Response(to_json(self.document), self.document["status"], self.headers, MEDIA_TYPE)


Answer = Callable[[Scope, Problem], Response]
"""Makes the answer to a request that has a problem."""


def as_json(_: Scope, problem: Problem) -> Response:
    """The answer as problem details."""
    return problem.response()


def document(type: str, status: int, detail: str, **more: Any) -> dict[str, Any]:
    """Details as JSON has them; a long `detail` is cut off at MAX_DETAIL characters."""
    title, detail = type.replace("-", " ").capitalize(), shortened(detail, MAX_DETAIL)
    return {"type": f"/problems/{type}", "title": title, "status": status, "detail": detail, **more}


def unavailable(type: str, detail: str) -> Problem:
    """A 503: the client may try again after a moment."""
    return Problem(type, 503, detail, headers={"Retry-After": RETRY_AFTER})


def too_many(type: str, detail: str) -> Problem:
    """A 429: one client has all that it may have (RFC 6585, section 4)."""
    return Problem(type, 429, detail, headers={"Retry-After": RETRY_AFTER})


def not_found(path: str) -> Problem:
    """A 404 for a path that leads nowhere."""
    return Problem("not-found", 404, f"There is nothing at {path}.")


def invalid(errors: Iterable[Mapping[str, Any]]) -> Problem:
    """A 422 made of Pydantic's errors; each has the part of the request that it is in before its field."""
    shown = [_field_error(each) for each in islice(errors, MAX_ERRORS)]
    detail = "; ".join(f"{each['field'] or each['in']}: {each['detail']}" for each in shown)
    return Problem("invalid-request", 422, detail, errors=shown)


def install(app: FastAPI, others: Mapping[type[Exception], Callable[[Any], Problem]], answer: Answer) -> None:
    """Make `app` answer every error as a problem. `others`: what to make of errors that are not known here."""
    known: dict[type[Exception], Callable[[Any], Problem]] = {
        Problem: lambda problem: problem,
        Exception: lambda _: Problem("internal-server-error", 500, "This is a bug. The log has its traceback."),
        **others,
    }
    for kind, problem_of in known.items():
        app.add_exception_handler(kind, _answering(problem_of, answer))
    app.add_exception_handler(HTTPException, partial(_answer_http, answer))


def _answering(problem_of: Callable[[Any], Problem], answer: Answer) -> Any:
    async def answer_error(request: Request, error: Exception) -> Response:
        return answer(request.scope, problem_of(error))

    return answer_error


def _field_error(error: Mapping[str, Any]) -> dict[str, str]:
    where, *path = error["loc"]
    field, detail = ".".join(map(str, path)), error["msg"].removeprefix("Value error, ")
    return {"in": where, "field": shortened(field, MAX_FIELD), "detail": shortened(detail, MAX_DETAIL)}


async def _answer_http(answer: Answer, request: Request, error: Exception) -> Response:
    """Answer Starlette's own errors, such as those of its router."""
    assert isinstance(error, HTTPException)
    headers = dict(error.headers or {})
    detail = str(error.detail)
    if error.status_code == 404:
        if other := _with_or_without_slash(request):
            return Response(status_code=307, headers={"Location": other})
        return answer(request.scope, not_found(request.url.path))
    if error.status_code == 405:
        headers["Allow"] = ", ".join(_methods(request)) or headers.get("Allow", "GET")
        detail = f"{request.method} is not among {headers['Allow']}."
    if error.status_code == 400:
        return answer(request.scope, Problem("malformed-json", 400, detail))
    name = HTTPStatus(error.status_code).phrase.lower().replace(" ", "-")
    return answer(request.scope, Problem(name, error.status_code, detail, headers=headers))


def _with_or_without_slash(request: Request) -> str | None:
    """The path beside the one asked for, if there is something. It doesn't name the host, which anybody may make up."""
    path = request.url.path
    other = path.rstrip("/") if path.endswith("/") else f"{path}/"
    if not any(r.matches({**request.scope, "path": other})[0] is not Match.NONE for r in request.app.routes):
        return None
    return f"{quote(other)}?{request.url.query}" if request.url.query else quote(other)


def _methods(request: Request) -> list[str]:
    """Every method the path takes: the router itself names only those of the first route that fits."""
    found = {m for r in request.app.routes if r.matches(request.scope)[0] is not Match.NONE for m in r.methods}
    return sorted(found | {"HEAD"} if "GET" in found else found)
