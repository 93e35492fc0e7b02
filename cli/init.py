"""Making the data dir and the tables of the three stores."""

from pathlib import Path

from cli.errors import Refused
from shared import database, event_store, inbox, outcomes, projection, sqlite
from shared.read_models import PROJECTIONS
from shared.settings import Settings


def init(settings: Settings) -> None:
    """Make what isn't there yet; change nothing that is. Raises Refused."""
    stores = {
        inbox.LOCK: (settings.inbox, inbox.metadata),
        event_store.LOCK: (settings.event_store, event_store.metadata),
        **{name: (settings.read_model_of(name), projection.metadata) for name in PROJECTIONS},
    }
    for lock, (url, metadata) in stores.items():
        if database.is_local(url):
            _make_writable(sqlite.path_of(url).parent)
        database.create_tables(url, metadata, lock=lock)
    for name in PROJECTIONS:
        _begin(settings.read_model_of(name), name)
    _check_they_belong_together(settings)


def _begin(url: str, name: str) -> None:
    with database.writer(url, lock=name).begin() as connection:
        if name not in projection.positions(connection):
            projection.move_checkpoint(connection, name, 0)
        for gone in projection.stops(connection).keys() - PROJECTIONS.keys():
            projection.move_stop(connection, gone, None)


def _make_writable(folder: Path) -> None:
    probe = folder / ".writable"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise Refused(f"{folder} can't be written: {error.strerror}") from None


def _check_they_belong_together(settings: Settings) -> None:
    """Outcomes are found by a command's seq, events by position: a store may be ahead of those that follow it only.

    Followers are read first, since all may be in use.
    """
    projected = max(_checkpoint(settings.read_model_of(name), name) for name in PROJECTIONS)
    with database.reader(settings.event_store).connect() as connection:
        recorded, handled = event_store.last_position(connection), outcomes.last_seq(connection)
    with database.reader(settings.inbox).connect() as connection:
        accepted = inbox.last_seq(connection)
    if handled > accepted:
        raise Refused(f"the inbox ends at command {accepted}, the event store at {handled}: they aren't a pair")
    if projected > recorded:
        raise Refused(f"the log ends at event {recorded}, the read model at {projected}: they aren't a pair")


def _checkpoint(url: str, name: str) -> int:
    with database.reader(url).connect() as connection:
        return projection.checkpoint(connection, name)
