"""What is measured, of whom, and what it must reach."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

OURS = "ours"

ROOM = 0.7
"""A bound is broken for certain only when it is missed by this factor: machines are noisy."""

Figures = Mapping[str, Sequence[float]]
"""By contestant, one figure a round."""


class Bound(NamedTuple):
    """At least `must` times what `over` reaches in the same round; without `over`, at least `must` itself."""

    must: float
    aim: float | None = None
    over: str | None = None


@dataclass(frozen=True)
class Measure:
    key: str
    what: str
    unit: str
    bounds: tuple[Bound, ...] = ()
    low: bool = False
    """Less is better, and the bounds are upper ones."""


class Verdict(NamedTuple):
    """A bound, and the median over the rounds of what it bounds."""

    bound: Bound
    reached: float
    low: bool

    @property
    def aimed(self) -> bool:
        return self.bound.aim is not None and self._within(self.bound.aim)

    @property
    def met(self) -> bool:
        return self._within(self.bound.must)

    @property
    def broken(self) -> bool:
        return not self._within(self.bound.must / ROOM if self.low else self.bound.must * ROOM)

    def _within(self, limit: float) -> bool:
        return self.reached <= limit if self.low else self.reached >= limit


def verdicts(measure: Measure, figures: Figures) -> list[Verdict]:
    return [Verdict(bound, _reached(bound, figures), measure.low) for bound in measure.bounds]


def _reached(bound: Bound, figures: Figures) -> float:
    ours = figures[OURS]
    if bound.over is None:
        return median(ours)
    return median(our / their for our, their in zip(ours, figures[bound.over], strict=True))


MEASURES = (
    Measure(
        "sustained",
        "accepted → handled → visible, 64 connections, creates and updates mixed",
        "/s",
        (Bound(20, 30, "naive-celery"), Bound(0.45, 0.6, "floor-http")),
    ),
    Measure("low load", "POST → visible, one at a time, p50", "ms", (Bound(0.6, 0.4, "naive-celery"), Bound(15)), True),
    Measure("low load p99", "POST → visible, one at a time, p99", "ms", (Bound(60),), True),
    Measure("polled", "POST → visible, one at a time, found by polling as the naive one is, p50", "ms", (), True),
    Measure("half p50", "POST → visible at half of its maximum, p50", "ms", (), True),
    Measure("half p99", "POST → visible at half of its maximum, p99", "ms", (Bound(60, 25),), True),
    Measure("full p50", "POST → visible at full load, 64 connections, p50", "ms", (), True),
    Measure("full p99", "POST → visible at full load, 64 connections, p99", "ms", (), True),
    Measure("GET", "GET /users/{id}, 32 connections", "/s", (Bound(4, 5, "naive-sync"), Bound(0.5, 0.7, "floor-http"))),
    Measure(
        "append 1",
        "event store append, 1 event a transaction",
        "/s",
        (Bound(0.6, 0.85, "floor-sqlite"), Bound(0.9, 1.2, "eventsourcing")),
    ),
    Measure(
        "append 100",
        "event store append, 100 streams a transaction",
        "/s",
        (Bound(0.6, 0.85, "floor-sqlite"), Bound(2, 3, "eventsourcing")),
    ),
    Measure("read", "reading the log, decoded", "/s", (Bound(2, 4, "eventsourcing"),)),
    Measure(
        "rebuild",
        "rebuilding the users read model",
        "events/s",
        (Bound(60_000, 120_000), Bound(15, None, "eventsourcing")),
    ),
    Measure("handle", "command worker alone, a backlog of 20,000 commands", "/s", (Bound(10_000, 20_000),)),
    Measure("CPU", "CPU of all processes a command, sustained", "ms", (), True),
    Measure("client", "CPU of the load generator, sustained", "% of a core", (), True),
    Measure("start", "start until ready", "s", (), True),
    Measure("first", "start until the first user is visible", "s", (), True),
    Measure("idle CPU", "idle: CPU of all processes", "% of a core", (Bound(3),), True),
    Measure("idle memory", "idle: memory of all processes, sum of RSS", "MB", (Bound(600),), True),
    Measure("stop", "stop until no process is left", "s", (), True),
)
