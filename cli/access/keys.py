"""`cqrs keys`: makes, lists, revokes and rotates the keys with which callers use the API."""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from cli.access.remote import here
from cli.errors import Refused
from cli.output import AsJson, console, example, say, show_json, table
from shared.access.keys import new_key
from shared.access.principals import operator_here
from shared.access.roles import ROLES, Role
from shared.database import engines
from shared.operations import key_table
from shared.operations.key_table import KnownKey, NoSuchKey
from shared.stores import event_store

app = typer.Typer(no_args_is_help=True, help="Make, list, rotate and revoke keys, with which callers use the API.")

DURATION = re.compile("([1-9][0-9]{0,4})([mhd])")

UNITS = {"m": "minutes", "h": "hours", "d": "days"}

Name = Annotated[str, typer.Argument(help="The key's holder: an app or a person", metavar="NAME")]

Which = Annotated[str, typer.Argument(help="The key's name or its id", metavar="KEY")]


def _duration(text: str) -> timedelta:
    match = DURATION.fullmatch(text)
    if not match:
        raise typer.BadParameter("must be a number and a unit (m, h or d), such as 90d")
    return timedelta(**{UNITS[match[2]]: int(match[1])})


Roles = Annotated[list[str], typer.Option("--role", help=f"What the key may do: {', '.join(ROLES)}; may be repeated")]
Expires = Annotated[
    timedelta | None,
    typer.Option(
        parser=_duration,
        help="How long the key can be used, such as 90d, 12h or 30m; for ever unless given",
        metavar="TIME",
    ),
]
Grace = Annotated[
    timedelta | None,
    typer.Option(
        parser=_duration,
        help="How long the old secret goes on working, such as 1d, 12h or 30m; not at all unless given",
        metavar="TIME",
    ),
]


@app.command(epilog=example("cqrs keys add billing --role reader --role writer --expires 90d"))
def add(name: Name, role: Roles, expires: Expires = None, as_json: AsJson = False) -> None:
    """Make a key and write it to stdout. It is shown only this once."""
    if unknown := set(role) - set(ROLES):
        raise Refused(f"there is no role {', '.join(sorted(unknown))}: roles are {', '.join(ROLES)}")
    if not re.fullmatch(r"[\w.@/-]{1,64}", name, re.ASCII):
        raise Refused("a key's name has letters, digits and ._@/- only, 64 at most")
    roles: list[Role] = [each for each in ROLES if each in role]
    key = new_key()
    with engines.writing(here().event_store, lock=event_store.LOCK) as connection:
        until = datetime.now(UTC) + expires if expires else None
        known = key_table.add(connection, key, name, roles, expires_at=until, by=operator_here())
    _show_text(known, key.text, as_json=as_json)


@app.command("list", epilog=example("cqrs keys list"))
def list_(as_json: AsJson = False) -> None:
    """List all keys that were ever made, expired and revoked ones too. Their secrets are not stored, so not shown."""
    with engines.reading(here().event_store) as connection:
        known = key_table.all_keys(connection)
    if as_json:
        show_json(list(map(_shown, known)))
        return
    rows = [
        (each.id, each.name, " ".join(sorted(each.roles)), each.state, _until(each), each.created_by) for each in known
    ]
    console().print(table("id", "name", "roles", "state", "expires", "made by", rows=rows))


@app.command(epilog=example("cqrs keys revoke billing"))
def revoke(key: Which, as_json: AsJson = False) -> None:
    """Revoke a key for good. Within a second every process refuses it and ends its streams."""
    with engines.writing(here().event_store, lock=event_store.LOCK) as connection:
        known = _find(connection, key)
        known = key_table.revoke(connection, known, by=operator_here())
    if as_json:
        show_json(_shown(known))
    else:
        say(f"cqrs: the key {known.name} ({known.id}) is revoked")


@app.command(epilog=example("cqrs keys rotate billing --grace 1d"))
def rotate(key: Which, grace: Grace = None, as_json: AsJson = False) -> None:
    """Give a key a new secret and write the new key to stdout. It is shown only this once.

    The key keeps its id, roles and expiry; its holder still sees the commands that were sent with the old secret.
    """
    with engines.writing(here().event_store, lock=event_store.LOCK) as connection:
        known = _find(connection, key)
        if known.state == "expired":
            raise Refused(f"the key {known.name} ({known.id}) has expired and can't be rotated: make another")
        new, old_until = new_key(known.id), datetime.now(UTC) + (grace or timedelta(0))
        known = key_table.rotate(connection, known, new, old_until=old_until, by=operator_here())
    _show_text(known, new.text, as_json=as_json)


def _find(connection: Any, key: str) -> KnownKey:
    try:
        return key_table.find(connection, key)
    except NoSuchKey as none:
        raise Refused(str(none)) from None


def _until(known: KnownKey) -> str:
    return f"{known.expires_at[:19]}Z" if known.expires_at else "never"


def _show_text(known: KnownKey, text: str, *, as_json: bool) -> None:
    if as_json:
        show_json(_shown(known) | {"key": text})
        return
    say(text)
    typer.secho("cqrs: this key is shown only this once; send it as `Authorization: Bearer cqrs_…`", err=True)


def _shown(known: KnownKey) -> dict[str, Any]:
    """A key without its digests."""
    shown = known._asdict() | {"roles": sorted(known.roles), "state": known.state}
    return {name: value for name, value in shown.items() if "digest" not in name}
