"""Bugs for the service's processes, which find this on PYTHONPATH, until there is a file `mended` in the data dir."""

import os
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from shared.domain.users import decider
from shared.domain.users.read_models import users as read_model

rules, users = decider.users, read_model.users

DATA = Path(os.environ["CQRS_DATA_DIR"])


class Panic(BaseException):
    """What Rust raises, and not an Exception."""


def decide(command: Any, user: Any) -> Sequence[Any]:
    match not (DATA / "mended").exists() and getattr(command, "email", "").partition("@")[0]:
        case "raises":
            raise ZeroDivisionError("a bug")
        case "tells":
            raise ValueError(f"{command!r} is wrong") from KeyError(command.email)
        case "panics":
            raise Panic("a bug")
        case "exits":
            os._exit(1)
        case "hangs":
            time.sleep(3600)
    return rules.decide(command, user)


def project(connection: Any, events: Iterable[Any]) -> None:
    events = list(events)
    users.project(connection, events)
    if not (DATA / "mended").exists() and any("unapplicable@" in str(event) for event in events):
        raise ZeroDivisionError("a bug")
    if not (DATA / "mended").exists() and any("untold@" in str(event) for event in events):
        raise LookupError(f"{events!r} are wrong")
    if any("holds@" in str(event) for event in events):
        with suppress(FileExistsError):
            (DATA / "held").symlink_to(str(os.getpid()))  # the first process to come here
            time.sleep(3600)


decider.users = replace(rules, decide=decide)
read_model.users = replace(users, project=project)
