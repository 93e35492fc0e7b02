"""Operators' deeds on the stores of this machine."""

from shared.access.principals import operator_here
from shared.database import engines
from shared.operations import deeds
from shared.operations.commands import Deed
from shared.operations.deeds import At
from shared.settings import Settings
from shared.stores import event_store


def do(settings: Settings, deed: Deed, *, by: str | None = None) -> None:
    """Do a deed at once, by whoever runs the command. Raises Rejected."""
    with (
        engines.writing(settings.event_store, lock=event_store.LOCK) as log,
        engines.briefly(engines.reader(settings.inbox)) as inbox,
    ):
        deeds.do(At(log, inbox, by or operator_here()), deed)
