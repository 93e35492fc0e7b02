"""The `cqrs` command."""

from typing import Annotated

import typer

from cli import commands, projections
from cli import init as init_
from cli import up as up_
from cli.errors import in_one_line
from shared.settings import Settings

app = typer.Typer(no_args_is_help=True, help="A directory of users on CQRS and event sourcing.")
app.add_typer(commands.app, name="commands")
app.add_typer(projections.app, name="projections")

Workers = Annotated[int, typer.Option(min=1, max=64)]


@app.command()
@in_one_line
def up(command_workers: Workers = 1, projection_workers: Workers = 1) -> None:
    """Run the whole service on this machine until Ctrl-C."""
    up_.up(Settings(), command_workers=command_workers, projection_workers=projection_workers)


@app.command()
@in_one_line
def init() -> None:
    """Make the data dir and the tables of the three stores, or bring them to what this version needs."""
    settings = Settings()
    init_.init(settings)
    typer.echo(f"cqrs: the data is in {' and '.join(init_.places(settings))}")
