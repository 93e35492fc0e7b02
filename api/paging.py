"""Paging: `after` and `limit`, and the link to the next page (RFC 8288)."""

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import Query, Request, Response
from pydantic_core import to_json

MAX_INTEGER = 2**63 - 1

After = Annotated[int, Query(ge=0, le=MAX_INTEGER, description="Start behind this one: where the last page ended")]
Limit = Annotated[int, Query(ge=1, le=1000, description="How many at most")]
MinPosition = Annotated[
    int | None,
    Query(ge=0, le=MAX_INTEGER, description="Answer only with what position N of the log has brought, or 503"),
]


def page(request: Request, items: Sequence[dict[str, Any]], *, limit: int, key: str) -> Response:
    """A JSON array of up to `limit` items. One more than that means that there is a next page, after `key`."""
    headers = {}
    if len(items) > limit:
        url = request.url.include_query_params(after=items[limit - 1][key])
        headers["Link"] = f'<{url.path}?{url.query}>; rel="next"'
    return Response(to_json(items[:limit]), 200, headers, "application/json")
