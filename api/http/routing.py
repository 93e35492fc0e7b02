"""Reading requests: FastAPI's routes and its page, and Pydantic alone between a request and its endpoint."""

import codecs
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from inspect import iscoroutinefunction
from typing import Any, TypeVar, get_origin

from fastapi import Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from pydantic import ConfigDict, TypeAdapter, ValidationError, create_model
from pydantic_core import from_json
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from api.http.access import Access, Roles
from api.http.documentation import INVALID, refusals, security
from api.http.problems import MAX_ERRORS, Problem, invalid, not_found
from shared.messages import has_numbers_only

JSON = re.compile(r"application/(\S+\+)?json[ \t]*(;|$)", re.IGNORECASE)

NO_NUMBERS = re.compile(rb"NaN|Infinity|[0-9][eE]\+?[0-9]{3}")
"""What Pydantic reads as a float, though JSON has no such number, may look like this."""

MAX_PARAMETERS = 100
"""Parameters of a query at most: to check ten thousand takes the time of other requests."""

Errors = list[Any]

Endpoint = TypeVar("Endpoint", bound=Callable[..., Awaitable[Response]])


class Route(APIRoute):
    """A route whose endpoint takes the request and what its signature names, and returns a Response.

    FastAPI's own route looks at the signature's types again for each request, which costs more than all the API does.
    What this one doesn't know, like `Depends` and dependencies of the app or of a router, it refuses or leaves out.
    """

    def __init__(self, path: str, endpoint: Callable[..., Awaitable[Response]], *, role: Roles, **options: Any) -> None:
        """`role`: what a request needs, as in Roles; the other options are FastAPI's."""
        self.role = role
        options["responses"] = {**INVALID, **refusals(role), **(options.get("responses") or {})}
        options["openapi_extra"] = {**security(role), **(options.get("openapi_extra") or {})}
        super().__init__(path, endpoint, **options)
        if not iscoroutinefunction(endpoint) or _asks_for_more(self.dependant):
            raise TypeError(f"{endpoint.__name__} takes what a {type(self).__name__} doesn't read")
        self.app = self._serve
        self._headers = {each.alias.lower().encode(): each.alias for each in self.dependant.header_params}
        self._lists = {each.alias for each in self.dependant.query_params if _is_list(each.field_info.annotation)}
        self._numbers = {
            "path": _integers(self.dependant.path_params),
            "query": _integers(self.dependant.query_params),
            "header": _integers(self.dependant.header_params),
        }
        self._parameters = self._model_of_parameters()
        self._body = self._model_of_body()

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, send)
        response = await self.respond(request, scope["app"].state.access)
        await response(scope, receive, send)

    async def respond(self, request: Request, guard: Access) -> Response:
        """The answer to a request that may be made. Raises Problem, or what the endpoint raises."""
        await guard.admit(request, self.role)
        response = await self.answer(request, guard)
        if request.method == "GET":
            guard.check_again(request)
        return response

    async def answer(self, request: Request, guard: Access) -> Response:
        errors: Errors = [*_nuls(request.scope)]
        values = self._read_parameters(request, errors)
        if self._body:
            name, model = self._body
            if errors and "expect" in request.headers:  # 100 Continue would ask for a body in vain
                raise invalid(errors)
            values[name] = await _read_body(request, model, errors)
        elif request.method != "GET" and _has_content(request):
            await read_whole(request)  # what comes may show that it is no request
        if errors:
            raise invalid(errors)
        if request.method != "GET":
            guard.check_again(request)  # a body may take as long as a key needs to end
        response: Response = await self.endpoint(request, **values)
        return response

    def _model_of_parameters(self) -> TypeAdapter[Any]:
        signature = self.dependant
        parts = {"path": signature.path_params, "query": signature.query_params, "header": signature.header_params}
        models: dict[str, Any] = {}
        for where, fields in parts.items():
            its: dict[str, Any] = {each.name: (each.field_info.annotation, each.field_info) for each in fields}
            aliases = {each.name: each.alias for each in fields}.__getitem__
            config = ConfigDict(alias_generator=aliases, extra="forbid" if where == "query" else "ignore")
            models[where] = (create_model(where, __config__=config, **its), ...)
        return TypeAdapter(create_model("parameters", **models))

    def _model_of_body(self) -> tuple[str, TypeAdapter[Any]] | None:
        for each in self.dependant.body_params:
            annotation: Any = each.field_info.annotation
            return each.name, TypeAdapter(annotation)
        return None

    def _read_parameters(self, request: Request, errors: Errors) -> dict[str, Any]:
        raw = {"path": self._path(request), "query": self._query(request, errors), "header": self._header(request)}
        try:
            read = self._parameters.validate_python(raw)
        except ValidationError as error:
            errors += map(_in_our_words, _errors(error))
            return {}
        return {**vars(read.path), **vars(read.query), **vars(read.header)}

    def _path(self, request: Request) -> dict[str, str]:
        """The path's parameters. Raises Problem where a number has to be, and is none."""
        path = request.path_params
        for name in self._numbers["path"]:
            if not _is_number(path[name]):
                raise not_found(request.url.path)
        return path

    def _query(self, request: Request, errors: Errors) -> dict[str, Any]:
        if not request.scope["query_string"]:
            return {}
        if request.scope["query_string"].count(b"&") >= MAX_PARAMETERS:
            raise invalid([{"loc": ("query",), "msg": f"Has more than {MAX_PARAMETERS} parameters"}])
        pairs = request.query_params.multi_items()
        query: dict[str, Any] = dict(pairs)
        if len(query) < len(pairs):
            for name, times in Counter(name for name, _ in pairs).items():
                if times > 1 and name not in self._lists:
                    errors.append({"loc": ("query", name), "type": "repeated", "msg": "Came more than once"})
        for name in self._lists & query.keys():
            query[name] = [value for its, value in pairs if its == name]
        return _without_numbers_in_other_ways(query, self._numbers["query"])

    def _header(self, request: Request) -> dict[str, str]:
        """The headers that the endpoint takes. One that comes in several lines is one: RFC 9110, section 5.3."""
        found: dict[str, str] = {}
        for name, value in request.scope["headers"]:
            if alias := self._headers.get(name):
                line = value.decode("latin-1")
                found[alias] = f"{found[alias]}, {line}" if alias in found else line
        for alias in self._numbers["header"]:
            if found.get(alias) == "":  # an EventSource that has seen nothing yet
                del found[alias]
        return _without_numbers_in_other_ways(found, self._numbers["header"])


