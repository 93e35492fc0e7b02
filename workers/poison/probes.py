"""Probes: child processes that try what may end or hang the process that does it."""

import faulthandler
import os
import signal
import warnings
from collections.abc import Callable, Mapping
from typing import NamedTuple

from shared.telemetry import logs
from workers.poison import watch
from workers.poison.watch import Died, Hung

AT_ONCE = 16
"""Probes that run side by side."""

SURVIVED = 77
"""The exit code of a probe that got through; a rule that ends its process may use any, 0 above all."""


TRACE_BYTES = 2**16
"""What a pipe holds, and more than a trace has."""


class Running(NamedTuple):
    """A probe under way: its key, and the end of a pipe that tells where it hung."""

    key: int
    trace: int


def probe(tries: Mapping[int, Callable[[], object]], show_life: Callable[[], None]) -> dict[int, Exception]:
    """Run each try in a process of its own; returns, by key, Died or Hung for those that didn't survive.

    `show_life` is called after each.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # if it was ignored, nobody could wait for a process
    found: dict[int, Exception | None] = {}
    running: dict[int, Running] = {}
    for key, attempt in tries.items():
        if len(running) == AT_ONCE:
            found |= _end_of_first(running)
            show_life()
        process, trace = _start(attempt)
        running[process] = Running(key, trace)
    while running:
        found |= _end_of_first(running)
        show_life()
    return {key: error for key, error in found.items() if error}


def _start(attempt: Callable[[], object]) -> tuple[int, int]:
    """Returns the process id of a probe, which an alarm ends after the watch's limit at the latest, and its trace."""
    trace, told = os.pipe()
    if not (child := _fork()):
        try:
            logs.silence()  # an error is logged when the command is decided for good
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            faulthandler.register(signal.SIGALRM, file=told, chain=True)
            signal.setitimer(signal.ITIMER_REAL, watch.LIMIT_SECONDS)
            attempt()
            os._exit(SURVIVED)
        finally:
            os._exit(1)
    os.close(told)
    return child, trace


def _end_of_first(running: dict[int, Running]) -> dict[int, Exception | None]:
    """Wait for the probe that was started first, and remove it from `running`; returns its end, by key."""
    process = next(iter(running))
    key, trace = running.pop(process)
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    where = _read(trace)
    match code:
        case code if code == SURVIVED:
            return {key: None}
        case code if code == -signal.SIGALRM:
            return {key: Hung(where)}
        case _:
            return {key: Died()}


def _read(trace: int) -> str:
    """What was told, though a process that the probe left behind may tell more."""
    os.set_blocking(trace, False)
    with os.fdopen(trace, "rb", buffering=0) as pipe:
        return (pipe.read(TRACE_BYTES) or b"").decode(errors="replace")


def _fork() -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads in this process: the child needs none of them
        return os.fork()
