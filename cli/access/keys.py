"""`cqrs keys`: makes, lists, revokes and rotates keys of callers, here or elsewhere; rotates the master key."""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from cli.access.deeds import do
from cli.access.remote import Api, here
from cli.errors import Refused
from cli.output import AsJson, console, example, say, show_json, table
from cli.stores import master_key
from shared.access.keys import NAME, digest_of, id_in, new_key
from shared.access.roles import ROLES
from shared.clock import written
from shared.database import engines
from shared.operations import key_table
from shared.operations.commands import AddKey, RevokeKey, RotateKey
from shared.settings import Settings

app = typer.Typer(
    no_args_is_help=True,
    help="Make, list, rotate and revoke keys of callers, here or at the API at CQRS_API_URL. Rotate the master key.",
)

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
    if not re.fullmatch(NAME, name):
        raise Refused("a key's name has letters, digits and ._@/- only, 64 at most")
    settings, roles = Settings(), [each for each in ROLES if each in role]
    until = written(datetime.now(UTC) + expires) if expires else None
    if settings.api_url:
        given = {"name": name, "roles": roles, "expires_at": until}
        text = Api(settings.api_url, settings.api_key).do("POST", "/keys/", given)["key"]
    else:
        key = new_key()
        do(settings, AddKey(key_id=key.id, name=name, roles=roles, digest=digest_of(key.text), expires_at=until))
        text = key.text
    _show_text(settings, text, as_json=as_json)


@app.command("list", epilog=example("cqrs keys list"))
def list_(as_json: AsJson = False) -> None:
    """List all keys that were ever made, expired and revoked ones too. Their secrets are not stored, so not shown."""
    known = _all(Settings())
    if as_json:
        show_json(known)
        return
    rows = [
        (each["id"], each["name"], " ".join(each["roles"]), each["state"], _until(each), each["created_by"])
        for each in known
    ]
    console().print(table("id", "name", "roles", "state", "expires", "made by", rows=rows))


@app.command(epilog=example("cqrs keys revoke billing"))
def revoke(key: Which, as_json: AsJson = False) -> None:
    """Revoke a key for good. Within a second every process refuses it and ends its streams."""
    settings = Settings()
    known = _find(settings, key)
    if settings.api_url:
        Api(settings.api_url, settings.api_key).do("DELETE", f"/keys/{known['id']}")
    else:
        do(settings, RevokeKey(key_id=known["id"], name=known["name"]))
    if as_json:
        show_json(_one(settings, known["id"]))
    else:
        say(f"cqrs: the key {known['name']} ({known['id']}) is revoked")


@app.command(epilog=example("cqrs keys rotate billing --grace 1d"))
def rotate(key: Which, grace: Grace = None, as_json: AsJson = False) -> None:
    """Give a key a new secret and write the new key to stdout. It is shown only this once.

    The key keeps its id, roles and expiry; its holder still sees the commands that were sent with the old secret.
    """
    settings = Settings()
    known = _find(settings, key)
    until = written(datetime.now(UTC) + (grace or timedelta(0)))
    if settings.api_url:
        given = {"old_until": until}
        text = Api(settings.api_url, settings.api_key).do("POST", f"/keys/{known['id']}/rotation", given)["key"]
    else:
        text = new_key(known["id"]).text
        do(settings, RotateKey(key_id=known["id"], name=known["name"], digest=digest_of(text), old_until=until))
    _show_text(settings, text, as_json=as_json)


@app.command("rotate-master", epilog=example("cqrs keys rotate-master"))
def rotate_master(as_json: AsJson = False) -> None:
    """Wrap all keys of people by a new master key, while the service runs. Run it again if it was interrupted.

    If CQRS_MASTER_KEY is set: set it to the new key, a comma and the old one, and restart all roles before.
    """
    settings = here()
    count = master_key.rotate(settings)
    if as_json:
        show_json({"keys": count})
        return
    say(f"cqrs: {count:,} keys of people are wrapped by the new master key")
    if settings.master_key:
        say("cqrs: take the old one out of CQRS_MASTER_KEY, and restart all roles")
    say("cqrs: files of keys that were backed up before still need the old one")


def _all(settings: Settings) -> list[dict[str, Any]]:
    """All keys that were ever made, of this machine or of an API elsewhere."""
    if settings.api_url:
        found: list[dict[str, Any]] = Api(settings.api_url, settings.api_key).get("/keys/", kind=list)
        return found
    with engines.reading(settings.event_store) as connection:
        return [each.shown() for each in key_table.all_keys(connection)]


def _one(settings: Settings, id: str | None) -> dict[str, Any]:
    """The key with this id; nothing but the id if an API has not made it yet."""
    return next((each for each in _all(settings) if each["id"] == id), {"id": id})


def _find(settings: Settings, key: str) -> dict[str, Any]:
    """The key with this id, or the only one of this name that is not revoked. Raises Refused."""
    known = [each for each in _all(settings) if each["state"] != "revoked"]
    found = [each for each in known if each["id"] == key] or [each for each in known if each["name"] == key]
    if len(found) > 1:
        ids = ", ".join(each["id"] for each in found)
        raise Refused(f"{len(found)} keys are called {key}: use the id, one of {ids}")
    if not found:
        raise Refused(f"there is no key with the id or name {key}, or it is revoked")
    return found[0]


def _until(known: dict[str, Any]) -> str:
    return f"{known['expires_at'][:19]}Z" if known["expires_at"] else "never"


def _show_text(settings: Settings, text: str, *, as_json: bool) -> None:
    if as_json:
        show_json(_one(settings, id_in(text)) | {"key": text})
        return
    say(text)
    typer.secho("cqrs: this key is shown only this once; send it as `Authorization: Bearer cqrs_…`", err=True)
