"""A rebuild of the users that kills itself, for a process of its own."""

import os
import signal
from typing import Any, NoReturn

from cli.projections.rebuild import rebuild as by_command
from shared import projection
from shared.domain.projections import PROJECTIONS
from shared.settings import Settings
from shared.stores import checkpoints
from workers.projecting import chunk, rebuild


def die(*_: Any, **__: Any) -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def after_two_chunks(*args: Any, **kwargs: Any) -> Any:
    done = chunk.advance(*args, **kwargs)
    return done if done.reached <= 2 * chunk.CHUNK else die()


def when_done(switch: Any) -> Any:
    return lambda *args, **kwargs: (switch(*args, **kwargs), die())


STAGES: dict[str, tuple[Any, str, Any]] = {
    "making": (projection.metadata, "create_all", die),
    "building": (rebuild, "advance", after_two_chunks),
    "comparing": (rebuild, "difference", die),
    "switching": (checkpoints, "move_stop", die),
    "switched": (rebuild, "_switch", when_done(rebuild._switch)),
}


def rebuild_until(settings: Settings, stage: str) -> None:
    """Rebuild, two events at a time, and end at this stage."""
    chunk.CHUNK = 2
    where, name, instead = STAGES[stage]
    assert hasattr(where, name)
    setattr(where, name, instead)
    by_command(settings, PROJECTIONS["users"], check=False, resume=False, pause=False)