class Router:
    """Collects the routes of a module. Each says which role it needs: one that is not told is not made."""

    kind: type[Route] = Route

    def __init__(self, *, tags: Sequence[str] = (), in_schema: bool = True, **options: Any) -> None:
        """`options`: what all routes have in common."""
        self.routes: list[Route] = []
        self._options = {"tags": list(tags), "include_in_schema": in_schema, **options}

    def get(self, path: str, *, role: Roles, **options: Any) -> Callable[[Endpoint], Endpoint]:
        """Add a query."""
        return self._add("GET", path, role, options)

    def post(self, path: str, *, role: Roles, **options: Any) -> Callable[[Endpoint], Endpoint]:
        """Add what makes something new."""
        return self._add("POST", path, role, options)

    def put(self, path: str, *, role: Roles, **options: Any) -> Callable[[Endpoint], Endpoint]:
        """Add what changes something."""
        return self._add("PUT", path, role, options)

    def delete(self, path: str, *, role: Roles, **options: Any) -> Callable[[Endpoint], Endpoint]:
        """Add what takes something away."""
        return self._add("DELETE", path, role, options)

    def _add(self, method: str, path: str, role: Roles, options: dict[str, Any]) -> Callable[[Endpoint], Endpoint]:
        def add(endpoint: Endpoint) -> Endpoint:
            self.routes.append(self.kind(path, endpoint, role=role, methods=[method], **{**self._options, **options}))
            return endpoint

        return add


def _nuls(scope: Scope) -> Iterator[dict[str, Any]]:
    """Errors for NUL characters: nothing in a store has one, and PostgreSQL takes none even in a query."""
    for where, has_one in {"path": "\0" in scope["path"], "query": b"%00" in scope["query_string"]}.items():
        if has_one:
            yield {"loc": (where,), "type": "nul", "msg": "Must not contain a NUL character"}


async def _read_body(request: Request, model: TypeAdapter[Any], errors: Errors) -> Any:
    if not JSON.match(request.headers.get("content-type", "")) and _has_content(request):
        raise Problem("unsupported-media-type", 415, "The body must be application/json.")
    body = await read_whole(request)
    if NO_NUMBERS.search(body) and not _has_numbers_only(body):
        raise Problem("malformed-json", 400, "NaN, infinities, and numbers beyond 1.8e308 are none in JSON.")
    try:
        return model.validate_json(body.removeprefix(codecs.BOM_UTF8) or b"null", strict=True)
    except ValidationError as error:
        first, *_ = its = _errors(error)
        if first["type"] == "json_invalid":
            raise Problem("malformed-json", 400, f"{first['ctx']['error']}.") from None
        errors += [{**each, "loc": ("body", *each["loc"])} for each in its[:MAX_ERRORS]]


async def read_whole(request: Request) -> bytes:
    """The body. Raises Problem if it ends early."""
    try:
        return await request.body()
    except ClientDisconnect:
        raise Problem("malformed-json", 400, "The body ended early.") from None


def _errors(error: ValidationError) -> Errors:
    """Its errors without what is not shown: there may be thousands, for which that is most of the work."""
    several = error.error_count() > 1
    return error.errors(include_url=False, include_context=not several, include_input=False)


def _has_content(request: Request) -> bool:
    """Whether there is a body, by its framing (RFC 9110, section 8.6), before any of it is read."""
    return request.headers.get("content-length", "0") != "0" or "transfer-encoding" in request.headers


def _has_numbers_only(body: bytes) -> bool:
    try:
        return has_numbers_only(from_json(body))
    except ValueError:
        return True  # it is no JSON at all, as Pydantic says next


def _asks_for_more(signature: Dependant) -> bool:
    several = len(signature.body_params) > 1 or any(
        _is_list(each.field_info.annotation) for each in signature.header_params
    )
    injected = signature.response_param_name or signature.background_tasks_param_name
    return bool(signature.dependencies or signature.cookie_params or several or injected)


def _integers(fields: Iterable[Any]) -> list[str]:
    annotations = {each.alias: each.field_info.annotation for each in fields}
    return [alias for alias, its in annotations.items() if int in {its, *getattr(its, "__args__", ())}]


def _is_number(text: str) -> bool:
    return text.isdigit() and text.isascii()


def _without_numbers_in_other_ways(values: dict[str, Any], numbers: Iterable[str]) -> dict[str, Any]:
    """Empties numbers that aren't digits alone: Pydantic would take 1_0, +1, 1.0 and spaces around a number, too."""
    for name in numbers:
        if name in values and not _is_number(values[name]):
            values[name] = ""
    return values


def _in_our_words(error: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**error, "msg": "There is no such parameter"} if error["type"] == "extra_forbidden" else error


def _is_list(annotation: Any) -> bool:
    return any(get_origin(each) is list for each in (annotation, *getattr(annotation, "__args__", ())))
