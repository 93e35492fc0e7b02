"""A client of the shared service whose answers are held against the OpenAPI page."""

import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import httpx
import pytest

from tests.support.service import Service

HIDDEN = {"/metrics", "/openapi.json", "/docs", "/docs/swagger-ui.css", "/redoc"}

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
        assert status in ("404", "405", "307") or path in HIDDEN
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
