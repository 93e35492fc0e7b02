"""The `cqrs` command."""

from typing import Annotated, NoReturn

import typer
from pydantic import ValidationError

from cli import init as init_
from cli import up as up_
from cli.init import NotUsable
from shared.settings import Settings

app = typer.Typer(no_args_is_help=True, help="A directory of users on CQRS and event sourcing.")

Workers = Annotated[int, typer.Option(min=1, max=64)]


@app.command()
def up(command_workers: Workers = 1, projection_workers: Workers = 1) -> None:
    """Run the whole service on this machine until Ctrl-C."""
    try:
        up_.up(_settings(), command_workers=command_workers, projection_workers=projection_workers)
    except NotUsable as error:
        _fail(str(error))


@app.command()
def init() -> None:
    """Make the data dir and the tables of the three stores, where they aren't there yet."""
    settings = _settings()
    try:
        init_.init(settings)
    except NotUsable as error:
        _fail(str(error))
    typer.echo(f"cqrs: the data is in {settings.data_dir}")


def _settings() -> Settings:
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        _fail(f"CQRS_{'_'.join(map(str, first['loc'])).upper()}: {first['msg']}")


def _fail(message: str) -> NoReturn:
    typer.secho(f"cqrs: {message}", fg="red", err=True)
    raise typer.Exit(1)
