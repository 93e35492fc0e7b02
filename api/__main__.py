"""The API as a process of its own, `python -m api`: listens where the settings say, and stops with exit code 0."""

import os
import signal

from api.console import pages
from api.main import ROLE
from api.serving import server
from shared.errors import refusal
from shared.telemetry import logs


def main() -> None:
    """Serve until the process is told to stop."""
    # Once uvicorn has stopped for a signal, it raises the signal again, whose default would end the process as one that
    # was killed. Without os._exit Python would wait for threads, and they may wait for a store that hangs.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: os._exit(0))
    settings = refusal.settings()
    logs.set_up(ROLE, settings)
    try:
        server.serve(settings, pages.answer)
    except SystemExit as end:  # uvicorn's code is 3 if it could not start
        raise SystemExit(end.code and refusal.CODE) from None


if __name__ == "__main__":
    main()
