"""Rebuilding a projection on the machine with the stores."""

from typing import Any

from cli.output import Rate, bar
from shared.access.principals import operator_here
from shared.database import engines
from shared.operations.record import Operation, record
from shared.projection import Projection
from shared.settings import Settings
from shared.stores import event_store
from workers.projecting import rebuild as worker
from workers.projecting.rebuild import How


def rebuild(settings: Settings, which: Projection, *, check: bool, resume: bool, pause: bool) -> dict[str, Any]:
    """Rebuild a projection, as its worker does when an operator asks for it; returns what was found and done.

    `check`: nothing is swapped, and no shadow stays. `resume`: go on with what an interrupted one left. `pause`: the
    projection is paused from the swap on. Raises NotRebuilt, Wrong or a store's error.
    """

    def to_log(done: Operation) -> None:
        with engines.writing(settings.event_store, lock=event_store.LOCK) as connection:
            record(connection, done, by=operator_here())

    by, bars = operator_here(), lambda title: bar(title, Rate())
    how = How(by, bars, check=check, resume=resume, keeps=True, pause=pause, record=to_log)
    return worker.rebuild(settings, which, how)
