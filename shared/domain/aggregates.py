"""The registry of aggregates. An aggregate has one line here: the category of its streams, and its decider."""

from collections.abc import Iterable, Mapping
from typing import Any

from shared.decider import Decider
from shared.domain.users.decider import users
from shared.messages import Event

AGGREGATES: Mapping[str, Decider[Any, Any, Any]] = {
    "user": users,
}  # fmt: skip
"""Deciders by category. The category begins the names of streams (`user-7`) and of the number's field (`user_id`)."""


def by_name(aggregates: Iterable[Decider[Any, Any, Any]]) -> dict[str, type[Event]]:
    """The events of aggregates by their names, by which alone projections and upcasters choose."""
    found: dict[str, type[Event]] = {}
    for aggregate in aggregates:
        for name, event in aggregate.events.items():
            if name in found:
                raise ValueError(f"two aggregates have an event {name}")
            found[name] = event
    return found


EVENTS: Mapping[str, type[Event]] = by_name(AGGREGATES.values())
"""All events that this version knows, by name."""
