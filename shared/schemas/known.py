"""What the log may hold: the events of the domain's aggregates, and the operations of operators."""

from collections.abc import Mapping
from typing import Any

from shared.decider import Decider
from shared.domain import aggregates
from shared.messages import Event
from shared.operations.clear import Marked, fields
from shared.operations.deeds import OPERATIONS
from shared.operations.record import CATEGORY

AGGREGATES: Mapping[str, Decider[Any, Any, Any]] = {**aggregates.AGGREGATES, CATEGORY: OPERATIONS}
"""Deciders by category, the operations among them."""

EVENTS: Mapping[str, type[Event]] = aggregates.by_name(AGGREGATES.values())
"""All events that this version knows, by name."""

MARKED = Marked(
    fields(EVENTS.values()), fields(each for rules in AGGREGATES.values() for each in rules.commands.values())
)
"""What is personal in them, and in the commands that lead to them."""
