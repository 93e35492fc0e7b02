"""What queries have in common: pages with `after`, `limit` and a link to the next (RFC 8288), and positions."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Annotated, Any, TypeVar

from fastapi import Query, Request, Response
from pydantic import BeforeValidator
from pydantic_core import to_json

from shared import clock

T = TypeVar("T")

ROWS_AT_ONCE = 100
"""Rows made JSON at once: others have their turn between two pieces."""

MAX_INTEGER = 2**63 - 1


def _moment(value: str) -> datetime:
    return clock.parsed(value.replace(" ", "+"))  # as it was typed: in a query a plus means a space


def _boolean(value: str) -> bool:
    """Pydantic takes yes, 1, On and others, too."""
    if value not in {"true", "false"}:
        raise ValueError("must be true or false")
    return value == "true"


Boolean = Annotated[bool, BeforeValidator(_boolean)]
"""The parameter of a query that is `true` or `false`."""

After = Annotated[int, Query(ge=0, le=MAX_INTEGER, description="Start behind this one: where the last page ended")]
Limit = Annotated[int, Query(ge=1, le=1000, description="How many at most")]
MinPosition = Annotated[
    int | None,
    Query(ge=0, le=MAX_INTEGER, description="Answer only with what position N of the log has brought, or 503"),
]
Version = Annotated[
    int | None, Query(ge=1, le=MAX_INTEGER, description="As it was at this version, by the log", examples=[1])
]
At = Annotated[
    Annotated[datetime, BeforeValidator(_moment)] | None,
    Query(
        description="As it was at this time, by the log; in the future is now", examples=["2026-01-31T12:00:00.004000Z"]
    ),
]


async def page(
    request: Request,
    rows: Sequence[T],
    show: Callable[[T], dict[str, Any]],
    *,
    limit: int,
    key: str,
    parameter: str = "after",
) -> Response:
    """A JSON array of up to `limit` rows as `show` makes them.

    One row more means a next page: its link has the last row's `key` as the `parameter`.
    """
    headers = {}
    if len(rows) > limit:
        url = request.url.include_query_params(**{parameter: show(rows[limit - 1])[key]})
        headers["Link"] = f'<{url.path}?{url.query}>; rel="next"'
    pieces = []
    for start in range(0, min(len(rows), limit), ROWS_AT_ONCE):
        pieces.append(to_json([show(row) for row in rows[start : min(start + ROWS_AT_ONCE, limit)]])[1:-1])
        await asyncio.sleep(0)
    return Response(b"[%s]" % b",".join(pieces), 200, headers, "application/json")
