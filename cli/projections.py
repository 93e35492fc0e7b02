"""`cqrs projections`: how far each one is, and what stops it."""

import json

import typer
from rich.console import Console
from rich.table import Table

from cli.commands import AsJson
from cli.errors import in_one_line
from shared import database, event_store, projection
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
    with database.reader(settings.read_model).connect() as connection:
        positions, stops = projection.positions(connection), projection.stops(connection)
    with database.reader(settings.event_store).connect() as connection:
        last = event_store.last_position(connection)
    if as_json:
        shown = {
            name: {"position": at, "lag": last - at, "stopped": (stop := stops.get(name)) and stop._asdict()}
            for name, at in positions.items()
        }
        typer.echo(json.dumps(shown, indent=2))
    else:
        table = Table("projection", "position", "lag", "state", box=None, pad_edge=False)
        for name, at in positions.items():
            stop = stops.get(name)
            state = f"stopped by event {stop.position}: {stop.error}" if stop else "running"
            table.add_row(name, str(at), str(last - at), state)
        Console(soft_wrap=True, markup=False).print(table)
    raise typer.Exit(1 if stops else 0)
