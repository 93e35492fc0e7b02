"""Every projection, by its name: each is at its own place in the log and shares nothing with the others."""

from collections.abc import Iterable, Mapping

from shared.listed import listed
from shared.projection import Projection

_NAMES = [
    # one line each
    "shared.users.read_model:users",
    "shared.users.emails:emails",
    "shared.users.stats:stats",
]


def _by_name(projections: Iterable[Projection]) -> dict[str, Projection]:
    found: dict[str, Projection] = {}
    for each in projections:
        if each.name in found:
            raise ValueError(f"two projections are called {each.name}")
        found[each.name] = each
    return found


PROJECTIONS: Mapping[str, Projection] = _by_name(listed(name, Projection) for name in _NAMES)
