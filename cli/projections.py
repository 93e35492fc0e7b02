"""`cqrs projections`: how far each one is, and what stops it."""

import json
from collections.abc import Mapping
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

from cli.errors import in_one_line
from cli.output import AsJson, example
from shared import database, event_store, projection
from shared.read_models import PROJECTIONS
from shared.settings import Settings

app = typer.Typer(no_args_is_help=True, help="How far the projections are.")


@app.callback()
def projections() -> None:
    """A group, although it has one command yet."""


@app.command(epilog=example("cqrs projections status"))
@in_one_line
def status(as_json: AsJson = False) -> None:
    """Position and lag of each projection, and the event that stops it, if one does. Exit code 1 if one is stopped."""
    progress = _progress(Settings())
    if as_json:
        typer.echo(json.dumps(progress, indent=2))
    else:
        table = Table("projection", "position", "lag", "state", box=None, pad_edge=False)
        for name, each in progress.items():
            table.add_row(name, str(each["position"]), str(each["lag"]), _state(each["stopped"]))
        Console(soft_wrap=True, markup=False).print(table)
    raise typer.Exit(1 if any(each["stopped"] for each in progress.values()) else 0)


def _progress(settings: Settings) -> dict[str, dict[str, Any]]:
    stands = {}
    for name in PROJECTIONS:
        with database.reader(settings.read_model_of(name)).connect() as connection:
            stands[name] = projection.stands(connection, name)
    with database.reader(settings.event_store).connect() as connection:
        last = event_store.last_position(connection)
    return {name: each.shown(last) for name, each in stands.items()}


def _state(stopped: Mapping[str, Any] | None) -> str:
    return f"stopped by event {stopped['event']}: {stopped['error']}" if stopped else "running"
