"""The API as a process of its own, `python -m api`: listens where the settings say, and stops with exit code 0."""

import os
import signal
import socket
import sys

import uvicorn

from api.main import ROLE
from shared import logs
from shared.settings import Settings

TAKES_WITHIN = 10
"""Seconds in which the other end must take what it is sent; then the system ends the connection, buffers and all."""

STOP_TIMEOUT = 5
"""Seconds it gives open requests when it is told to stop."""


def main() -> None:
    # Once it has stopped for a signal, uvicorn raises it again, for whoever had it before: by default that ends
    # the process as one that was killed. Python would wait for threads, and they may wait for a store that hangs.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: os._exit(0))
    settings = Settings()
    logs.set_up(ROLE, settings)
    config = uvicorn.Config(
        "api.main:app",
        host=settings.api_host,
        port=settings.api_port,
        access_log=False,
        log_config=None,
        log_level="warning",
        proxy_headers=bool(settings.trusted_proxies),  # by default uvicorn believes whoever is on this machine
        forwarded_allow_ips=[str(each) for each in settings.trusted_proxies],
        timeout_graceful_shutdown=STOP_TIMEOUT,
    )
    uvicorn.Server(config).run(sockets=[_impatient(config.bind_socket())])


def _impatient(listening: socket.socket) -> socket.socket:
    if sys.platform == "linux":
        listening.setsockopt(
            socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, TAKES_WITHIN * 1000
        )  # tcp(7); connections inherit it
    return listening


if __name__ == "__main__":
    main()
