"""`cqrs projections`: shows how far projections are, and rebuilds, orders and resumes one."""

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from cli.access.deeds import do
from cli.access.remote import here
from cli.errors import Refused
from cli.output import AsJson, console, example, say, show_json, state, table
from cli.projections.rebuild import rebuild as rebuild_
from cli.status import projection_lags
from shared.database import engines
from shared.domain.projections import PROJECTIONS
from shared.operations.commands import PauseProjection, ResumeProjection
from shared.operations.orders import obey, recorded
from shared.projection import Projection

app = typer.Typer(no_args_is_help=True, help="Show how far projections are; rebuild, pause and resume one.")

Name = Annotated[str, typer.Argument(help="The projection", autocompletion=lambda: list(PROJECTIONS))]


@app.command(epilog=example("cqrs projections status"))
def status(as_json: AsJson = False) -> None:
    """Show each projection's position, lag, and what stops it. Exit code 1 if one stands still."""
    lags = projection_lags(here()).by_name
    progress = {name: lag.shown() for name, lag in lags.items()}
    if as_json:
        show_json(progress)
    else:
        rows = [(name, str(each["position"]), str(each["lag"]), state(each)) for name, each in progress.items()]
        console().print(table("projection", "position", "lag", "state", rows=rows))
    raise typer.Exit(1 if any(lag.progress.stands_still for lag in lags.values()) else 0)


@app.command(epilog=example("cqrs projections rebuild users --check"))
def rebuild(
    name: Name,
    check: Annotated[bool, typer.Option("--check", help="Only compare; exit code 1 if the tables differ")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where an interrupted rebuild ended")] = False,
    pause: Annotated[bool, typer.Option("--pause", help="Leave the projection paused after the switch")] = False,
    as_json: AsJson = False,
) -> None:
    """Rebuild a projection's tables beside the live ones, compare the two, and switch in one transaction.

    Commands and queries go on meanwhile.
    """
    done = rebuild_(here(), _projection(name), check=check, resume=resume, pause=pause)
    if as_json:
        show_json(done)
    else:
        for line in _in_words(done):
            say(line)
    raise typer.Exit(1 if check and done["differ"] else 0)


@app.command(epilog=example("cqrs projections pause users"))
def pause(name: Name, as_json: AsJson = False) -> None:
    """Have a projection apply no more events until it is resumed. Queries go on, with what it has."""
    _pause(name, paused=True, as_json=as_json)


@app.command(epilog=example("cqrs projections resume users"))
def resume(name: Name, as_json: AsJson = False) -> None:
    """Have a paused projection go on within seconds."""
    _pause(name, paused=False, as_json=as_json)


def _pause(name: str, *, paused: bool, as_json: bool) -> None:
    settings = here()
    url = settings.read_model_of(_projection(name).name)
    do(settings, PauseProjection(projection=name) if paused else ResumeProjection(projection=name))
    with engines.reading(settings.event_store) as log, engines.writing(url, lock=name) as connection:
        obey(connection, name, recorded(log, after=0))  # as its worker does: none may run
    now = projection_lags(settings).by_name[name].shown()
    if as_json:
        show_json(now)
    else:
        say(f"cqrs: {name} is {state(now)}, at event {now['position']}")


def _projection(name: str) -> Projection:
    if name not in PROJECTIONS:
        raise Refused(f"there is no projection {name}: it is one of {', '.join(PROJECTIONS)}")
    return PROJECTIONS[name]


def _in_words(done: dict[str, Any]) -> Iterator[str]:
    name, switched = done["projection"], done["switched"]
    for table_name, each in done["tables"].items():
        yield from each["named"]
        rows = "the rows can't be compared" if each["rows"] is None else f"{each['rows']:,} rows differ"
        yield " ".join(["cqrs:", f"{table_name} at event {done['position']:,}:", rows, *each["columns"]])
    if switched:
        state_ = "paused" if switched["paused"] else "running"
        yield (
            f"cqrs: {name} is switched, at event {switched['position']:,}, and {state_}; "
            f"rebuilt in {done['seconds']:.1f} s, {switched['locked']:.3f} s of it locked"
        )
        if switched["paused"]:
            yield f"cqrs: once only workers of this version run: cqrs projections resume {name}"
        elif any(each["columns"] for each in done["tables"].values()):
            yield "cqrs: workers of the version before leave new columns empty: rebuild again when they are gone"
