"""The supervisor of the roles: starts them in order, starts again those that die, and stops them in order."""

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from socket import gethostname

import typer

from cli.up.screen import Screen
from shared.errors.reasons import reason_of
from shared.errors.visible import visible
from shared.telemetry import logs, metric_files

FIRST_DELAY, LONGEST_DELAY = 0.2, 3.0
"""Seconds before a role that died is started again; the delay doubles each time the role died young."""

YOUNG = 10.0
"""Seconds of life under which a role died young."""

STOP_TIMEOUT = 10.0
"""Seconds a role has to stop before it is killed."""

COLOURS = cycle(["cyan", "green", "magenta", "yellow", "blue"])
NAME_WIDTH = 20


class Role:
    """A role's process, kept running."""

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        *,
        folder: Path,
        environment: Mapping[str, str],
        screen: Screen,
        in_json: bool = False,
    ) -> None:
        """The process runs in `folder`, with `environment` added to this one's. `in_json`: its log lines are JSON."""
        self.name = name
        self._argv = argv
        self._folder = folder
        self._environment = {**os.environ, **environment, metric_files.PROCESS: name}
        self._prefix = typer.style(f"{name:<{NAME_WIDTH}}|", fg=next(COLOURS))
        self._screen = screen
        self._in_json = in_json
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = False

    async def run(self) -> None:
        """Run the process, and start it again whenever it ends, until `stop`."""
        delay = FIRST_DELAY
        while not self._stopping:
            started = time.monotonic()
            try:
                end = f"ended with {await self._run_once()}"
            except OSError as error:
                end = f"can't start: {reason_of(error)}"
            if self._stopping:
                return
            delay = FIRST_DELAY if time.monotonic() - started > YOUNG else min(delay * 2, LONGEST_DELAY)
            self.say(f"{end}, starts again in {delay:.1f} s")
            await asyncio.sleep(delay)

    async def stop(self) -> None:
        """Stop the process, and kill it if it takes too long."""
        self._stopping = True
        if not self._process or self._process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        try:
            await asyncio.wait_for(self._process.wait(), STOP_TIMEOUT)
        except TimeoutError:
            self.say(f"did not stop within {STOP_TIMEOUT:.0f} s, killed")
            self._process.kill()
            await self._process.wait()

    def say(self, line: str) -> None:
        """Show a line as one of this role's."""
        if self._in_json:
            role = f"{self.name}@{gethostname()}"
            self._screen.say(line if line.startswith("{") else logs.in_json(role, "info", {"event": line}))
        else:
            self._screen.say(f"{self._prefix} {line}")

    async def _run_once(self) -> int:
        self._process = process = await asyncio.create_subprocess_exec(
            *self._argv,
            cwd=self._folder,
            env=self._environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,  # a terminal's Ctrl-C is for the parent alone, which stops the roles in order
            preexec_fn=_end_with_parent,
        )
        assert process.stdout
        while line := await _line(process.stdout):
            self.say(visible(line.decode(errors="backslashreplace").rstrip()))
        return await process.wait()


async def _line(output: asyncio.StreamReader) -> bytes:
    try:
        return await output.readline()
    except ValueError:  # longer than asyncio's limit, 64 KiB; it is skipped
        return b"(a line too long to show)"


async def run(stages: Sequence[Sequence[Role]]) -> None:
    """Start the roles and keep them running until SIGINT or SIGTERM; then stop them, the first stage first."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    running = [asyncio.create_task(role.run()) for stage in reversed(stages) for role in stage]
    stopped = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait([stopped, *running], return_when=asyncio.FIRST_COMPLETED)
    finally:
        for stage in stages:
            await asyncio.gather(*(role.stop() for role in stage))
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
    for task in running:
        if not task.cancelled():
            task.result()


def _end_with_parent() -> None:
    """Have Linux send a role SIGTERM when its parent is gone, even by SIGKILL: prctl(2), PR_SET_PDEATHSIG."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)
