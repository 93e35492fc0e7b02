"""Every projection, by its name: each is at its own place in the log and shares nothing with the others."""

from collections.abc import Mapping

from shared.projection import Projection
from shared.users.read_model import users

PROJECTIONS: Mapping[str, Projection] = {each.name: each for each in (users,)}
