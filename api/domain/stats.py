"""Users by day."""

import re
from datetime import date
from functools import partial
from typing import Annotated

from fastapi import Query, Request, Response
from pydantic import BaseModel, BeforeValidator, Field

from api.http.documentation import PAGE
from api.http.paging import Limit, MinPosition
from api.http.routing import Router
from api.routes.submit import show_page
from shared.domain.users.read_models import stats

ISO_DATE = re.compile("[0-9]{4}-[0-9]{2}-[0-9]{2}")


def _date(value: str) -> str:
    """Pydantic takes a time and seconds since 1970, too."""
    if not ISO_DATE.fullmatch(value):
        raise ValueError("must be a date: 2026-01-31")
    return value


router = Router(tags=["stats"])


class Day(BaseModel):
    """What happened to users on a day."""

    day: date = Field(examples=["2026-01-31"], description="In UTC")
    users: int = Field(examples=[2], description="Users created on this day")
    changes: int = Field(examples=[1], description="Changes to users on this day")


@router.get("/stats", role="reader", response_model=list[Day], responses=PAGE)
async def list_days(
    request: Request,
    after: Annotated[
        Annotated[date, BeforeValidator(_date)] | None,
        Query(description="Start behind this day: where the last page ended", examples=["2026-01-31"]),
    ] = None,
    limit: Limit = 100,
    min_position: MinPosition = None,
) -> Response:
    """Days on which users were created or changed, in their order."""
    query = partial(stats.days_after, day=after.isoformat() if after else "")
    return await show_page(request, stats.stats, query, min_position, limit=limit, key="day")
