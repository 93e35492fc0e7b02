"""Every projection, by its name: each is at its own place in the log and shares nothing with the others."""

from collections.abc import Mapping

from shared.projection import Projection
from shared.users.emails import emails
from shared.users.read_model import users
from shared.users.stats import stats

PROJECTIONS: Mapping[str, Projection] = {each.name: each for each in (users, emails, stats)}
