"""Rounds that alternate: each contestant is measured in each, so that what slows the machine slows all of them."""

from collections import defaultdict
from collections.abc import Callable
from itertools import chain

from benchmarks import serving, stores
from benchmarks.people import invent
from benchmarks.scale import Scale

Say = Callable[[str], None]

Figures = dict[str, dict[str, list[float]]]
"""By measure and contestant, one a round."""


def run(scale: Scale, say: Say) -> Figures:
    """Raises Wrong, or what a contestant raises."""
    figures: Figures = defaultdict(lambda: defaultdict(list))
    people = invent(3 * scale.commands + 10_000)
    for number in range(1, scale.rounds + 1):
        for contestant, key, value in chain(serving.figures(scale, people), stores.figures(scale)):
            figures[key][contestant].append(value)
            say(f"round {number} of {scale.rounds}: {contestant}, {key}: {value:,.1f}")
    return figures
