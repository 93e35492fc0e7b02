"""Projections: how far each is and how fast, what stops it, and what operators do about it."""

from collections import defaultdict
from functools import cache
from typing import NamedTuple

from fastapi import Request, Response
from sqlalchemy.exc import DBAPIError

from api.console.doing import do_and_go_back
from api.console.live import Parts, live
from api.console.pace import Pace
from api.console.pages import Pages, fragment, page, service_of
from api.reading.rebuilds import last_rebuild
from api.reading.sharing import Shared
from api.routes.projections import check_known, check_that_none_is_under_way
from api.service import Service
from shared.domain.projections import PROJECTIONS
from shared.errors.reasons import reason_of
from shared.operations.commands import PauseProjection, RebuildProjection, ResumeProjection
from shared.operations.rebuilds import NEVER, Rebuild
from shared.stores import backlog, checkpoints
from shared.stores.backlog import OVERDUE_AFTER, Lag

LOOKS_LAST = 1.0
"""Seconds for which all who look share a look."""

SOON = 30 * 86400.0
"""Seconds to catch up from which on it can't be told."""

router = Pages(section="Projections")


class Row(NamedTuple):
    """A projection as it is shown; without a lag its read model does not answer."""

    name: str
    trouble: str
    lag: Lag | None = None
    rate: float | None = None
    """Events a second."""
    left: float | None = None
    """Seconds until it has caught up."""
    rebuild: Rebuild = NEVER

    @property
    def state(self) -> str:
        """What it does, in a word."""
        if not self.lag:
            return "unknown"
        if self.lag.progress.stopped:
            return "stopped"
        if self.lag.progress.paused:
            return "paused"
        if self.lag.seconds < OVERDUE_AFTER:
            return "running"
        return "stands still" if self.rate == 0 else "catching up"

    @property
    def rebuild_rate(self) -> float | None:
        """Events a second with which a rebuild fills its tables."""
        its = self.rebuild
        return (its.reached - (its.first or 0)) / its.seconds if its.reached and its.seconds > 0 else None

    @property
    def rebuild_left(self) -> float | None:
        """Seconds until a rebuild's tables are filled."""
        its, rate = self.rebuild, self.rebuild_rate
        return (its.upto - (its.reached or 0)) / rate if its.stage == "filling" and its.upto and rate else None


class Look(NamedTuple):
    """The log's last event, and all projections by name."""

    last: int
    rows: dict[str, Row]


class Looks:
    """Looks at projections: one for all who look."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._paces: dict[tuple[str, str], Pace] = defaultdict(Pace)
        self.now = Shared[Look](self._look, lasts=LOOKS_LAST).get

    async def _look(self) -> Look:
        service = self._service
        progress: dict[str, checkpoints.Progress] = {}
        rebuilt: dict[str, Rebuild] = {}
        troubles: dict[str, str] = {}
        for name, store in service.read_models.items():
            try:
                progress[name] = await store.read(checkpoints.progress, name)
                rebuilt[name] = await last_rebuild(service.log, store, name)
            except DBAPIError as error:
                progress.pop(name, None)
                troubles[name] = reason_of(error)
        lags = await service.log.read(backlog.lags, progress)
        grows = self._paces["log", ""].see(lags.last)
        rows = {}
        for name in service.read_models:
            if lag := lags.by_name.get(name):
                rate = self._paces["projection", name].see(lag.progress.position)
                rows[name] = Row(name, "", lag, rate, _left(lag, rate, grows), rebuilt[name])
            else:
                rows[name] = Row(name, troubles[name])
        return Look(lags.last, rows)


def _left(lag: Lag, rate: float | None, grows: float | None) -> float | None:
    """Seconds until it has caught up with a log that grows meanwhile."""
    gains = (rate or 0.0) - (grows or 0.0)
    seconds = lag.events / gains if gains > 0 else SOON
    return seconds if seconds < SOON else None


@cache
def looks_of(service: Service) -> Looks:
    """The looks at a service's projections."""
    return Looks(service)


@router.get("/console/projections", role="operator", title="Projections", menu=True)
async def list_projections(request: Request) -> Response:
    """How far each projection is, and which need somebody."""
    return page(request, "projections.html", look=await looks_of(service_of(request)).now())


@router.get("/console/projections/live", role="operator", title="Projections")
async def follow_projections(request: Request) -> Response:
    """The same, renewed each second."""
    looks = looks_of(service_of(request))

    async def look() -> Parts:
        now = await looks.now()
        return {each: fragment(request, f"projections_{each}.html", look=now) for each in ("end", "rows", "notes")}

    return live(request, look)


@router.get("/console/projections/{name}", role="operator", title="Projection")
async def show_projection(request: Request, name: str) -> Response:
    """A projection: what it does, what stops it, and its last rebuild."""
    service = service_of(request)
    check_known(service, name)
    look = await looks_of(service).now()
    return page(request, "projection.html", look=look, row=look.rows[name], which=PROJECTIONS[name])


@router.get("/console/projections/{name}/live", role="operator", title="Projection")
async def follow_projection(request: Request, name: str) -> Response:
    """The same, renewed each second."""
    service = service_of(request)
    check_known(service, name)
    looks = looks_of(service)

    async def look() -> Parts:
        now = await looks.now()
        row = now.rows[name]
        return {
            each: fragment(request, f"projection_{each}.html", look=now, row=row)
            for each in ("now", "stop", "actions", "rebuild", "again")
        }

    return live(request, look)


@router.post("/console/projections/{name}/pause", role="operator", title="Pause")
async def pause(request: Request, name: str) -> Response:
    """Have a projection apply no more events."""
    check_known(service_of(request), name)
    return await do_and_go_back(request, PauseProjection, {"projection": name}, f"/console/projections/{name}")


@router.post("/console/projections/{name}/resume", role="operator", title="Resume")
async def resume(request: Request, name: str) -> Response:
    """Have a paused projection go on."""
    check_known(service_of(request), name)
    return await do_and_go_back(request, ResumeProjection, {"projection": name}, f"/console/projections/{name}")


@router.post("/console/projections/{name}/rebuild", role="operator", title="Rebuild")
async def rebuild(request: Request, name: str) -> Response:
    """Have a projection's tables made anew."""
    await check_that_none_is_under_way(request, name)
    return await do_and_go_back(request, RebuildProjection, {"projection": name}, f"/console/projections/{name}")
