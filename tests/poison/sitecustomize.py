"""Bugs for the service's processes, which find this on PYTHONPATH: rules and a projection that some addresses break."""

import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from shared.users import decider, read_model

rules, users = decider.users, read_model.users


def decide(command: Any, user: Any) -> Sequence[Any]:
    match command.email.partition("@")[0]:
        case "raises":
            raise ZeroDivisionError("a bug")
        case "exits":
            os._exit(1)
        case "hangs":
            time.sleep(3600)
    return rules.decide(command, user)


def project(connection: Any, events: Sequence[Any]) -> None:
    """Cannot apply some events, until there is a file `mended` in the folder."""
    users.project(connection, events)
    if any("unapplicable" in str(event) for event in events) and not Path("mended").exists():
        raise ZeroDivisionError("a bug")


decider.users = replace(rules, decide=decide)
read_model.users = replace(users, project=project)
