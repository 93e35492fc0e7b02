"""The `cqrs` command."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from pydantic import ValidationError
from sqlalchemy.exc import DBAPIError

from cli import init as init_
from cli import up as up_
from cli.init import NotUsable
from shared.settings import Settings

app = typer.Typer(no_args_is_help=True, help="A directory of users on CQRS and event sourcing.")

Workers = Annotated[int, typer.Option(min=1, max=64)]


@app.command()
def up(command_workers: Workers = 1, projection_workers: Workers = 1) -> None:
    """Run the whole service on this machine until Ctrl-C."""
    with _in_one_line():
        up_.up(Settings(), command_workers=command_workers, projection_workers=projection_workers)


@app.command()
def init() -> None:
    """Make the data dir and the tables of the three stores, where they aren't there yet."""
    with _in_one_line():
        settings = Settings()
        init_.init(settings)
        typer.echo(f"cqrs: the data is in {settings.data_dir}")


@contextmanager
def _in_one_line() -> Iterator[None]:
    """What is wrong with the surroundings is told in one line, and exit code 1."""
    try:
        yield
    except ValidationError as error:
        first = error.errors()[0]
        message = f"{'_'.join(['CQRS', *map(str, first['loc'])]).upper()}: {first['msg'].removeprefix('Value error, ')}"
    except DBAPIError as error:
        message = f"a store can't be used: {error.orig}"
    except (NotUsable, OSError) as error:
        message = str(error)
    else:
        return
    typer.secho(f"cqrs: {message}", fg="red", err=True)
    raise typer.Exit(1)
