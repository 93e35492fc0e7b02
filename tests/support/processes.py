"""Functions in processes of their own, which are forked from one that has imported the project: that takes a second."""

import multiprocessing
from collections.abc import Callable
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from typing import Any


def forking() -> ForkServerContext:
    """Makes such processes. None has what this process has in memory."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["__main__", "tests.conftest"])
    return context


def in_process(target: Callable[..., None], *arguments: Any) -> BaseProcess:
    """Such a process, which has started."""
    process = forking().Process(target=target, args=arguments)
    process.start()
    return process
