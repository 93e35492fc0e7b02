"""`cqrs events`: the log, to look at, to take away and to bring back."""

import sys
import time
from contextlib import suppress
from typing import Annotated, Any

import typer

from cli.errors import Refused, in_one_line
from cli.events import cloud_events, importing
from cli.output import AsJson, example, progress, say, show_json, show_line
from shared.database import engines
from shared.settings import Settings
from shared.stores import event_store

LOOK_EVERY = 0.2
"""Seconds between looks for new events."""

app = typer.Typer(no_args_is_help=True, help="The log.")

Types = Annotated[list[str] | None, typer.Option("--type", help="Only this type; may be given again")]
Stream = Annotated[str | None, typer.Option(help="Only this stream: user-1, say")]


@app.command(epilog=example("cqrs events tail --follow --stream user-1"))
@in_one_line
def tail(
    count: Annotated[int, typer.Option("--count", "-n", min=0, max=1000)] = 10,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Until Ctrl-C")] = False,
    type_: Types = None,
    stream: Stream = None,
    as_json: AsJson = False,
) -> None:
    """The last events, one a line, the latest last."""
    show = show_line if as_json else _show
    with engines.reading(Settings().event_store) as connection, suppress(KeyboardInterrupt):
        last = event_store.last_position(connection)
        for event in event_store.read_latest(connection, types=type_, stream=stream, limit=count):
            show(event.shown())
            last = max(last, event.position)
        while follow:
            for event in event_store.read_all(connection, after=last, types=type_, stream=stream, limit=1000):
                show(event.shown())
                last = event.position
            time.sleep(LOOK_EVERY)


@app.command(epilog=example("cqrs events show 42"))
@in_one_line
def show(position: Annotated[int, typer.Argument(min=1)], as_json: AsJson = False) -> None:
    """One event, by its position in the log; as JSON in any case."""
    with engines.reading(Settings().event_store) as connection:
        found = event_store.read_all(connection, after=position - 1, limit=1)
    if not found or found[0].position != position:
        raise Refused(f"no event {position} is in the log")
    show_json(found[0].shown())


@app.command(epilog=example("cqrs events export > log.jsonl"))
@in_one_line
def export() -> None:
    """The whole log as JSON lines on stdout, each a CloudEvent 1.0; the last line has the number and the checksum."""
    with engines.reading(Settings().event_store) as connection:
        lines = cloud_events.lines(connection)
        for line in progress(lines, "exported", total=event_store.last_position(connection) + 1):
            sys.stdout.buffer.write(line)
    sys.stdout.buffer.flush()


@app.command("import", epilog=example("cqrs events import log.jsonl"))
@in_one_line
def import_(file: Annotated[typer.FileBinaryRead, typer.Argument(help="As exported; - is stdin")]) -> None:
    """Bring an exported log into empty stores: the same positions, versions and times. All of it, or nothing."""
    count = importing.import_(Settings(), progress(cloud_events.read_lines(file), "imported"))
    say(f"cqrs: {count} events are in the log; read models follow as soon as the service runs")


def _show(event: dict[str, Any]) -> None:
    data = " ".join(f"{name}={value}" for name, value in event["data"].items())
    at = f"{event['recorded_at'][:19]}Z"
    say(f"{event['id']:>8}  {at}  {event['type']:<18} {event['stream']}@{event['version']}  {data}")
