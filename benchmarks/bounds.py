"""What a measure is, and whether it reaches what it must."""

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

    def __str__(self) -> str:
        than = f" × {self.bound.over}" if self.bound.over else ""
        return f"{self.reached:,.2f}{than}, {'at most' if self.low else 'at least'} {self.bound.must:,g} is a must"

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


def broken(measures: Sequence[Measure], figures: Mapping[str, Figures]) -> list[str]:
    """Which ratios miss their bound by more than noise explains, in words. What is absolute depends on the machine."""
    judged = ((measure, verdict) for measure in measures for verdict in verdicts(measure, figures[measure.key]))
    return [f"{measure.what}: {verdict}" for measure, verdict in judged if verdict.broken and verdict.bound.over]
