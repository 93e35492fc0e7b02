"""What is wrong with the surroundings is told in one line, and exit code 1."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

import typer
from pydantic import ValidationError
from sqlalchemy.exc import DBAPIError

from cli.private import private
from shared.cloud_events import Damaged
from shared.schema import WrongSchema
from shared.shapes import Unreadable
from shared.streams import Wrong
from shared.tables import WrongTable

P = ParamSpec("P")


class Refused(Exception):
    """It can't be done, and why, in one line."""


def in_one_line(command: Callable[P, None]) -> Callable[P, None]:
    @wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            with private():
                return command(*args, **kwargs)
        except ValidationError as error:
            first = error.errors()[0]
            name = "_".join(["CQRS", *map(str, first["loc"])]).upper()
            message = f"{name}: {first['msg'].removeprefix('Value error, ')}"
        except DBAPIError as error:
            message = f"a store can't be used: {' '.join(str(error.orig).split())}"
        except (Refused, Damaged, Wrong, WrongSchema, WrongTable, Unreadable, OSError) as error:
            message = str(error)
        typer.secho(f"cqrs: {message}", fg="red", err=True)
        raise typer.Exit(1)

    return wrapped
