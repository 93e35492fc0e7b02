"""Every aggregate's rules, by the category of its streams."""

from collections.abc import Mapping
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

EVENTS: Mapping[str, type[Event]] = {
    name: event for aggregate in AGGREGATES.values() for name, event in aggregate.events.items()
}
"""Every event that this version knows, by its name."""
