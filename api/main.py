"""The API: `uvicorn api.main:app`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import commands, events, health, problems, users
from api.problems import Problem
from api.service import Service
from shared.settings import Settings

MAX_BODY = 64 * 1024
"""Bytes."""

ROUTERS = (users.router, commands.router, events.router, health.router)


class BodyLimit:
    """A longer body is refused while it is read; FastAPI's own limit would answer in plain text."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        size = 0

        async def limited() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > MAX_BODY:
                raise Problem("content-too-large", 413, f"A body is {MAX_BODY} bytes at most.")
            return message

        await self._app(scope, limited, send)


def create_app(settings: Settings) -> FastAPI:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.service = Service(settings)
        yield
        await app.state.service.close()

    app = FastAPI(
        title="Users, event-sourced",
        summary="Commands are accepted at once, handled in order, and visible milliseconds later.",
        version="0.1.0",
        lifespan=lifespan,
    )
    app.state.routers = ROUTERS
    app.add_middleware(BodyLimit)
    problems.install(app)
    for router in ROUTERS:
        app.include_router(router)
    return app


app = create_app(Settings())
