"""A client whose answers are held against the OpenAPI page, and a service that asks for keys."""

import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from shared.access.keys import Key
from shared.access.roles import ROLES, Role
from shared.settings import Settings
from tests.support import keys
from tests.support.console import Visitor
from tests.support.service import Service, eventually, up
from tests.support.stores import JOHN

HIDDEN = {"/metrics", "/openapi.json", "/docs", "/docs/swagger-ui.css", "/redoc"}

Visit = Callable[..., Visitor]
"""Makes visitors of the console, signed in if they are given a key."""

OWN_HEADERS = {"location", "etag", "link", "retry-after", "idempotency-replayed", "preference-applied"}


@pytest.fixture(scope="module")
def contract(shared_service: Service) -> Any:
    return shared_service.http.get("/openapi.json").json()


@pytest.fixture
def http(shared_service: Service, contract: Any) -> Iterator[httpx.Client]:
    """A client that holds every answer against what the OpenAPI page says of it."""
    hooks: dict[str, list[Callable[..., Any]]] = {"response": [partial(assert_documented, contract)]}
    with httpx.Client(base_url=shared_service.url, timeout=35, event_hooks=hooks) as client:
        yield client


def assert_documented(contract: Any, answer: httpx.Response) -> None:
    path, method, status = answer.url.path, answer.request.method.lower(), str(answer.status_code)
    if method == "head":  # as the page has it, it is answered wherever GET is
        return
    said = [
        its for template, its in contract["paths"].items() if re.fullmatch(re.sub(r"{\w+}", "[^/]+", template), path)
    ]
    if not said or method not in said[0]:
        assert status in ("404", "405", "307") or path in HIDDEN or path.startswith("/console")
        return
    responses = said[0][method]["responses"]
    assert status in responses
    assert {name.lower() for name in responses[status].get("headers", {})} >= set(answer.headers) & OWN_HEADERS
    if content := responses[status].get("content"):
        answer.read()
        assert_shape(contract, content[answer.headers["content-type"]].get("schema", {}), answer.json())


def assert_shape(contract: Any, schema: Any, body: Any) -> None:
    if "$ref" in schema:
        schema = contract["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    if isinstance(body, list):
        for item in body:
            assert_shape(contract, schema["items"], item)
    elif "properties" in schema:
        assert set(schema.get("required", ())) <= set(body) <= set(schema["properties"])


class Closed:
    """A service that asks for keys; `keys` has one by each role, and one that has all."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.settings = service.settings
        self.keys: dict[str, Key] = {role: keys.add(self.settings, role, name=role) for role in ROLES}
        self.all = keys.add(self.settings, *ROLES, name="all")
        self.http = httpx.Client(base_url=service.url, timeout=35)
        eventually(lambda: self.get("/", self.all).status_code == 200)

    def get(self, path: str, key: Key | str, **headers: str) -> httpx.Response:
        return self.http.get(path, headers=keys.bearer(key) | headers)

    def new_key(self, *roles: Role) -> Key:
        """One that counts by now."""
        key = keys.add(self.settings, *roles)
        eventually(lambda: self.get("/", key).status_code == 200)
        return key

    def post(self, key: Key, email: str, **headers: str) -> httpx.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.http.post("/users/", json={**JOHN, "email": email}, headers=keys.bearer(key) | named)


@pytest.fixture(scope="session")
def closed(files: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Closed]:
    """One closed service for the tests that ask who may do what."""
    folder = shutil.copytree(files, tmp_path_factory.mktemp("closed") / "data")
    keys.add(Settings(data_dir=folder, _env_file=None), "reader", name="first")
    no_limits = {"CQRS_MAX_RATE_PER_KEY": "0", "CQRS_MAX_RATE_PER_ADDRESS": "0"}
    with up(folder, CQRS_AUTH="on", CQRS_LOG_FORMAT="json", **no_limits) as service:
        made = Closed(service)
        yield made
        made.http.close()


@pytest.fixture
def visit(closed: Closed) -> Iterator[Visit]:
    with ExitStack() as until_the_end:
        yield lambda key=None: until_the_end.enter_context(Visitor(closed.service.url, key))


@pytest.fixture
def visitor(closed: Closed, visit: Visit) -> Visitor:
    return visit(closed.all)
