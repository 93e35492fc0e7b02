"""The registry of projections. A projection has one line here; it has a checkpoint and tables of its own."""

from collections.abc import Iterable, Mapping

from shared.domain.users.read_models.emails import emails
from shared.domain.users.read_models.stats import stats
from shared.domain.users.read_models.users import users
from shared.projection import Projection


def _by_name(projections: Iterable[Projection]) -> dict[str, Projection]:
    found: dict[str, Projection] = {}
    for each in projections:
        if each.name in found:
            raise ValueError(f"two projections are called {each.name}")
        found[each.name] = each
    return found


PROJECTIONS: Mapping[str, Projection] = _by_name([
    users,
    emails,
    stats,
])  # fmt: skip
"""Projections by name."""

ERASING = frozenset(
    name for each in PROJECTIONS.values() for name, event in each.events.items() if event.erases_subject
)
"""The names of the events by which subjects are erased. Such an event is the last one of its stream."""
