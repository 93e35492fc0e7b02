"""`cqrs users`: a user by the log, now or at an earlier time; and all that the stores hold of one."""

from contextlib import suppress
from datetime import UTC, datetime
from typing import Annotated

import typer
from sqlalchemy import Connection

from cli.access.remote import here
from cli.errors import Refused
from cli.output import AsJson, console, example, show_json, table
from cli.stores import log
from cli.stores.streams import export as export_
from shared import clock
from shared.clock import written
from shared.domain.users.history import fold
from shared.domain.users.read_models.users import User
from shared.stores import event_store

app = typer.Typer(no_args_is_help=True, help="Show a user as the log has it; export all that the stores hold of one.")

UserId = Annotated[int, typer.Argument(min=1, metavar="ID")]
Version = Annotated[int | None, typer.Option(min=1, help="Show the user at this version")]
At = Annotated[str | None, typer.Option(help="Show the user at this time, as in RFC 3339; UTC without an offset")]


@app.command(epilog=example("cqrs users show 1 --at 2026-01-31T12:00:00Z"))
def show(user_id: UserId, version: Version = None, at: At = None, as_json: AsJson = False) -> None:
    """Show a user now, or at an earlier version or time."""
    if version and at:
        raise Refused("give --version or --at, not both")
    with log.reading(here()) as connection:
        user = _user(connection, f"user-{user_id}", version, _moment(at) if at else None)
    if as_json:
        show_json(user._asdict())
        return
    rows = [(name, str(value)) for name, value in user._asdict().items()]
    console().print(table("field", "value", rows=rows))


@app.command(epilog=example("cqrs users export 1 > user-1.json"))
def export(user_id: UserId) -> None:
    """Write all that the stores hold of a user to stdout, as JSON by table. `cqrs audit` shows who exported it."""
    show_json(export_(here(), f"user-{user_id}"))


def _user(connection: Connection, stream: str, version: int | None, at: datetime | None) -> User:
    last = event_store.stream_version(connection, stream)
    upto = version or (event_store.version_at(connection, stream, written(at)) if at else last)
    if not last:
        raise Refused(f"there is no {stream}")
    if upto > last:
        raise Refused(f"{stream} is at version {last}")
    user = fold(None, event_store.read_stream(connection, stream, upto=upto)) if upto else None
    if not user:
        raise Refused(f"there was no {stream} yet")
    return user


def _moment(text: str) -> datetime:
    with suppress(ValueError):
        return clock.parsed(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise Refused(f"--at: {text} is no time such as 2026-01-31T12:00:00Z") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
