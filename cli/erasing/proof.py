"""The proof of an erasure: what was found of a person before it, and what after it."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from cli.erasing.places import Looked
from cli.erasing.search import PATIENCE, Search, in_words
from cli.output import say
from cli.status import projection_lags
from shared.settings import Settings


class Proof(NamedTuple):
    """Two searches for the same values. `waiting`: projections that have yet to apply the erasure, and why."""

    search: Search
    before: Sequence[Looked]
    after: Sequence[Looked]
    waiting: dict[str, str]

    @property
    def holds(self) -> bool:
        """Whether everything could be looked through, and nothing was found."""
        return not any(each.found or each.unread for each in self.after)

    def shown(self) -> dict[str, Any]:
        """As a program reads it. It has no value in it."""
        return {
            "proved": self.holds,
            "looked_for": list(dict.fromkeys(value.name for value in self.search.values)),
            "left_out": self.search.left_out,
            "found_before": [each.place for each in self.before if each.found],
            "found": [{"place": each.place, "what": what} for each in self.after for what in each.found],
            "looked_through": [{"place": each.place, each.unit: each.amount} for each in self.after if not each.unread],
            "not_looked_through": {each.place: each.unread for each in self.after if each.unread},
            "cannot_be_seen": self.search.unseen,
            "waiting": self.waiting,
        }

    def say(self) -> None:
        """As people read it."""
        places = [each.place for each in self.before if each.found]
        say(f"cqrs: before: found in {', '.join(places) or 'no place'}")
        for line in in_words(self.after, self.search.values, self.search.left_out):
            say(f"cqrs: {line}")
        for name, why in self.waiting.items():
            say(f"cqrs: {name} has yet to apply it: {why}")
        for each in self.search.unseen:
            say(f"cqrs: not to be seen from here: {each}")
        say(f"cqrs: {'nothing was found' if self.holds else 'this is no proof'}")


def prove(search: Search, erase: Callable[[], bool]) -> Proof:
    """Search, erase, and search again until nothing is found, for PATIENCE at most. `erase` says whether it is done."""
    before = search.look()
    done = erase()
    after = search.look(patience=PATIENCE if done else 0)
    return Proof(search, before, after, _waiting(search.settings))


def _waiting(settings: Settings) -> dict[str, str]:
    lags = projection_lags(settings)
    return {
        name: "it stands still" if lag.progress.stands_still else f"it is {lag.events} events behind"
        for name, lag in lags.by_name.items()
        if lag.progress.stands_still or lag.events
    }
