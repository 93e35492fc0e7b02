"""Every error as RFC 9457 problem details."""

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from itertools import islice
from typing import Any
from urllib.parse import quote

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from pydantic_core import to_json
from sqlalchemy.exc import DBAPIError
from starlette.exceptions import HTTPException
from starlette.routing import Match

from shared.errors.reasons import reason_of
from shared.errors.visible import shortened
from shared.messages import UnknownShape

MEDIA_TYPE = "application/problem+json"

RETRY_AFTER = "1"
"""Seconds."""

MAX_FIELD, MAX_DETAIL, MAX_ERRORS = 100, 500, 20
"""Characters of what names a field, and of what says what is wrong with it or with all; fields that are named."""


class FieldError(BaseModel):
    location: str = Field(alias="in", examples=["body"], description="`body`, `path`, `query` or `header`")
    field: str = Field(examples=["email"])
    detail: str = Field(examples=["An email address must have an @-sign."])


class Details(BaseModel):
    """Problem details, RFC 9457."""

    type: str = Field(examples=["/problems/email-taken"])
    title: str = Field(examples=["Email taken"])
    status: int = Field(examples=[409])
    detail: str = Field(examples=["The email john.doe@example.com is taken."])
    instance: str | None = Field(None, description="The command that came to this, if one did")
    errors: list[FieldError] | None = Field(None, description="What is wrong with each field, if it is fields")


class Problem(HTTPException):
    """An error as the caller sees it. `type` is its name, as in `email-taken`."""

    def __init__(
        self, type: str, status: int, detail: str, *, headers: Mapping[str, str] | None = None, **more: Any
    ) -> None:
        super().__init__(status, detail, headers)
        self.name = type
        self.document = document(type, status, detail, **more)

    def response(self) -> Response:
        return Response(to_json(self.document), self.document["status"], self.headers, MEDIA_TYPE)


def document(type: str, status: int, detail: str, **more: Any) -> dict[str, Any]:
    """However long what it tells of was: its detail has an end."""
    title, detail = type.replace("-", " ").capitalize(), shortened(detail, MAX_DETAIL)
    return {"type": f"/problems/{type}", "title": title, "status": status, "detail": detail, **more}


def unavailable(type: str, detail: str) -> Problem:
    return Problem(type, 503, detail, headers={"Retry-After": RETRY_AFTER})


def too_many(type: str, detail: str) -> Problem:
    """One client has all that it may have: RFC 6585, section 4."""
    return Problem(type, 429, detail, headers={"Retry-After": RETRY_AFTER})


def invalid(errors: Iterable[Mapping[str, Any]]) -> Problem:
    """Of Pydantic's errors, each with the part of the request that it is in before its field."""
    shown = [_field_error(each) for each in islice(errors, MAX_ERRORS)]
    detail = "; ".join(f"{each['field'] or each['in']}: {each['detail']}" for each in shown)
    return Problem("invalid-request", 422, detail, errors=shown)


def install(app: FastAPI) -> None:
    """Make `app` answer every error as a problem."""
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(DBAPIError, _store)
    app.add_exception_handler(UnknownShape, _newer)
    app.add_exception_handler(Exception, _bug)


async def _problem(request: Request, problem: Exception) -> Response:
    assert isinstance(problem, Problem)
    return problem.response()


def _field_error(error: Mapping[str, Any]) -> dict[str, str]:
    where, *path = error["loc"]
    field, detail = ".".join(map(str, path)), error["msg"].removeprefix("Value error, ")
    return {"in": where, "field": shortened(field, MAX_FIELD), "detail": shortened(detail, MAX_DETAIL)}


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # of FastAPI's own routes
    return invalid(error.errors()).response()


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    headers = dict(error.headers or {})
    detail = str(error.detail)
    if error.status_code == 404:
        if other := _with_or_without_slash(request):
            return Response(status_code=307, headers={"Location": other})
        detail = f"There is nothing at {request.url.path}."
    if error.status_code == 405:
        headers["Allow"] = ", ".join(_methods(request)) or headers.get("Allow", "GET")
        detail = f"{request.method} is not among {headers['Allow']}."
    if error.status_code == 400:
        return Problem("malformed-json", 400, detail).response()
    name = HTTPStatus(error.status_code).phrase.lower().replace(" ", "-")
    return Problem(name, error.status_code, detail, headers=headers).response()


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


async def _store(request: Request, error: Exception) -> Response:
    assert isinstance(error, DBAPIError)
    return unavailable("store-unavailable", f"A store does not answer: {reason_of(error)}.").response()


async def _newer(request: Request, error: Exception) -> Response:
    return unavailable("newer-event", f"{error}; another one is being deployed.").response()


async def _bug(request: Request, error: Exception) -> Response:
    return Problem("internal-server-error", 500, "This is a bug. The log has its traceback.").response()
