"""Projections: operators see how far each is, pause and resume it."""

from typing import Annotated

from fastapi import Path, Request, Response
from pydantic import BaseModel, ConfigDict
from pydantic_core import to_json

from api.http.documentation import errors
from api.http.headers import Prefer
from api.http.problems import Problem, unavailable
from api.http.routing import Router
from api.routes.deeds import operate, operates
from api.routes.health import Lag
from api.routes.submit import IdempotencyKey
from shared.operations.commands import Deed, PauseProjection, ResumeProjection

router = Router(tags=["projections"])

Projection = Annotated[str, Path(description="Its name", examples=["users"])]


class Nothing(BaseModel):
    """No fields. The body may be left out."""

    model_config = ConfigDict(extra="forbid")


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


async def _tell(
    request: Request, deed: type[Deed], projection: str, idempotency_key: str | None, prefer: str | None
) -> Response:
    if projection not in request.app.state.service.read_models:
        raise Problem("projection-not-found", 404, f"There is no projection {projection}.")
    return await operate(request, deed, {"projection": projection}, idempotency_key=idempotency_key, prefer=prefer)
