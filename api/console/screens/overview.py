"""The first page: whether everything is well, what to do if not, and the last hour."""

import asyncio
from typing import Any, NamedTuple, TypeVar

from fastapi import Request, Response
from sqlalchemy.exc import DBAPIError

from api.console import charts
from api.console.charts import Chart
from api.console.live import Parts, live
from api.console.pages import Pages, fragment, page, principal_of, service_of
from api.http.access import may
from api.reading.sharing import Shared
from api.service import Service
from api.watching.findings import found, word_for
from api.watching.hour import Minute
from api.watching.surroundings import Workers
from shared.stores import outcomes

PATIENCE = 0.1
"""Seconds that a page waits for what it can do without; live parts bring it later."""

EVERY = 3.0
"""Seconds from one look to the next: a look tries whether each store can be written, for which writers stand back."""

HOUR_LASTS = 15.0
"""Seconds for which charts stay as they are."""

COUNTED = 1000
"""Failures that are counted."""

T = TypeVar("T")

router = Pages(section="Overview")


class Failed(NamedTuple):
    """How many commands of the last hour failed; `more`: at least so many."""

    number: int
    more: bool


class Past(NamedTuple):
    """The last hour, drawn."""

    minutes: list[Minute]
    charts: list[Chart]
    failed: Failed


@router.get("/console", role="any", title="Overview", menu=True)
async def show_overview(request: Request) -> Response:
    """Whether everything is well in a word; for operators why not, and what to do about it."""
    return page(request, "overview.html", **await _values(request))


@router.get("/console/live", role="any", title="Overview")
async def follow_overview(request: Request) -> Response:
    """The same, renewed every few seconds. All who have the same roles share one look."""
    roles = ",".join(sorted(principal_of(request).roles))
    parts = service_of(request).shared(f"overview for {roles}", lambda: _parts(request), lasts=EVERY - 0.1)
    return live(request, parts.get, every=EVERY)


async def _parts(request: Request) -> Parts:
    values = await _values(request)
    its = {"state": "overview_state.html"}
    if may(request, "operator"):
        its |= {"charts": "overview_charts.html", "facts": "overview_facts.html"}
    return {id: fragment(request, template, **values) for id, template in its.items()}


async def _values(request: Request) -> dict[str, Any]:
    """What the templates show."""
    service = service_of(request)
    past = service.shared("last hour", lambda: _past(service), lasts=HOUR_LASTS)
    soon = _soon(service.surroundings.workers), _soon(service.surroundings.people), _soon(past)
    condition, workers, people, hour = await asyncio.gather(service.conditions.now(), *soon)
    workers = workers or Workers({}, "")
    findings = found(condition, workers, people, hour.minutes if hour else None)
    return {
        "word": word_for(findings),
        "findings": findings,
        "charts": hour.charts if hour else [],
        "hour_failed": condition.waiting is None or condition.handled is None,
        "width": charts.WIDTH,
        "height": charts.HEIGHT,
        "step": charts.STEP,
        "lags": condition.lags.by_name if condition.lags else {},
        "workers": workers,
        "dependencies": condition.dependencies,
        "backlog": condition.waiting,
        "handled": condition.handled,
        "failed": hour.failed if hour else None,
    }


async def _past(service: Service) -> Past:
    minutes = await service.hour.look()
    latest = await service.log.read(outcomes.failed, limit=COUNTED + 1)
    ours = [seq for seq in latest if seq > service.hour.began_after]
    return Past(minutes, charts.of_hour(minutes), Failed(min(COUNTED, len(ours)), len(ours) > COUNTED))


async def _soon(shared: Shared[T]) -> T | None:
    """What is known soon; None if a store doesn't answer."""
    try:
        return await shared.soon(PATIENCE)
    except DBAPIError:
        return None
