"""`cqrs users`: a user by the log, now or at an earlier time; all that the stores hold of one; and its erasure."""

import sys
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from sqlalchemy import Connection

from cli.access.remote import Api, here
from cli.erasing.proof import Proof, prove
from cli.erasing.search import asked, search
from cli.erasing.values import given
from cli.errors import Refused
from cli.output import AsJson, console, example, say, show_json, table
from cli.stores import log
from cli.stores.sending import send
from cli.stores.streams import export as export_
from shared import clock
from shared.clock import written
from shared.domain.projections import ERASING
from shared.domain.users.history import fold
from shared.domain.users.messages import EraseUser
from shared.domain.users.read_models.users import User
from shared.settings import Settings
from shared.stores import event_store

app = typer.Typer(
    no_args_is_help=True, help="Show a user as the log has it; export all that is held of one; erase one."
)

UserId = Annotated[int, typer.Argument(min=1, metavar="ID")]
Version = Annotated[int | None, typer.Option(min=1, help="Show the user at this version")]
At = Annotated[str | None, typer.Option(help="Show the user at this time, as in RFC 3339; UTC without an offset")]

Verify = Annotated[
    bool, typer.Option("--verify", help="Look for the user's values before and after it; exit code 1 if any is left")
]
Also = Annotated[
    list[Path] | None, typer.Option(help="A backup or an export to look through, too", metavar="PATH", exists=True)
]
Values = Annotated[
    bool, typer.Option("--values", help="Read values to look for from stdin, a line each: of one erased earlier")
]


@app.command(epilog=example("cqrs users show 1 --at 2026-01-31T12:00:00Z"))
def show(user_id: UserId, version: Version = None, at: At = None, as_json: AsJson = False) -> None:
    """Show a user now, or at an earlier version or time. Of one that was erased, names and address are gone."""
    if version and at:
        raise Refused("give --version or --at, not both")
    with log.reading(here()) as connection:
        user, marks = _user(connection, user_id, version, _moment(at) if at else None)
    shown = {**user._asdict(), **marks}
    if as_json:
        show_json(shown)
        return
    rows = [(name, "" if value is None else str(value)) for name, value in shown.items()]
    console().print(table("field", "value", rows=rows))


@app.command(epilog=example("cqrs users export 1 > user-1.json"))
def export(user_id: UserId) -> None:
    """Write all that the stores hold of a user to stdout, as JSON by table. `cqrs audit` shows who exported it."""
    show_json(export_(here(), f"user-{user_id}"))


@app.command(epilog=example("cqrs users erase 1 --verify --also /backups/monday"))
def erase(
    user_id: UserId, verify: Verify = False, also: Also = None, values: Values = False, as_json: AsJson = False
) -> None:
    """Erase a user for good: what is personal of it can then be read nowhere. `cqrs audit` shows who erased it.

    If CQRS_API_URL is set, that API is asked, which takes a key with the role eraser in CQRS_API_KEY; --verify works on
    the machine with the stores only.
    """
    if verify:
        proof = _proof(here(), user_id, also or [], values=values)
        if as_json:
            show_json(proof.shown())
        else:
            proof.say()
        raise typer.Exit(0 if proof.holds else 1)
    done = _erase(Settings(), user_id)
    if as_json:
        show_json({"user_id": user_id, "erased": done})
    elif done:
        say(f"cqrs: user {user_id} is erased")
    else:
        say(f"cqrs: the erasure of user {user_id} is accepted; it is done once the service runs")


def _erase(settings: Settings, user_id: int) -> bool:
    """Whether it is done within seconds."""
    if settings.api_url:
        return bool(Api(settings.api_url, settings.api_key).do("DELETE", f"/users/{user_id}")["status"] == "succeeded")
    return bool(send(settings, EraseUser, "user", user_id))


def _proof(settings: Settings, user_id: int, also: list[Path], *, values: bool) -> Proof:
    stream = f"user-{user_id}"
    pages = [
        f"/users/{user_id}",
        f"/users/{user_id}/history",
        f"/users/?after={user_id - 1}&limit=1",
        f"/events/?stream={stream}",
    ]
    texts = sys.stdin.read().splitlines() if values else []
    found = search(settings, stream, given(texts), also=also, paths=pages, ask=asked(settings))
    if not found.values:
        raise Refused(f"the log has no value of {stream} that can be looked for: give some with --values")
    with log.reading(settings) as connection:
        latest = event_store.read_latest(connection, stream=stream, limit=1)
    is_erased = bool(latest) and latest[0].type in ERASING
    return prove(found, lambda: is_erased or _erase(settings, user_id))


def _user(
    connection: Connection, user_id: int, version: int | None, at: datetime | None
) -> tuple[User, Mapping[str, bool]]:
    """The user, and the marks of the events that it is made of."""
    stream = f"user-{user_id}"
    latest = event_store.read_latest(connection, stream=stream, limit=1)
    last = latest[0].version if latest else 0
    upto = version or (event_store.version_at(connection, stream, written(at)) if at else last)
    if not last:
        raise Refused(f"there is no {stream}")
    if latest[0].type in ERASING and upto >= last:
        raise Refused(f"{stream} was erased at {latest[0].recorded_at}")
    if upto > last:
        raise Refused(f"{stream} is at version {last}")
    events = event_store.read_stream(connection, stream, upto=upto) if upto else []
    user = fold(None, events)
    if not user:
        raise Refused(f"there was no {stream} yet")
    return user, {name: True for event in events for name in event.marks}


def _moment(text: str) -> datetime:
    with suppress(ValueError):
        return clock.parsed(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise Refused(f"--at: {text} is no time such as 2026-01-31T12:00:00Z") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
