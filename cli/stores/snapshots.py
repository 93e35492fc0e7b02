"""Snapshots of all stores at one moment."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

from sqlalchemy import Connection

from shared.database import engines
from shared.domain.projections import PROJECTIONS
from shared.settings import Settings


class Snapshots(NamedTuple):
    """A connection to each store, which sees it as it was at one moment. Read models are by projection."""

    inbox: Connection
    log: Connection
    read_models: Mapping[str, Connection]


@contextmanager
def snapshots(settings: Settings) -> Iterator[Snapshots]:
    """Snapshots open downstream first, so no store is ahead of its source, whatever is written meanwhile.

    That is how the stores would be if the workers had been slower by a few milliseconds.
    """
    with ExitStack() as opened:

        def see(url: str) -> Connection:
            return opened.enter_context(engines.snapshot(url))

        read_models = {name: see(settings.read_model_of(name)) for name in PROJECTIONS}
        log = see(settings.event_store)
        yield Snapshots(see(settings.inbox), log, read_models)
