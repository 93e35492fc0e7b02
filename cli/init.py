"""Making the data dir and the tables of the three stores."""

from pathlib import Path

from cli.errors import Refused
from shared import database, event_store, inbox, outcomes, projection, sqlite
from shared.settings import Settings
from workers.projections import PROJECTIONS


def init(settings: Settings) -> None:
    """Make what isn't there yet; change nothing that is. Raises Refused."""
    stores = {
        inbox.LOCK: (settings.inbox, inbox.metadata),
        event_store.LOCK: (settings.event_store, event_store.metadata),
        "read_model": (settings.read_model, projection.metadata),
    }
    for lock, (url, metadata) in stores.items():
        if database.is_local(url):
            _make_writable(sqlite.path_of(url).parent)
        database.create_tables(url, metadata, lock=lock)
    with database.writer(settings.read_model, lock="users").begin() as connection:
        for name in PROJECTIONS.keys() - projection.positions(connection).keys():
            projection.move_checkpoint(connection, name, 0)
        for name in projection.stops(connection).keys() - PROJECTIONS.keys():
            projection.move_stop(connection, name, None)
    _check_they_belong_together(settings)


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
    with database.reader(settings.read_model).connect() as connection:
        projected = max(projection.positions(connection).values())
    with database.reader(settings.event_store).connect() as connection:
        recorded, handled = event_store.last_position(connection), outcomes.last_seq(connection)
    with database.reader(settings.inbox).connect() as connection:
        accepted = inbox.last_seq(connection)
    if handled > accepted:
        raise Refused(f"the inbox ends at command {accepted}, the event store at {handled}: they aren't a pair")
    if projected > recorded:
        raise Refused(f"the log ends at event {recorded}, the read model at {projected}: they aren't a pair")
