"""Projections: operators see how far each is, pause, resume and rebuild it."""

from typing import Annotated

from fastapi import Path, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import to_json

from api.http.documentation import errors
from api.http.headers import Prefer
from api.http.problems import Problem, unavailable
from api.http.routing import Router
from api.reading.rebuilds import last_rebuild
from api.routes.deeds import operate, operates
from api.routes.health import Lag
from api.routes.submit import IdempotencyKey
from api.service import Service
from shared.operations.commands import Deed, PauseProjection, RebuildProjection, ResumeProjection
from shared.operations.rebuilds import Rebuild, Stage

router = Router(tags=["projections"])

Projection = Annotated[str, Path(description="Its name", examples=["users"])]


class Nothing(BaseModel):
    """No fields. The body may be left out."""

    model_config = ConfigDict(extra="forbid")


class Differences(BaseModel):
    """How a table differed from the log before the swap."""

    rows: int | None = Field(examples=[0], description="Rows that differed; null if they can't be compared")
    columns: list[str] = Field(examples=[[]], description="Columns that are new (+), gone (-) or of another type (~)")


class LastRebuild(BaseModel):
    """The last rebuild of a projection. The live tables serve until the swap."""

    stage: Stage = Field(examples=["filling"])
    by: str | None = Field(examples=["key:0f0c9a1e"], description="The principal who asked for it")
    began_at: str | None = Field(examples=["2026-01-31T12:00:00.004000Z"])
    told_at: str | None = Field(examples=["2026-01-31T12:00:03.004000Z"], description="When it was heard of last")
    first: int | None = Field(examples=[0], description="The event from which on tables are filled")
    reached: int | None = Field(examples=[150000], description="The event they have reached")
    upto: int | None = Field(examples=[1000000], description="Of how many")
    problem: str | None = Field(examples=[None], description="Why it failed, or began again")
    differences: dict[str, Differences] | None = Field(examples=[None], description="Once it is done, by table")


@router.get(
    "/projections/", role="operator", response_model=dict[str, Lag], responses=errors({503: "store-unavailable"})
)
async def list_projections(request: Request) -> Response:
    """How far each projection is, and what it waits for."""
    condition = await request.app.state.service.conditions.now()
    if not condition.lags:
        raise unavailable("store-unavailable", "The event store does not answer.")
    shown = {name: lag.shown() for name, lag in condition.lags.by_name.items()}
    return Response(to_json(shown), media_type="application/json")


@router.post(
    "/projections/{projection}/pause",
    role="operator",
    status_code=202,
    responses=operates({404: "projection-not-found"}),
)
async def pause_projection(
    request: Request,
    projection: Projection,
    body: Nothing | None = None,
    idempotency_key: IdempotencyKey = None,
    prefer: Prefer = None,
) -> Response:
    """Accept that a projection applies no more events until it is resumed. Queries go on, with what it has."""
    return await _tell(request, PauseProjection, projection, idempotency_key, prefer)


@router.delete(
    "/projections/{projection}/pause",
    role="operator",
    status_code=202,
    responses=operates({404: "projection-not-found"}),
)
async def resume_projection(
    request: Request, projection: Projection, idempotency_key: IdempotencyKey = None, prefer: Prefer = None
) -> Response:
    """Accept that a paused projection goes on."""
    return await _tell(request, ResumeProjection, projection, idempotency_key, prefer)


@router.get(
    "/projections/{projection}/rebuild",
    role="operator",
    response_model=LastRebuild,
    responses=errors({404: "projection-not-found rebuild-not-found", 503: "store-unavailable"}),
)
async def show_rebuild(request: Request, projection: Projection) -> Response:
    """How far a projection's rebuild is, or how the last one ended."""
    found = await rebuild_of(request, projection)
    if found.stage == "none":
        raise Problem("rebuild-not-found", 404, f"{projection} was never rebuilt.")
    return Response(to_json(found.shown()), media_type="application/json")


@router.post(
    "/projections/{projection}/rebuild",
    role="operator",
    status_code=202,
    responses=operates({404: "projection-not-found", 409: "rebuild-under-way"}),
)
async def rebuild_projection(
    request: Request,
    projection: Projection,
    body: Nothing | None = None,
    idempotency_key: IdempotencyKey = None,
    prefer: Prefer = None,
) -> Response:
    """Accept that a projection's worker makes its tables anew from the log, and swaps them in.

    Commands and queries go on meanwhile; `GET` says how far it is.
    """
    if not idempotency_key:  # sent again, it gets its first answer; sent newly, the one under way does for it, too
        await check_that_none_is_under_way(request, projection)
    return await _tell(request, RebuildProjection, projection, idempotency_key, prefer)


async def rebuild_of(request: Request, projection: str) -> Rebuild:
    """The last rebuild of a projection. Raises Problem, or a store's error."""
    service: Service = request.app.state.service
    check_known(service, projection)
    return await last_rebuild(service.log, service.read_models[projection], projection)


async def check_that_none_is_under_way(request: Request, projection: str) -> None:
    """Raises Problem if a projection is being rebuilt, or soon will be."""
    if (await rebuild_of(request, projection)).is_under_way:
        raise Problem("rebuild-under-way", 409, f"{projection} is being rebuilt already.")


async def _tell(
    request: Request, deed: type[Deed], projection: str, idempotency_key: str | None, prefer: str | None
) -> Response:
    check_known(request.app.state.service, projection)
    return await operate(request, deed, {"projection": projection}, idempotency_key=idempotency_key, prefer=prefer)


def check_known(service: Service, projection: str) -> None:
    """Raises Problem if there is no such projection."""
    if projection not in service.read_models:
        raise Problem("projection-not-found", 404, f"There is no projection {projection}.")
