"""Whether the service is alive, and whether it can work."""

import asyncio
from collections.abc import Awaitable, Mapping
from typing import Any, Literal, TypeVar

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field
from pydantic_core import to_json
from sqlalchemy.exc import DBAPIError

from api.documentation import headers
from api.problems import RETRY_AFTER
from api.routing import Route
from api.service import Service
from shared import bus, event_store, inbox, projection
from shared.projection import Stands

router = APIRouter(tags=["health"], route_class=Route)

T = TypeVar("T")

Status = Literal["ready", "degraded", "unavailable"]


class Stopped(BaseModel):
    event: int = Field(examples=[3], description="The event that it can't apply")
    error: str = Field(examples=["ZeroDivisionError: division by zero"])


class Lag(BaseModel):
    position: int = Field(examples=[2])
    lag: int = Field(examples=[0], description="Events not projected yet")
    paused: bool = Field(examples=[False], description="Whether it waits for `cqrs projections resume`")
    stopped: Stopped | None = Field(examples=[None], description="Why it stands still, if an event stops it")


class Readiness(BaseModel):
    """`degraded`: commands wait until Redis is back, or a projection stands still, or its database is down."""

    status: Status
    dependencies: dict[str, str] = Field(
        examples=[{"inbox": "ok", "event_store": "ok", "read_model": "ok", "redis": "ok"}]
    )
    projections: dict[str, Lag] = Field(
        examples=[{"users": {"position": 2, "lag": 0, "paused": False, "stopped": None}}]
    )


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
    stands = await _stands(service)
    accepted, last, broker = await asyncio.gather(
        _told(service.inbox.read(inbox.last_seq)),
        _told(service.log.read(event_store.last_position)),  # after the projections: none is ahead of it
        asyncio.to_thread(bus.ping, service.bus),
    )
    dependencies = {
        "inbox": _state(accepted),
        "event_store": _state(last),
        "read_model": _state_of_all(stands),
        "redis": "ok" if broker else "down",
    }
    shown = {name: each for name, each in stands.items() if isinstance(each, Stands)}
    lags = {name: each.shown(last) for name, each in shown.items()} if isinstance(last, int) else {}
    if not (shown and dependencies["inbox"] == dependencies["event_store"] == "ok"):
        return _answer("unavailable", dependencies, lags)
    well = set(dependencies.values()) == {"ok"} and not any(each.stopped or each.paused for each in shown.values())
    return _answer("ready" if well else "degraded", dependencies, lags)


def _answer(status: Status, dependencies: Mapping[str, str], lags: Mapping[str, Any]) -> Response:
    body = {"status": status, "dependencies": dependencies, "projections": lags}
    if status == "unavailable":
        return Response(to_json(body), 503, {"Retry-After": RETRY_AFTER}, "application/json")
    return Response(to_json(body), 200, media_type="application/json")


async def _stands(service: Service) -> dict[str, Stands | DBAPIError]:
    looks = [_told(store.read(projection.stands, name)) for name, store in service.read_models.items()]
    return dict(zip(service.read_models, await asyncio.gather(*looks), strict=True))


async def _told(answer: Awaitable[T]) -> T | DBAPIError:
    try:
        return await answer
    except DBAPIError as error:
        return error


def _state(answer: object) -> str:
    return f"down: {answer.orig}" if isinstance(answer, DBAPIError) else "ok"


def _state_of_all(answers: Mapping[str, object]) -> str:
    """Of databases that may be several: what is wrong with each, unless it is the same with all."""
    states = {name: _state(answer) for name, answer in answers.items()}
    if len(set(states.values())) == 1:
        return next(iter(states.values()))
    return "; ".join(f"{name} {state}" for name, state in states.items() if state != "ok")
