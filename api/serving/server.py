"""The server below the app: uvicorn's, with our own connections and a look at all of them every second."""

import asyncio
import math
import resource
import socket
import sys
from functools import partial
from typing import Any, cast

import uvicorn

from api.http.problems import Answer
from api.serving.connection import Bounds, Connection
from shared.errors import refusal
from shared.settings import Settings
from shared.telemetry import logs

SEND_TIMEOUT = 10
"""Seconds in which a client must take what it is sent; then the system ends the connection, buffers and all."""

STOP_TIMEOUT = 5
"""Seconds that open requests get when the process is told to stop."""

TICKS_PER_SECOND = 10
"""How often uvicorn calls `on_tick`."""

FILES = resource.RLIMIT_NOFILE

log = logs.logger()


class Server(uvicorn.Server):
    """uvicorn's server, which ends connections that are past their deadline."""

    def __init__(self, config: uvicorn.Config, bounds: Bounds) -> None:
        super().__init__(config)
        self._bounds = bounds

    async def on_tick(self, counter: int) -> bool:
        """Look at all connections now and then, which is cheaper than a timer for each request."""
        if counter % TICKS_PER_SECOND == 0:
            self._sweep()
        return await super().on_tick(counter)

    def _sweep(self) -> None:
        now = asyncio.get_running_loop().time()
        for each in [each for each in self._bounds.open if each.deadline < now]:
            each.expire()


def serve(settings: Settings, answer: Answer) -> None:
    """Serve until the process is told to stop. `answer`: what requests get that never come to the app."""
    bounds = Bounds(settings, _raise_files(settings.max_connections), answer)
    config = uvicorn.Config(
        "api.main:app",
        host=settings.api_host,
        port=settings.api_port,
        http=cast("Any", partial(Connection, bounds)),
        ws="none",
        access_log=False,
        log_config=None,
        log_level="warning",
        proxy_headers=bool(settings.trusted_proxies),  # by default uvicorn believes whoever is on this machine
        forwarded_allow_ips=[str(each) for each in settings.trusted_proxies],
        timeout_graceful_shutdown=STOP_TIMEOUT,
    )
    Server(config, bounds).run(sockets=[_impatient(_listening(config))])


def _listening(config: uvicorn.Config) -> socket.socket:
    try:
        return config.bind_socket()
    except SystemExit:
        refusal.end(f"port {config.port} on {config.host} can't be had: CQRS_API_PORT and CQRS_API_HOST name another")


def _raise_files(connections: int) -> int:
    """How many connections there may be: half of the files that this process may open; it asks for more files first.

    The other half is for the stores, and for connections that come while others make room for them.
    """
    soft, hard = (math.inf if each == resource.RLIM_INFINITY else each for each in resource.getrlimit(FILES))
    files = max(soft, min(2 * connections, hard))
    if files > soft:
        try:
            resource.setrlimit(FILES, (int(files), resource.getrlimit(FILES)[1]))
        except (OSError, ValueError):  # macOS has a lower limit than the one that it names
            files = soft
    most = int(min(connections, files // 2))
    tell = log.info if most == connections else log.warning
    tell("open files and connections are bounded", files=files, connections=most)
    return most


def _impatient(listening: socket.socket) -> socket.socket:
    if sys.platform == "linux":
        listening.setsockopt(
            socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SEND_TIMEOUT * 1000
        )  # tcp(7); connections inherit it
    return listening
