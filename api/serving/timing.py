"""Timing of requests for Prometheus: a middleware."""

import time
from functools import cache

from prometheus_client import Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared.telemetry import metrics

METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
"""Others are one: what a client makes up must not become a series."""


class Timed:
    """Around the app: how long each request took, by its route and its status."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 500

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, sending)
        finally:
            route = scope["route"].path if "route" in scope else "none"
            method = scope["method"] if scope["method"] in METHODS else "other"
            metrics.observe(_requests(method, route, status), time.perf_counter() - began)


@cache
def _requests(method: str, route: str, status: int) -> Histogram:
    return metrics.REQUESTS.labels(method, route, status)
