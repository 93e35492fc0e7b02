"""Time stamps in the service's processes, taken where a command passes; the service itself knows nothing of them.

Python imports this module at its start in whatever has this folder in PYTHONPATH. It wraps functions as soon as their
modules are there, so that each call writes a line into the process's file: the time, the place, the thread.
"""

import importlib.machinery
import os
import sys
import threading
import time
from collections.abc import Callable
from functools import wraps
from types import ModuleType
from typing import Any

FOLDER = "CQRS_TIMELINE_FOLDER"
"""The environment variable with the folder for the files."""

PLACES = {
    "api.serving.framing": "Framed.data_received",
    "api.accepting.acceptor": "Acceptor.accept Acceptor._commit",
    "shared.broker.bus": "wake",
    "kombu.transport.redis": "Channel._brpop_read",
    "workers.app": "handle",
    "shared.stores.inbox": "read_after",
    "workers.handling.batch": "Batch.handle",
    "sqlalchemy.engine.default": "DefaultDialect.do_commit",
    "workers.projecting.runner": "ProjectionThreads.wake catch_up",
    "shared.stores.event_store": "read_all",
}
"""What is stamped, by module: when it is called, and when it returns."""

process = os.environ.get("CQRS_PROCESS", "")
folder = os.environ.get(FOLDER)


class Finder:
    """Finds modules as Python does, and has functions of those in PLACES wrapped once the module is executed."""

    def find_spec(self, name: str, path: Any = None, target: ModuleType | None = None) -> Any:
        if name not in PLACES:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec and spec.loader:
            execute = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                execute(module)
                for place in PLACES[name].split():
                    wrap(module, place)

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def wrap(module: ModuleType, place: str) -> None:
    """Wrap a function or a method."""
    *owners, name = place.split(".")
    owner: Any = module
    for each in owners:
        owner = getattr(owner, each)
    setattr(owner, name, stamped(getattr(owner, name), f"{module.__name__}.{place}"))


def stamped(function: Callable[..., Any], place: str) -> Callable[..., Any]:
    """The function, which writes a line when it is called and one when it returns."""

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        write(f"> {place}")
        try:
            return function(*args, **kwargs)
        finally:
            write(f"< {place}")

    return call


def write(what: str) -> None:
    """Write a line; one call of the system, so that lines of threads don't mix."""
    os.write(file, f"{time.monotonic_ns()} {threading.current_thread().name} {what}\n".encode())


if folder and process:
    file = os.open(f"{folder}/{process}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    sys.meta_path.insert(0, Finder())
