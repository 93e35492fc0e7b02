"""Every aggregate's rules, by the category of its streams."""

from collections.abc import Iterable, Mapping
from typing import Any

from shared.decider import Decider
from shared.listed import listed
from shared.messages import Event

# The category, which is the stem of streams and of the number's name: where the rules are.
_DECIDERS = {
    "user": "shared.users.decider:users",
}  # fmt: skip

AGGREGATES: Mapping[str, Decider[Any, Any, Any]] = {
    category: listed(name, Decider) for category, name in _DECIDERS.items()
}


def _by_name(aggregates: Iterable[Decider[Any, Any, Any]]) -> dict[str, type[Event]]:
    # Projections and upcasters choose by the name alone.
    found: dict[str, type[Event]] = {}
    for aggregate in aggregates:
        for name, event in aggregate.events.items():
            if name in found:
                raise ValueError(f"two aggregates have an event {name}")
            found[name] = event
    return found


EVENTS: Mapping[str, type[Event]] = _by_name(AGGREGATES.values())
"""Every event that this version knows, by its name."""
