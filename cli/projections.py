"""`cqrs projections`: how far each one is, and what stops it."""

import json

import typer
from rich.console import Console
from rich.table import Table

from cli.commands import AsJson
from cli.errors import in_one_line
from shared import database, projection
from shared.settings import Settings

app = typer.Typer(no_args_is_help=True, help="How far the projections are.")


@app.callback()
def projections() -> None:
    """A group, although it has one command yet."""


@app.command()
@in_one_line
def status(as_json: AsJson = False) -> None:
    """Position and lag of each projection, and the event that stops it, if one does. Exit code 1 if one is stopped."""
    settings = Settings()
    read_model, log = database.reader(settings.read_model), database.reader(settings.event_store)
    with read_model.connect() as connection, log.connect() as reading:
        progress = projection.progress(connection, reading)
    if as_json:
        typer.echo(json.dumps({name: each.shown() for name, each in progress.items()}, indent=2))
    else:
        table = Table("projection", "position", "lag", "state", box=None, pad_edge=False)
        for name, (at, lag, stop) in progress.items():
            state = f"stopped by event {stop.event}: {stop.error}" if stop else "running"
            table.add_row(name, str(at), str(lag), state)
        Console(soft_wrap=True, markup=False).print(table)
    raise typer.Exit(1 if any(each.stopped for each in progress.values()) else 0)
