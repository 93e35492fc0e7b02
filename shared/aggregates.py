"""Every aggregate, by the category of its streams."""

from collections.abc import Mapping
from typing import Any

from shared.decider import Decider
from shared.users.decider import users

AGGREGATES: Mapping[str, Decider[Any, Any, Any]] = {"user": users}
