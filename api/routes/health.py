"""Health checks: whether the service is alive, and whether it can work."""

from typing import Any, Literal

from fastapi import Request, Response
from pydantic import BaseModel, Field
from pydantic_core import to_json

from api.http.access import may
from api.http.documentation import headers
from api.http.problems import RETRY_AFTER
from api.http.routing import Router
from api.reading.condition import Condition

router = Router(tags=["health"])

Status = Literal["ready", "degraded", "unavailable"]


class Stopped(BaseModel):
    """The event that stops a projection."""

    event: int = Field(examples=[3], description="The event that it can't apply")
    error: str = Field(examples=["ZeroDivisionError: division by zero"])


class Lag(BaseModel):
    """How far a projection is, and how far behind the log."""

    position: int = Field(examples=[2])
    lag: int = Field(examples=[0], description="Events not projected yet")
    paused: bool = Field(examples=[False], description="Whether it waits for `cqrs projections resume`")
    stopped: Stopped | None = Field(examples=[None], description="Why it stands still, if an event stops it")


class Readiness(BaseModel):
    """How well it can work; all but the status is for operators.

    `degraded`: something keeps commands from being accepted, handled or shown; what there is can be read.
    """

    status: Status
    dependencies: dict[str, str] | None = Field(
        None,
        examples=[dict.fromkeys(("inbox", "event_store", "read_model", "subjects", "redis", "workers"), "ok")],
        description="`ok`, or what is wrong; `workers`: what has waited for 10 s",
    )
    projections: dict[str, Lag] | None = Field(
        None, examples=[{"users": {"position": 2, "lag": 0, "paused": False, "stopped": None}}]
    )


@router.get(
    "/livez",
    role="public",
    response_model=dict[str, str],
    responses={200: {"content": {"application/json": {"example": {"status": "alive"}}}}},
)
async def livez(request: Request) -> Response:
    """The process is there."""
    return Response(b'{"status":"alive"}', media_type="application/json")


@router.get(
    "/readyz",
    role="public",
    response_model=Readiness,
    responses={503: {"model": Readiness, "description": "A store is down", **headers("Retry-After")}},
)
async def readyz(request: Request) -> Response:
    """Whether it can work; for operators each dependency, and each projection's lag."""
    return _answer(await request.app.state.service.conditions.now(), bare=not may(request, "operator"))


def _answer(condition: Condition, *, bare: bool) -> Response:
    lags = condition.lags.by_name if condition.lags else {}
    status: Status = "ready"
    if not lags or condition.waiting is None:
        status = "unavailable"
    elif set(condition.dependencies.values()) != {"ok"} or any(lag.progress.stands_still for lag in lags.values()):
        status = "degraded"
    projections = {name: lag.shown() for name, lag in lags.items()}
    body: dict[str, Any] = {"status": status, "dependencies": condition.dependencies, "projections": projections}
    if bare:
        body = {"status": status}
    if status == "unavailable":
        return Response(to_json(body), 503, {"Retry-After": RETRY_AFTER}, "application/json")
    return Response(to_json(body), 200, media_type="application/json")
