"""Paging: `after` and `limit`, and the link to the next page (RFC 8288)."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypeVar

from fastapi import Query, Request, Response
from pydantic_core import to_json

T = TypeVar("T")

PIECE = 100
"""Rows made JSON at once: others have their turn between two pieces."""

MAX_INTEGER = 2**63 - 1

After = Annotated[int, Query(ge=0, le=MAX_INTEGER, description="Start behind this one: where the last page ended")]
Limit = Annotated[int, Query(ge=1, le=1000, description="How many at most")]
MinPosition = Annotated[
    int | None,
    Query(ge=0, le=MAX_INTEGER, description="Answer only with what position N of the log has brought, or 503"),
]


async def page(
    request: Request, rows: Sequence[T], show: Callable[[T], dict[str, Any]], *, limit: int, key: str
) -> Response:
    """A JSON array of up to `limit` rows as they are shown. One more than that means a next page, after `key`."""
    headers = {}
    if len(rows) > limit:
        url = request.url.include_query_params(after=show(rows[limit - 1])[key])
        headers["Link"] = f'<{url.path}?{url.query}>; rel="next"'
    pieces = []
    for start in range(0, min(len(rows), limit), PIECE):
        pieces.append(to_json([show(row) for row in rows[start : min(start + PIECE, limit)]])[1:-1])
        await asyncio.sleep(0)
    return Response(b"[%s]" % b",".join(pieces), 200, headers, "application/json")
