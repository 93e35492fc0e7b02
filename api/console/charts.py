"""Charts of the last hour as shapes in a picture of `WIDTH` by `HEIGHT`, which a template draws as SVG."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from api.console import shapes
from api.watching.hour import WAITING, Latency, Minute

WIDTH, HEIGHT = 480, 180
LEFT, RIGHT, TOP, BOTTOM = 46, 6, 8, 22

X_EVERY = 15
"""Minutes from one label below a chart to the next."""

STATUSES = {"succeeded": "good", "rejected": "warn", "failed": "bad", WAITING: "s1"}
"""The classes of outcomes, from below to above."""

PERCENTILES = {"p50": ("s1", ""), "p95": ("s2", "6 3"), "p99": ("s3", "1.5 3")}
"""The classes and dashes of lines: colours aren't needed to tell them apart."""

FASTEST, SLOWEST = 0.001, 1.0
"""The seconds that a chart of latencies shows at least."""


class Shape(NamedTuple):
    """A series: its name, its class, the dashes of its line, the path that draws it, and whether that is an area."""

    name: str
    css: str
    dash: str
    path: str
    area: bool


class Tick(NamedTuple):
    """A label beside an axis."""

    at: float
    text: str


class Spot(NamedTuple):
    """What is told where the pointer rests."""

    x: float
    text: str


class Chart(NamedTuple):
    """A chart, and in words what it shows now."""

    id: str
    title: str
    now: str
    summary: str
    series: list[Shape]
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    spots: list[Spot]
    note: str


def of_hour(hour: Sequence[Minute]) -> list[Chart]:
    """The charts of the last hour."""
    return [
        _rates(hour),
        _backlog(hour),
        _latencies("whole", "Accepted → visible", hour, lambda each: each.whole),
        _latencies("handling", "Accepted → handled", hour, lambda each: each.handling),
        _latencies("showing", "Handled → visible", hour, lambda each: each.showing),
    ]


def _rates(hour: Sequence[Minute]) -> Chart:
    rates = [[each.rate(status) for status in STATUSES] for each in hour]
    top = _rounded(max(map(sum, rates), default=0))
    y = _linear(top)
    series, below = [], [0.0] * len(hour)
    for n, (status, css) in enumerate(STATUSES.items()):
        above = [base + its[n] for base, its in zip(below, rates, strict=True)]
        bars = (
            f"M{_x(i):.1f} {y(low):.1f}V{y(high):.1f}h{STEP * 0.86:.1f}V{y(low):.1f}z"
            for i, (low, high) in enumerate(zip(below, above, strict=True))
            if high > low
        )
        series.append(Shape(status, css, "", "".join(bars), area=True))
        below = above
    words = [_in_words(each) for each in hour]
    most = max(map(sum, rates), default=0)
    summary = f"{words[-1]} in the minute that goes on; at most {most:,.1f} a second in a minute of the last hour."
    is_sampled = any(each.sampled < each.accepted for each in hour)
    note = f"Outcomes are sampled: up to {max(each.sampled for each in hour)} commands a minute." if is_sampled else ""
    now = f"{sum(rates[-1]):,.1f} a second"
    return _chart("rates", "Commands by outcome", now, summary, series, _linear_ticks(top, y), words, hour, note)


def _in_words(minute: Minute) -> str:
    total = sum(map(minute.rate, STATUSES))
    shares = ", ".join(
        f"{minute.counts[status] / minute.sampled:.0%} {status}" for status in STATUSES if minute.counts.get(status)
    )
    return f"{total:,.1f} commands a second{f': {shares}' if shares else ''}"


