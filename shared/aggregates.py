"""Every aggregate, by the category of its streams."""

from collections.abc import Mapping
from typing import Any

from shared.decider import Decider
from shared.messages import Event
from shared.users.decider import users

AGGREGATES: Mapping[str, Decider[Any, Any, Any]] = {"user": users}

EVENTS: Mapping[str, type[Event]] = {
    name: event for aggregate in AGGREGATES.values() for name, event in aggregate.events.items()
}
"""Every event that this version knows, by its name."""
