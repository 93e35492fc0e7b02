"""The API as a process of its own, `python -m api`: listens where the settings say, and stops with exit code 0."""

import os
import signal

from api.main import ROLE
from api.serving import server
from shared.errors import refusal
from shared.telemetry import logs


def main() -> None:
    # Once it has stopped for a signal, uvicorn raises it again, for whoever had it before: by default that ends
    # the process as one that was killed. Python would wait for threads, and they may wait for a store that hangs.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: os._exit(0))
    settings = refusal.settings()
    logs.set_up(ROLE, settings)
    try:
        server.serve(settings)
    except SystemExit as its:  # uvicorn says 3 if it could not start
        raise SystemExit(its.code and refusal.CODE) from None


if __name__ == "__main__":
    main()
