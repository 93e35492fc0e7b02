"""`cqrs events`: shows, exports and imports the log."""

import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.access.remote import here
from cli.errors import Refused
from cli.events import anchors, cloud_events, importing
from cli.output import AsJson, complain, example, progress, say, show_json, show_line
from cli.stores import log, protect
from shared.database import engines
from shared.stores import event_store

FOLLOW_EVERY = 0.2
"""Seconds between two looks for new events."""

app = typer.Typer(no_args_is_help=True, help="Show, export and import the log.")

Types = Annotated[list[str] | None, typer.Option("--type", help="Only events of this type; may be repeated")]
Stream = Annotated[str | None, typer.Option(help="Only events of this stream, such as user-1")]


@app.command(epilog=example("cqrs events tail --follow --stream user-1"))
def tail(
    count: Annotated[int, typer.Option("--count", "-n", min=0, max=1000)] = 10,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new events until Ctrl-C")] = False,
    type_: Types = None,
    stream: Stream = None,
    as_json: AsJson = False,
) -> None:
    """Show the last events, one a line, the latest last."""
    show = show_line if as_json else _show
    with log.reading(here()) as connection, suppress(KeyboardInterrupt):
        last = event_store.last_position(connection)
        for event in event_store.read_latest(connection, types=type_, stream=stream, limit=count):
            show(event.shown())
            last = max(last, event.position)
        while follow:
            for event in event_store.read_all(connection, after=last, types=type_, stream=stream, limit=1000):
                show(event.shown())
                last = event.position
            time.sleep(FOLLOW_EVERY)


@app.command(epilog=example("cqrs events show 42"))
def show(position: Annotated[int, typer.Argument(min=1)], as_json: AsJson = False) -> None:
    """Show the event at a position of the log, as JSON."""
    with log.reading(here()) as connection:
        found = event_store.read_all(connection, after=position - 1, limit=1)
        hash = event_store.hashes(connection, after=position - 1, upto=position).get(position)
    if not found or found[0].position != position:
        raise Refused(f"no event {position} is in the log")
    show_json(found[0].shown() | {"hash": hash and hash.hex()})


@app.command(epilog=example("cqrs events head --json >> anchors.txt"))
def head(
    check: Annotated[
        typer.FileText | None,
        typer.Option(metavar="FILE", help="A file with heads that were kept, one a line; or - for stdin"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show the last event's position and hash, to be kept elsewhere; or check the log against those that were kept.

    A log that has grown since is well; one that was cut or changed is not, and the exit code is 1.
    """
    settings = here()
    if not check:
        found = anchors.head(settings)
        show_line(found.model_dump()) if as_json else say(str(found))
        return
    kept = anchors.read(check)
    if as_json:
        verdict = anchors.verdict(settings, kept)
        show_json(verdict)
        raise typer.Exit(0 if verdict["well"] else 1)
    found = anchors.check(settings, kept)
    say(f"cqrs: the log has all {len(kept)} heads that were kept, and goes on to event {found.position}")


@app.command(epilog=example("cqrs events export > log.jsonl"))
def export() -> None:
    """Write the whole log to stdout as JSON lines, each a CloudEvent 1.0; the last has their number and checksum."""
    with engines.reading(here().event_store) as connection:
        lines = cloud_events.lines(connection)
        for line in progress(lines, "exported", total=event_store.last_position(connection) + 1):
            sys.stdout.buffer.write(line)
    sys.stdout.buffer.flush()


@app.command("import", epilog=example("cqrs events import log.jsonl"))
def import_(
    file: Annotated[typer.FileBinaryRead, typer.Argument(help="An export, or - for stdin")],
    keys: Annotated[
        Path | None, typer.Option(help="The file with the keys of people that `cqrs backup` wrote beside a backup")
    ] = None,
) -> None:
    """Import an exported log into empty stores, with its positions, versions and times: all of it, or nothing.

    An export holds personal data encrypted: the keys of people must be here already, or come in a file of their own.
    """
    count = importing.import_(here(), progress(cloud_events.read_lines(file), "imported"), keys)
    say(f"cqrs: {count} events are in the log; the service fills the read models when it runs")
    if protect.is_due(here()):
        complain(protect.IN_THE_CLEAR)


def _show(event: dict[str, Any]) -> None:
    data = " ".join(f"{name}={value}" for name, value in event["data"].items())
    at = f"{event['recorded_at'][:19]}Z"
    say(f"{event['id']:>8}  {at}  {event['type']:<18} {event['stream']}@{event['version']}  {data}")
