"""Whether the service is alive, and whether it can work."""

import asyncio
from collections.abc import Callable
from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field
from pydantic_core import to_json
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from api.documentation import headers
from api.problems import RETRY_AFTER
from api.routing import Route
from api.service import Service
from shared import bus, event_store, inbox, projection

router = APIRouter(tags=["health"], route_class=Route)


Status = Literal["ready", "degraded", "unavailable"]


class Stopped(BaseModel):
    event: int = Field(examples=[3], description="The event that it can't apply")
    error: str = Field(examples=["ZeroDivisionError: division by zero"])


class Lag(BaseModel):
    position: int = Field(examples=[2])
    lag: int = Field(examples=[0], description="Events not projected yet")
    stopped: Stopped | None = Field(examples=[None], description="Why it stands still, if an event stops it")


class Readiness(BaseModel):
    """`degraded`: it accepts and answers, but handles nothing until Redis is back, or a projection stands still."""

    status: Status
    dependencies: dict[str, str] = Field(
        examples=[{"inbox": "ok", "event_store": "ok", "read_model": "ok", "redis": "ok"}]
    )
    projections: dict[str, Lag] = Field(examples=[{"users": {"position": 2, "lag": 0, "stopped": None}}])


@router.get(
    "/livez",
    response_model=dict[str, str],
    responses={200: {"content": {"application/json": {"example": {"status": "alive"}}}}},
)
async def livez(request: Request) -> Response:
    """The process is there."""
    return Response(b'{"status":"alive"}', media_type="application/json")


@router.get(
    "/readyz",
    response_model=Readiness,
    responses={503: {"model": Readiness, "description": "A store is down", **headers("Retry-After")}},
)
async def readyz(request: Request) -> Response:
    """Each dependency, and each projection's lag."""
    service = Service.of(request)
    broker = asyncio.to_thread(bus.ping, service.bus)
    dependencies = {
        "inbox": _state(service.inbox, inbox.last_seq),
        "event_store": _state(service.log, event_store.last_position),
        "read_model": _state(service.read_model, projection.positions),
        "redis": "ok" if await broker else "down",
    }
    stores = [state for name, state in dependencies.items() if name != "redis"]
    if any(state != "ok" for state in stores):
        status: Status = "unavailable"
        lags: dict[str, dict[str, Any]] = {}
    else:
        lags = _lags(service)
        well = dependencies["redis"] == "ok" and not any(lag["stopped"] for lag in lags.values())
        status = "ready" if well else "degraded"
    body = {"status": status, "dependencies": dependencies, "projections": lags}
    if status == "unavailable":
        return Response(to_json(body), 503, {"Retry-After": RETRY_AFTER}, "application/json")
    return Response(to_json(body), 200, media_type="application/json")


def _state(store: Engine, look: Callable[[Connection], object]) -> str:
    try:
        with store.connect() as connection:
            look(connection)
    except DBAPIError as error:
        return f"down: {error.orig}"
    return "ok"


def _lags(service: Service) -> dict[str, dict[str, Any]]:
    with service.read_model.connect() as connection, service.log.connect() as log:
        return {name: each.shown() for name, each in projection.progress(connection, log).items()}