def _latencies(id: str, title: str, hour: Sequence[Minute], of: Callable[[Minute], Latency | None]) -> Chart:
    known = [of(each) for each in hour]
    low = math.floor(math.log10(FASTEST))
    high = max(math.log10(SLOWEST), *(math.ceil(math.log10(max(its.p99, FASTEST))) for its in known if its), 0)

    def y(seconds: float) -> float:
        part = (math.log10(max(seconds, FASTEST)) - low) / (high - low)
        return HEIGHT - BOTTOM - part * (HEIGHT - TOP - BOTTOM)

    series = [
        Shape(name, css, dash, _line(y(its[n]) if its else None for its in known), area=False)
        for n, (name, (css, dash)) in enumerate(PERCENTILES.items())
    ]
    ticks = [Tick(y(10.0**n), shapes.seconds(10.0**n).replace(".0", "")) for n in range(low, int(high) + 1)]
    words = [_percentiles(its) for its in known]
    latest = next((its for its in reversed(known) if its), None)
    now = f"p95 {shapes.seconds(latest.p95)}" if latest else "nothing to measure"
    slowest = max((its.p99 for its in known if its), default=None)
    summary = f"Latest: {_percentiles(latest)}; the slowest minute's p99 was {shapes.seconds(slowest)}."
    return _chart(id, title, now, summary, series, ticks, words, hour, "")


def _percentiles(its: Latency | None) -> str:
    if not its:
        return "no command measured"
    return ", ".join(f"{name} {shapes.seconds(value)}" for name, value in zip(PERCENTILES, its, strict=True))


def _backlog(hour: Sequence[Minute]) -> Chart:
    values = [each.backlog for each in hour]
    top = _rounded(max(values, default=0))
    y = _linear(top)
    base = y(0)
    bars = (
        f"M{_x(i):.1f} {base:.1f}V{y(value):.1f}h{STEP * 0.86:.1f}V{base:.1f}z"
        for i, value in enumerate(values)
        if value
    )
    words = [f"{value:,} waiting" for value in values]
    summary = f"{values[-1]:,} commands wait now; at most {max(values):,} did so at a minute's end."
    series = [Shape("waiting", "s1", "", "".join(bars), area=True)]
    return _chart(
        "backlog", "Backlog", f"{values[-1]:,} waiting", summary, series, _linear_ticks(top, y), words, hour, ""
    )


def _chart(
    id: str,
    title: str,
    now: str,
    summary: str,
    series: list[Shape],
    y_ticks: list[Tick],
    words: Sequence[str],
    hour: Sequence[Minute],
    note: str,
) -> Chart:
    x_ticks = [Tick(_x(i), f"{each.begins:%H:%M}") for i, each in enumerate(hour) if each.begins.minute % X_EVERY == 0]
    spots = [
        Spot(_x(i), f"{each.begins:%H:%M} UTC: {its}") for i, (each, its) in enumerate(zip(hour, words, strict=True))
    ]
    return Chart(id, title, now, summary, series, x_ticks, y_ticks, spots, note)


STEP = (WIDTH - LEFT - RIGHT) / 60


def _x(minute: int) -> float:
    return LEFT + minute * STEP


def _linear(top: float) -> Callable[[float], float]:
    return lambda value: HEIGHT - BOTTOM - value / top * (HEIGHT - TOP - BOTTOM)


def _linear_ticks(top: float, y: Callable[[float], float]) -> list[Tick]:
    return [Tick(y(value), f"{value:,.10g}") for value in (0, top / 2, top)]


def _rounded(value: float) -> float:
    """The least of 1, 2, 4, 6, 10, 20, … that is no less."""
    if value <= 1:
        return 1
    power = 10 ** math.floor(math.log10(value))
    return float(next(step * power for step in (1, 2, 4, 6, 10) if step * power >= value))


def _line(heights: Iterable[float | None]) -> str:
    """A line through the middles of minutes, broken where nothing is known. A minute alone is a dot."""
    path, goes_on = [], False
    for i, height in enumerate(heights):
        if height is not None:
            x = _x(i) + STEP / 2
            path.append(f"L{x:.1f} {height:.1f}" if goes_on else f"M{x:.1f} {height:.1f}h.1")
        goes_on = height is not None
    return "".join(path)
