"""The API: `uvicorn api.main:app`."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from api import commands, events, health, problems, stats, users
from api.service import Service
from shared import garbage, schema
from shared.settings import Settings

SWITCH = 0.0005
"""Seconds after which a busy event loop lets the thread go on that commits: by default 5 ms, several times a batch."""

ROUTERS = (users.router, stats.router, commands.router, events.router, health.router)


def create_app(settings: Settings) -> FastAPI:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        schema.check(settings)
        app.state.service = Service(settings)
        garbage.collect_less()
        sys.setswitchinterval(SWITCH)
        yield
        await app.state.service.close()

    app = FastAPI(
        title="Users, event-sourced",
        summary="Commands are accepted at once, handled in order, and visible milliseconds later.",
        version="0.1.0",
        lifespan=lifespan,
        routes=[route for router in ROUTERS for route in router.routes],
    )
    problems.install(app)
    return app


app = create_app(Settings())
