"""Making the data dir and the tables of the three stores."""

from pathlib import Path

from shared import database, event_store, inbox, outcomes, projection
from shared.settings import Settings
from workers.projections import PROJECTIONS


class NotUsable(Exception):
    """The data can't be used, and why, in one line."""


def init(settings: Settings) -> None:
    """Make what isn't there yet; change nothing that is. Raises NotUsable."""
    stores = {
        settings.inbox: inbox.metadata,
        settings.event_store: event_store.metadata,
        settings.read_model: projection.metadata,
    }
    for url, metadata in stores.items():
        _make_writable(database.path_of(url).parent)
        database.create_tables(url, metadata)
    with database.writer(settings.read_model).begin() as connection:
        for name in PROJECTIONS.keys() - projection.positions(connection).keys():
            projection.move_checkpoint(connection, name, 0)
    _check_inbox_is_the_log_s(settings)


def _make_writable(folder: Path) -> None:
    probe = folder / ".writable"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise NotUsable(f"{folder} can't be written: {error.strerror}") from None


def _check_inbox_is_the_log_s(settings: Settings) -> None:
    """Outcomes are found by a command's seq: an inbox that starts anew beside an old log would be given old ones."""
    with database.reader(settings.inbox).connect() as connection:
        accepted = inbox.last_seq(connection)
    with database.reader(settings.event_store).connect() as connection:
        handled = outcomes.last_seq(connection)
    if handled > accepted:
        raise NotUsable(f"the inbox ends at command {accepted}, the event store at {handled}: they aren't a pair")
