"""`cqrs commands`: shows what became of commands, and retries one that failed."""

import json
from collections.abc import Sequence
from typing import Annotated, Any
from urllib.parse import quote, urlencode

import typer

from cli.access.deeds import do
from cli.access.remote import Api
from cli.errors import Refused
from cli.output import AsJson, example, say, show_json
from cli.stores import log
from shared.database import engines
from shared.operations.commands import RetryCommand
from shared.settings import Settings
from shared.stores import inbox, outcomes, set_aside
from shared.stores.inbox import Accepted

app = typer.Typer(no_args_is_help=True, help="Show what became of commands; retry one that failed.")

CommandId = Annotated[str, typer.Argument(help="The id in the answer to the request", metavar="ID")]


@app.command("list", epilog=example("cqrs commands list --failed"))
def list_(
    failed: Annotated[bool, typer.Option("--failed", help="Only commands that failed")] = False,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 20,
    as_json: AsJson = False,
) -> None:
    """List the latest commands, the last one first. If CQRS_API_URL is set, that API is asked."""
    settings = Settings()
    shown = _elsewhere(settings, failed, limit) if settings.api_url else _here(settings, failed, limit)
    if as_json:
        show_json(shown)
        return
    for each in shown:
        at = f"{each['accepted_at'][:19]}Z"
        what = each.get("stream") or list(each["links"].values())[-1]
        say(f"{each['command_id']}  {at}  {each['status']:<9}  {each['type']} {what}  {_why(each)}".rstrip())


def _elsewhere(settings: Settings, failed: bool, limit: int) -> list[dict[str, Any]]:
    """The latest commands as an API shows them."""
    query = urlencode({"limit": limit, "failed": str(failed).lower()})
    found: list[dict[str, Any]] = Api(settings.api_url, settings.api_key).get(f"/commands/?{query}", kind=list)
    return found


def _here(settings: Settings, failed: bool, limit: int) -> list[dict[str, Any]]:
    """The latest commands as the stores of this machine have them."""
    with engines.reading(settings.event_store) as connection:
        seqs = outcomes.failed(connection, limit=limit) if failed else None
    with log.reading(settings, settings.inbox) as connection:
        last = inbox.last_seq(connection)
        commands = inbox.read(connection, range(last - limit + 1, last + 1) if seqs is None else seqs)
    return _shown(settings, commands[::-1])


@app.command(epilog=example("cqrs commands show 019aaf3e-5c10-7cc3-98c4-dc0c0c07398f"))
def show(command_id: CommandId, as_json: AsJson = False) -> None:
    """Show one command, with its data and outcome, as JSON.

    If CQRS_API_URL is set, that API is asked, which shows no data. Data older than CQRS_KEEP_COMMANDS days is taken
    away: `emptied` is true then.
    """
    settings = Settings()
    if settings.api_url:
        show_json(Api(settings.api_url, settings.api_key).get(f"/commands/{quote(command_id, safe='')}"))
        return
    [shown] = _shown(settings, [_find(settings, command_id)])
    show_json(shown)


@app.command(epilog=example("cqrs commands retry 019aaf3e-5c10-7cc3-98c4-dc0c0c07398f"))
def retry(command_id: CommandId) -> None:
    """Have a command that failed handled again, as if it had been accepted now. If CQRS_API_URL is set, by that API."""
    settings = Settings()
    if settings.api_url:
        Api(settings.api_url, settings.api_key).do("POST", f"/commands/{quote(command_id, safe='')}/retry")
    else:
        do(settings, RetryCommand(command_id=command_id))
    say(f"cqrs: {command_id} is handled again within seconds")


def _find(settings: Settings, command_id: str) -> Accepted:
    with log.reading(settings, settings.inbox) as connection:
        command = inbox.find(connection, command_id)
    if not command:
        raise Refused(f"no command {command_id} was accepted")
    return command


def _shown(settings: Settings, commands: Sequence[Accepted]) -> list[dict[str, Any]]:
    seqs = [command.seq for command in commands]
    with engines.reading(settings.event_store) as connection:
        ended = outcomes.find(connection, seqs)
        aside = {each.seq: each for each in set_aside.find(connection, seqs)}
    return [
        {
            **command._asdict(),
            "data": None if command.is_emptied else json.loads(command.data),
            "emptied": command.is_emptied,
            "metadata": json.loads(command.metadata),
            "expected_version": None if command.precondition else command.expected_version,
            "precondition": command.precondition and json.loads(command.precondition),
            "status": outcome.status if (outcome := ended.get(command.seq)) else "accepted",
            "handled_at": outcome and outcome.handled_at,
            "version": outcome and outcome.version,
            "position": outcome and outcome.position,
            "problem": outcome and outcome.problem,
            "tries": waiting.tries if (waiting := aside.get(command.seq)) else None,
            "error": waiting and waiting.error,
        }
        for command in commands
    ]


def _why(shown: dict[str, Any]) -> str:
    """Why the command has no success, in one line."""
    why = ""
    if shown["problem"]:
        why = shown["problem"]["detail"]
    elif shown.get("tries"):
        why = f"tried {shown['tries']} times: {shown['error']}"
    elif shown.get("tries") == 0:
        why = "waits to be handled again"
    return " ".join(why.split())
