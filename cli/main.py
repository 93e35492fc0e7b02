"""The `cqrs` command."""

from pathlib import Path
from typing import Annotated, Any

import typer

from cli import commands
from cli import status as status_
from cli.access import audit as audit_
from cli.access import keys
from cli.access.remote import here
from cli.domain import users
from cli.errors import Group
from cli.events import group as events
from cli.output import AsJson, complain, console, example, print_anything, say, show_json, table
from cli.projections import group as projections
from cli.stores import backup as backup_
from cli.stores import init as init_
from cli.stores import protect as protect_
from cli.stores import restore as restore_
from cli.stores import verification
from cli.up import roles as up_
from shared.errors.tracebacks import traceback_of
from shared.operations.configuration import configuration
from shared.settings import Settings


class App(typer.Typer):
    """The command, whose output holds no character that it can't encode, and whose tracebacks hold no values."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        print_anything()
        try:
            return super().__call__(*args, **kwargs)
        except Exception as error:  # Python would write its message, whatever is in it
            typer.echo(traceback_of(error), err=True)
            raise SystemExit(1) from None


app = App(cls=Group, no_args_is_help=True, help="A directory of users on CQRS and event sourcing.")
app.add_typer(commands.app, name="commands")
app.add_typer(events.app, name="events")
app.add_typer(keys.app, name="keys")
app.add_typer(projections.app, name="projections")
app.add_typer(users.app, name="users")

Workers = Annotated[int, typer.Option(min=1, max=64)]


@app.command(epilog=example("cqrs up --command-workers 2"))
def up(command_workers: Workers = 1, projection_workers: Workers = 1) -> None:
    """Run the whole service on this machine until Ctrl-C."""
    up_.up(Settings(), command_workers=command_workers, projection_workers=projection_workers)


@app.command(epilog=example("CQRS_DATA_DIR=/srv/cqrs cqrs init"))
def init(
    check: Annotated[
        bool, typer.Option("--check", help="Only check schemas and events; exit code 1 if something is wrong")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make the data dir and the stores, or bring them to what this version needs."""
    settings = Settings()
    wrong = init_.check(settings) if check else []
    if not check:
        init_.init(settings)
    contested = [] if wrong else init_.contested(settings)
    if as_json:
        show_json({"well": not wrong, "wrong": wrong, "contested": contested, "data": init_.places(settings)})
    else:
        for line in [*wrong, *contested]:
            complain(line)
        if not wrong:
            say(f"cqrs: the data is in {' and '.join(init_.places(settings))}")
    raise typer.Exit(1 if wrong else 0)


@app.command(epilog=example("cqrs status --watch"))
def status(
    watch: Annotated[bool, typer.Option("--watch", help="Show it again and again until Ctrl-C")] = False,
    api: Annotated[str, typer.Option(help="Where the API is, if not where the settings say", metavar="URL")] = "",
    as_json: AsJson = False,
) -> None:
    """Show roles alive, commands waiting, projections behind. Exit code 1 if a role is gone or a projection stopped.

    If CQRS_API_URL is set, that API is asked. CQRS_API_KEY with the role operator shows more.
    """
    view = status_.view_of(Settings(), api)
    if watch:
        status_.watch(view, as_json=as_json)
        return
    found = view.look()
    if as_json:
        show_json(found)
    else:
        console().print(view.show(found))
    raise typer.Exit(0 if found["well"] else 1)


@app.command(epilog=example("cqrs audit --limit 100"))
def audit(limit: Annotated[int, typer.Option(min=1, max=1000)] = 20, as_json: AsJson = False) -> None:
    """List what operators did or began, and erasures, the newest last: when, who did it, what, and to what.

    If CQRS_API_URL is set, that API is asked, which takes a key with the role auditor in CQRS_API_KEY.
    """
    found = audit_.latest(Settings(), limit)
    if as_json:
        show_json(found)
    else:
        for each in found:
            say(audit_.in_words(each))


@app.command(epilog=example("cqrs config --json"))
def config(as_json: AsJson = False) -> None:
    """Show every setting, its value, and where it comes from: environment, .env, a secret file, or the default."""
    shown = configuration(Settings())
    if as_json:
        show_json({name: {"value": each.value, "from": each.source} for name, each in shown.items()})
        return
    rows = [(name, "" if each.value is None else str(each.value), each.source) for name, each in shown.items()]
    console().print(table("setting", "value", "from", rows=rows))


@app.command(epilog=example("cqrs verify"))
def verify(as_json: AsJson = False) -> None:
    """Check the stores against each other, and read models against a replay of the log. Exit code 1 if one is wrong."""
    if not as_json:
        verification.verify(here())
        return
    verdict = verification.verdict(here())
    show_json(verdict)
    raise typer.Exit(0 if verdict["well"] else 1)


@app.command(epilog=example("cqrs protect"))
def protect(as_json: AsJson = False) -> None:
    """Encrypt the personal data that versions before stored in the clear. The service must be stopped.

    Run it again if it was interrupted. Heads of the log that were kept before (`cqrs events head`) count no longer.
    """
    done = protect_.protect(here())
    if as_json:
        show_json(done)
        return
    say(f"cqrs: {done['events']:,} events and {done['commands']:,} commands are encrypted that were in the clear")
    if done["events"]:
        head = done["head"]
        say(f"cqrs: heads of the log that were kept count no longer; it ends with {head['position']} {head['hash']}")


@app.command(epilog=example("cqrs backup /backups/monday"))
def backup(folder: Annotated[Path, typer.Argument(help="A new folder")], as_json: AsJson = False) -> None:
    """Copy inbox and event store at one point into a new folder, while the service runs. On PostgreSQL use pg_dump.

    The keys of people are written to a file of their own beside it, FOLDER.keys: keep it elsewhere.
    """
    taken = backup_.backup(here(), folder)
    if as_json:
        show_json(taken)
        return
    say(f"cqrs: {taken['last_event']} events and {taken['last_command']} commands are in {folder}")
    say(f"cqrs: the keys of people are in {backup_.keys_of(folder)}: keep them apart; the master key is in neither")


@app.command(epilog=example("cqrs restore /backups/monday"))
def restore(
    folder: Annotated[Path, typer.Argument(help="A backup")],
    keys: Annotated[
        Path | None, typer.Option(help="The keys of people, where they are lost; they replace those that are here")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Put a backup in the place of the stores, once it is verified. The service must be stopped.

    The keys of people that are here stay, so whoever was erased since the backup stays erased.
    """
    taken = restore_.restore(here(), folder, keys)
    if as_json:
        show_json(taken)
        return
    say(f"cqrs: the stores are as they were at {taken['taken_at']}: {taken['last_event']} events")
    say("cqrs: read models are filled from the log once the service runs")
    if taken["erased_again"]:
        say(f"cqrs: {taken['erased_again']} people were erased since: that is done again once the service runs")
