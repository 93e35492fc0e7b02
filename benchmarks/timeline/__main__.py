"""A lone command's way through the five processes, step by step: `make timeline` draws it and prints it."""

import asyncio
import bisect
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

import uvloop
from rich.console import Console

from benchmarks.contestants.service import ROOT, folder
from benchmarks.contestants.services import Ours
from benchmarks.load.people import invent
from benchmarks.load.traffic import PAUSE, WARM, Traffic
from benchmarks.shown import chart, report
from benchmarks.timeline.hooks.sitecustomize import FOLDER

COMMANDS = 100

HERE = Path(__file__).parent


class Step(NamedTuple):
    """A step ends when a function is called (>) or returns (<) in a thread of a process; the client's have no place."""

    what: str
    process: str
    thread: str = ""
    place: str = ""


SENT, ANSWERED, SEEN = (
    Step("the client has sent it", "client"),
    Step("the client has its 202", "client"),
    Step("the client has seen it", "client"),
)

API, COMMAND, PROJECTION = "api", "command-worker-1", "projection-worker-1"

WAY = (
    Step("the request is there", API, "MainThread", "> api.serving.framing.Framed.data_received"),
    Step("read and checked", API, "MainThread", "> api.accepting.acceptor.Acceptor.accept"),
    Step("handed to the acceptor's thread", API, "inbox", "> api.accepting.acceptor.Acceptor._commit"),
    Step("committed to the inbox", API, "inbox", "< sqlalchemy.engine.default.DefaultDialect.do_commit"),
    Step("the announcer's thread runs", API, "announcer", "> shared.broker.bus.wake"),
    Step("through Redis to the command worker", COMMAND, "MainThread", "> kombu.transport.redis.Channel._brpop_read"),
    Step("Celery's task begins", COMMAND, "MainThread", "> workers.app.handle"),
    Step("read from the inbox", COMMAND, "MainThread", "< shared.stores.inbox.read_after"),
    Step("decided", COMMAND, "MainThread", "< workers.handling.batch.Batch.handle"),
    Step("events committed", COMMAND, "MainThread", "< sqlalchemy.engine.default.DefaultDialect.do_commit"),
    Step("the next wake-up begins", COMMAND, "MainThread", "> shared.broker.bus.wake"),
    Step(
        "through Redis to the projection worker",
        PROJECTION,
        "MainThread",
        "> kombu.transport.redis.Channel._brpop_read",
    ),
    Step("Celery's task begins", PROJECTION, "MainThread", "> workers.projecting.runner.ProjectionThreads.wake"),
    Step("the projection's thread runs", PROJECTION, "users", "> workers.projecting.runner.catch_up"),
    Step("read from the log", PROJECTION, "users", "< shared.stores.event_store.read_all"),
    Step("rows committed", PROJECTION, "users", "< sqlalchemy.engine.default.DefaultDialect.do_commit"),
)

Stamps = Mapping[Step, Sequence[int]]
"""The times of each step's calls, in order."""

Times = dict[Step, float]
"""Milliseconds from when the command was sent."""


class Stamped(Ours):
    """The service, whose processes write down when they call what is a step."""

    @property
    def stamps(self) -> Path:
        """The folder for what they write."""
        return self.folder / "stamps"

    def environment(self) -> Mapping[str, str]:
        self.stamps.mkdir()
        python = f"{HERE / 'hooks'}:{ROOT}"
        return {**super().environment(), "PYTHONPATH": python, FOLDER: str(self.stamps)}


def main() -> None:
    """Send commands one by one; draw and print what each step took."""
    commands = uvloop.run(_measure())
    middles = {step: median(its[step] for its in commands) for step in (*WAY, ANSWERED, SEEN)}
    _draw(HERE.with_suffix(".svg"), middles)
    console = Console(highlight=False, width=160)
    console.print(
        report.markdown(("step", "where", "ms from POST", "ms"), ("---", "---", "--:", "--:"), _rows(middles))
    )
    console.print(f"Medians of {len(commands)} commands, {1000 * PAUSE:.0f} ms apart. {report.machine()}.")


async def _measure() -> list[Times]:
    with folder() as where:
        async with Stamped(where) as service:
            traffic = Traffic(service, invent(COMMANDS + WARM))
            await service.ready()
            await traffic.warm_up()
            spans = []
            for _ in range(COMMANDS):
                await asyncio.sleep(PAUSE)
                spans.append(await _one(traffic))
            stamps = _read(service.stamps)
    return [found for span in spans if (found := times(stamps, *span))]


async def _one(traffic: Traffic) -> tuple[int, int, int]:
    sent = time.monotonic_ns()
    path = await traffic.post()
    answered = time.monotonic_ns()
    await traffic.until_shown(path)
    return sent, answered, time.monotonic_ns()


def _read(where: Path) -> Stamps:
    """What the processes wrote."""
    calls: dict[tuple[str, str, str], list[int]] = {}
    for file in where.iterdir():
        for line in file.read_text(encoding="utf-8").splitlines():
            at, thread, place = line.split(" ", 2)
            calls.setdefault((file.name, thread.partition("_")[0], place), []).append(int(at))
    return {step: calls.get(step[1:], []) for step in WAY}


def times(stamps: Stamps, sent: int, answered: int, seen: int) -> Times | None:
    """When a command took each step, each the first of its kind after the one before; None if one is missing."""
    found, last = {ANSWERED: answered, SEEN: seen}, sent
    for step in WAY:
        its = stamps[step]
        place = bisect.bisect(its, last)
        if place == len(its) or its[place] > seen:
            return None
        found[step] = last = its[place]
    return {step: (at - sent) / 1e6 for step, at in found.items()}


def _rows(middles: Times) -> list[tuple[str, ...]]:
    """The steps; the answer stands beside the way, and has no step before it."""
    rows, last = [], 0.0
    for step in (*WAY, SEEN):
        at = middles[step]
        rows.append((step.what, step.process, f"{at:.2f}", f"{at - last:.2f}"))
        last = at
    return [*rows, (f"({ANSWERED.what})", ANSWERED.process, f"{middles[ANSWERED]:.2f}", "")]


def _draw(file: Path, middles: Times) -> None:
    figure = chart.drawing(0.24 * len(WAY) + 1.2)
    axes = figure.subplots()
    colours = {"client": "#858d97", API: "#4a8fd0", COMMAND: "#e0703a", PROJECTION: "#4fa55c"}
    last = 0.0
    for row, step in enumerate((*WAY, SEEN)):
        at = middles[step]
        axes.barh(row, at - last, left=last, height=0.7, color=colours[step.process])
        axes.text(at, row, f" {at - last:.2f}", va="center", fontsize=8)
        last = at
    axes.axvline(middles[ANSWERED], color=colours["client"], linewidth=0.8, zorder=0)
    axes.text(middles[ANSWERED], -1, " 202", fontsize=8, va="center")
    axes.set_yticks(range(len(WAY) + 1), [step.what for step in (*WAY, SEEN)])
    for process, colour in colours.items():
        axes.barh(0, 0, color=colour, label=process)
    figure.legend(loc="outside lower center", frameon=False, labelcolor=chart.TEXT, ncols=4)
    chart.plain(axes, "a lone command: milliseconds from POST")
    axes.invert_yaxis()
    axes.margins(x=0.08)
    chart.save(figure, file)


if __name__ == "__main__":
    main()
