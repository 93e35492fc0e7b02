"""What a measure is, and whether it reaches what it must."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

OURS = "ours"

ROOM = 0.7
"""A bound is broken for certain only when it is missed by this factor: machines are noisy."""

Figure = tuple[str, str, float]
"""The measure's key, the contestant or what ours is compared with, and what was measured."""

Figures = dict[str, dict[str, list[float]]]
"""All that was measured, by measure and contestant, one figure a round."""

Say = Callable[[str], None]
"""Shows a line to whoever waits for the figures."""


class Bound(NamedTuple):
    """At least `must` times what `over` reaches in the same round; without `over`, at least `must` itself."""

    must: float
    aim: float | None = None
    over: str | None = None


@dataclass(frozen=True)
class Measure:
    """Something measured. If `low`, less is better, and the bounds are upper ones."""

    key: str
    what: str
    unit: str
    bounds: tuple[Bound, ...] = ()
    low: bool = False


class Verdict(NamedTuple):
    """A bound, and the median over the rounds of what it bounds."""

    bound: Bound
    reached: float
    low: bool

    def __str__(self) -> str:
        than = f" × {self.bound.over}" if self.bound.over else ""
        return f"{self.reached:,.2f}{than}, {'at most' if self.low else 'at least'} {self.bound.must:,g} is a must"

    @property
    def word(self) -> str:
        """`no` is for what is missed by more than noise explains."""
        must, aim, _ = self.bound
        limits = {"aim": aim, "yes": must, "nearly": must / ROOM if self.low else must * ROOM}
        reached = (word for word, limit in limits.items() if limit is not None and self._within(limit))
        return next(reached, "no")

    def _within(self, limit: float) -> bool:
        return self.reached <= limit if self.low else self.reached >= limit


def verdicts(measure: Measure, figures: Mapping[str, Sequence[float]]) -> list[Verdict]:
    """One for each bound. A ratio is the median of each round's own, so that a slow round slows both."""
    return [
        Verdict(bound, median(ratios(figures, bound.over) if bound.over else figures[OURS]), measure.low)
        for bound in measure.bounds
    ]


def ratios(figures: Mapping[str, Sequence[float]], over: str) -> list[float]:
    """Ours to another's, round by round."""
    return [our / their for our, their in zip(figures[OURS], figures[over], strict=True)]


def broken(measures: Sequence[Measure], figures: Figures) -> dict[tuple[str, str], str]:
    """The ratios that miss their bound for certain, in words, by measure and contestant.

    What is absolute depends on the machine.
    """
    judged = ((measure, verdict) for measure in measures for verdict in verdicts(measure, figures[measure.key]))
    return {
        (measure.key, verdict.bound.over): f"{measure.what}: {verdict}"
        for measure, verdict in judged
        if verdict.word == "no" and verdict.bound.over
    }
