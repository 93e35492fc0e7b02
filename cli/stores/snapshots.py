"""Snapshots of all stores at one moment."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

from sqlalchemy import Connection

from cli.stores.log import people_of
from shared.database import engines
from shared.domain.projections import PROJECTIONS
from shared.settings import Settings
from shared.stores.subjects import SUBJECTS


class Snapshots(NamedTuple):
    """A connection to each store, which sees it as it was at one moment. Read models are by projection."""

    inbox: Connection
    log: Connection
    read_models: Mapping[str, Connection]
    people: Connection
    """It sees the keys of all people in the log, and perhaps of later ones."""


@contextmanager
def snapshots(settings: Settings) -> Iterator[Snapshots]:
    """Snapshots open downstream first, so no store is ahead of its source, whatever is written meanwhile.

    That is how the stores would be if the workers had been slower by a few milliseconds.
    """
    with ExitStack() as opened:
        people = opened.enter_context(people_of(settings))

        def see(url: str) -> Connection:
            return opened.enter_context(engines.snapshot(url))

        read_models = {name: see(settings.read_model_of(name)) for name in PROJECTIONS}
        log = see(settings.event_store)
        inbox = see(settings.inbox)
        for each in (inbox, log):
            each.info[SUBJECTS] = people
        yield Snapshots(inbox, log, read_models, see(settings.subjects))
